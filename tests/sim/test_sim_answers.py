"""What the simulator answers, with and without a function of the caller's."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import jsonschema
import openai
import pytest
from pydantic import BaseModel
from sim_asking import SCHEMA, TOOL, chat, generate, message, openai_tool, parsed, respond

from pllm_notebook.sim import SimAnswer

WRAPPED = {
    "type": "object",
    "properties": {"value": {"type": "array", "items": {"type": "integer"}}},
    "required": ["value"],
    "additionalProperties": False,
}


def text_of(reply):
    return reply.choices[0].message.content


def test_text_is_marked_as_simulated(gpt, claude, gemini):
    texts = [
        text_of(chat(gpt)),
        respond(gpt).output_text,
        message(claude).content[0].text,
        generate(gemini).text,
    ]

    assert all(text.startswith("SIMULATED answer ") for text in texts)


def test_a_schema_is_followed_in_its_own_order(gpt, claude, gemini):
    texts = [
        text_of(chat(gpt, schema=SCHEMA)),
        respond(gpt, schema=SCHEMA).output_text,
        message(claude, schema=SCHEMA).content[0].text,
        generate(gemini, schema=SCHEMA).text,
    ]

    for text in texts:
        jsonschema.validate(parsed(text), SCHEMA)
        assert list(parsed(text)) == ["product", "sentiment", "score"]
        assert parsed(text)["product"].startswith("SIMULATED ")


def test_a_schema_in_the_prompt_is_followed_too(gpt, compatible):
    prompt = f"Answer in JSON {{only}}, by this schema: {json.dumps(SCHEMA)}"

    plain = text_of(chat(compatible, prompt))
    mode = text_of(chat(gpt, prompt, response_format={"type": "json_object"}))
    free = text_of(chat(gpt, "any json", response_format={"type": "json_object"}))

    jsonschema.validate(parsed(plain), SCHEMA)
    jsonschema.validate(parsed(mode), SCHEMA)
    assert parsed(free)["answer"].startswith("SIMULATED ")


def test_forced_tools_are_called_with_valid_arguments(gpt, claude, gemini):
    named = {"type": "function", "function": {"name": "weather"}}
    flat = {"type": "function", "name": "weather", "parameters": TOOL, "strict": True}
    declared = {"function_declarations": [{"name": "weather", "parameters_json_schema": TOOL}]}

    chosen = chat(gpt, tools=[openai_tool()], tool_choice=named).choices[0]
    item = respond(gpt, tools=[flat], tool_choice="required").output[0]
    block = message(
        claude,
        tools=[{"name": "weather", "input_schema": TOOL}],
        tool_choice={"type": "tool", "name": "weather"},
    ).content[-1]
    call = generate(gemini, tools=[declared], tool_config={"function_calling_config": {"mode": "ANY"}}).function_calls[
        0
    ]

    assert chosen.finish_reason == "tool_calls"
    arguments = [
        parsed(chosen.message.tool_calls[0].function.arguments),
        parsed(item.arguments),
        block.input,
        call.args,
    ]
    for value in arguments:
        jsonschema.validate(value, TOOL)
    assert chat(gpt, tools=[openai_tool()]).choices[0].finish_reason == "stop"


def test_an_answers_function_sees_the_request(sim, gpt, claude):
    seen = []
    sim.set(answers=lambda request: seen.append(request) or "ok")

    chat(gpt, "first", schema=SCHEMA)
    message(claude, "second", system="Be brief.", tools=[{"name": "weather", "input_schema": TOOL}])

    first, second = seen
    assert (first.provider, first.model, first.prompt, first.index) == ("openai", "gpt-6-luna", "first", 0)
    assert first.schema == SCHEMA
    assert first.messages == (("user", "first"),)
    assert (second.provider, second.system, second.tools, second.index) == ("anthropic", "Be brief.", ("weather",), 1)
    assert second.body["max_tokens"] == 1000


class Review(BaseModel):
    product: str
    bought: date


@pytest.mark.parametrize(
    ("answer", "schema", "text"),
    [
        ("{not json", SCHEMA, "{not json"),
        ({"a": 1}, SCHEMA, '{"a":1}'),
        (Review(product="x", bought=date(2026, 1, 2)), SCHEMA, '{"product":"x","bought":"2026-01-02"}'),
        ([1, 2], WRAPPED, '{"value":[1,2]}'),
        ({"value": [1]}, WRAPPED, '{"value":[1]}'),
        ({"other": 1}, WRAPPED, '{"value":{"other":1}}'),
        (SimAnswer.value("word"), WRAPPED, '{"value":"word"}'),
        (3, None, "3"),
        (None, WRAPPED, '{"value":null}'),
        ([Review(product="x", bought=date(2026, 1, 2))], None, '[{"product":"x","bought":"2026-01-02"}]'),
    ],
)
def test_what_an_answers_function_gives_becomes_text(sim, gpt, answer, schema, text):
    sim.set(answers=lambda request: answer)

    assert text_of(chat(gpt, schema=schema)) == text


def test_refusal_filter_and_truncation_in_each_providers_way(sim, gpt, claude, gemini):
    sim.set(answers=lambda request: SimAnswer.refusal("No."))
    assert chat(gpt).choices[0].message.refusal == "No."
    assert respond(gpt).output[0].content[0].refusal == "No."
    refused = message(claude)
    assert (refused.stop_reason, refused.stop_details.explanation) == ("refusal", "No.")
    assert generate(gemini).candidates[0].finish_reason == "SAFETY"

    sim.set(answers=lambda request: SimAnswer.filtered())
    assert chat(gpt).choices[0].finish_reason == "content_filter"
    assert respond(gpt).incomplete_details.reason == "content_filter"
    assert message(claude).stop_reason == "refusal"
    blocked = generate(gemini)
    assert blocked.candidates is None
    assert blocked.prompt_feedback.block_reason == "PROHIBITED_CONTENT"

    sim.set(answers=lambda request: SimAnswer.truncated("half"))
    assert chat(gpt).choices[0].finish_reason == "length"
    assert respond(gpt).incomplete_details.reason == "max_output_tokens"
    assert message(claude).stop_reason == "max_tokens"
    assert generate(gemini).candidates[0].finish_reason == "MAX_TOKENS"


def test_an_answer_beyond_the_output_limit_is_cut(sim, gpt, claude, gemini):
    sim.set(answers=lambda request: "x" * 400)

    cut = chat(gpt, max_completion_tokens=20)
    incomplete = respond(gpt, max_output_tokens=20)

    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("x" * 80, "length")
    assert cut.usage.completion_tokens == 20
    assert (incomplete.status, incomplete.output_text) == ("incomplete", "x" * 80)
    assert message(claude, max_tokens=20).stop_reason == "max_tokens"
    assert generate(gemini, max_output_tokens=20).candidates[0].finish_reason == "MAX_TOKENS"
    assert chat(gpt, max_completion_tokens=100).choices[0].finish_reason == "stop"


def test_reasoning_eats_the_output_limit(sim, gpt):
    sim.set(answers=lambda request: "x" * 400, reasoning_tokens=50)

    reply = chat(gpt, max_completion_tokens=50)

    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("", "length")
    assert reply.usage.completion_tokens_details.reasoning_tokens == 50


def test_usage_counts_alike_for_every_provider(sim, gpt, claude, gemini):
    sim.set(answers=lambda request: "x" * 41, cached_prefix_tokens=4, reasoning_tokens=7)
    prompt = "p" * 41

    a, b = chat(gpt, prompt).usage, respond(gpt, prompt).usage
    c, d = message(claude, prompt).usage, generate(gemini, prompt).usage_metadata

    assert (a.prompt_tokens, a.completion_tokens, a.prompt_tokens_details.cached_tokens) == (11, 18, 4)
    assert (b.input_tokens, b.output_tokens, b.output_tokens_details.reasoning_tokens) == (11, 18, 7)
    assert (c.input_tokens, c.cache_read_input_tokens, c.output_tokens) == (7, 4, 18)
    assert (d.prompt_token_count, d.candidates_token_count, d.thoughts_token_count) == (11, 11, 7)
    assert (sim.stats().input_tokens, sim.stats().output_tokens) == (44, 72)


def test_usage_can_be_scripted(sim, gpt):
    sim.set(answers=lambda request: SimAnswer.text("a", usage={"input_tokens": 1000, "output_tokens": 5}))

    usage = chat(gpt).usage

    assert (usage.prompt_tokens, usage.completion_tokens) == (1000, 5)


def test_an_error_in_the_function_is_told_with_its_place_and_remembered(sim, gpt, caplog):
    sim.set(answers=lambda request: 1 / 0)
    with pytest.raises(openai.APIStatusError, match=r"ZeroDivisionError: division by zero \(File .*1 / 0") as caught:
        chat(gpt)

    assert caught.value.status_code == 412
    (record,) = caplog.records
    assert record.exc_info[0] is ZeroDivisionError

    assert sim.stats().answer_errors == ("ZeroDivisionError: division by zero",)
    assert sim.stats().answered == 0


def test_a_slow_function_does_not_hold_up_others(sim, gpt):
    gate = threading.Event()
    sim.set(answers=lambda request: gate.wait(60) if request.prompt == "slow" else gate.set())

    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(chat, gpt, "slow")
        while sim.stats().in_flight == 0:
            pass
        chat(gpt, "fast")

        assert text_of(slow.result()) == "true"


def test_a_server_that_ignores_the_schema_answers_in_prose(sim, compatible):
    sim.set(rungs="ignored")

    text = text_of(chat(compatible, schema=SCHEMA, model="llama"))

    assert text.startswith("SIMULATED answer")
    jsonschema.validate(parsed(text.split("```json")[1].split("```")[0]), SCHEMA)


@pytest.mark.parametrize(
    ("rungs", "schema", "mode"),
    [("none", False, False), ("json_object", False, True), (("json_schema", "json_object"), True, True)],
)
def test_a_compatible_server_honours_its_rungs_only(sim, compatible, rungs, schema, mode):
    sim.set(rungs=rungs)

    for honoured, more in ((schema, {"schema": SCHEMA}), (mode, {"response_format": {"type": "json_object"}})):
        if honoured:
            parsed(text_of(chat(compatible, model="llama", **more)))
        else:
            with pytest.raises(openai.BadRequestError) as refused:
                chat(compatible, model="llama", **more)
            assert refused.value.param == "response_format"
            assert "response_format" in refused.value.message
    assert text_of(chat(compatible, model="llama", temperature=0, max_tokens=50, extra_body={"guided": 1}))
