"""Conversations with tools and files: what the simulator takes, what it tells, and what it refuses as providers do."""

from __future__ import annotations

import httpx2
import pytest
from sim_asking import TOOL

from pllm_notebook.sim import SimAnswer

HEADERS = {"authorization": "Bearer k", "x-api-key": "k", "anthropic-version": "2026-10-21", "x-goog-api-key": "k"}
PATHS = {
    "chat": "/openai/v1/chat/completions",
    "compatible": "/compatible/v1/chat/completions",
    "responses": "/openai/v1/responses",
    "anthropic": "/anthropic/v1/messages",
    "google": "/google/v1/models/gemini-3.8-flash:generateContent",
}
MODELS = {"chat": "gpt-6-luna", "compatible": "small", "responses": "gpt-6-luna", "anthropic": "claude-haiku-5-5"}
FUNCTION = {"name": "weather", "parameters": TOOL}
TOOLS = {
    "chat": [{"type": "function", "function": FUNCTION}],
    "compatible": [{"type": "function", "function": FUNCTION}],
    "responses": [{"type": "function", **FUNCTION}],
    "anthropic": [{"name": "weather", "input_schema": TOOL}],
    "google": [{"functionDeclarations": [{"name": "weather", "parametersJsonSchema": TOOL}]}],
}


def asked(sim, wire, turns, **more):
    name = {"responses": "input", "google": "contents"}.get(wire, "messages")
    body = {name: turns, "tools": TOOLS[wire], **more}
    if wire != "google":
        body["model"] = more.get("model", MODELS[wire])
    if wire == "anthropic":
        body["max_tokens"] = 1000
    if wire == "responses":
        body["include"] = ["reasoning.encrypted_content"]
    return httpx2.post(sim.url + PATHS[wire], json=body, headers=HEADERS)


def refusal(sim, wire, *turns, **more):
    """The words in which these turns are refused."""
    reply = asked(sim, wire, list(turns), **more)
    assert reply.status_code == 400, reply.text
    return reply.json()["error"]["message"]


def user(text):
    return {"role": "user", "content": text}


def chat_call(*ids):
    calls = [{"id": one, "type": "function", "function": {"name": "weather", "arguments": "{}"}} for one in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def uses(*ids):
    return {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": i, "name": "weather", "input": {}} for i in ids],
    }


def result(call, text="12"):
    return {"type": "tool_result", "tool_use_id": call, "content": text}


def google_call(**more):
    return {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {}}, **more}]}


RESPONSE = {"functionResponse": {"name": "weather", "response": {"output": "12"}}}
HEARD = {
    "chat": [user("hi"), chat_call("a"), {"role": "tool", "tool_call_id": "a", "content": "12"}],
    "compatible": [user("hi"), chat_call("a"), {"role": "tool", "tool_call_id": "a", "content": "12"}],
    "responses": [
        user("hi"),
        {"type": "function_call", "call_id": "a", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "12"},
    ],
    "anthropic": [user("hi"), uses("a"), {"role": "user", "content": [result("a")]}],
    "google": [
        {"role": "user", "parts": [{"text": "hi"}]},
        google_call(thoughtSignature="skip_thought_signature_validator"),
        {"role": "user", "parts": [RESPONSE]},
    ],
}


@pytest.mark.parametrize("wire", PATHS)
def test_an_answers_function_is_told_what_tools_gave(sim, wire):
    heard = []
    sim.set(answers=lambda request: heard.append(request) or "done")

    reply = asked(sim, wire, HEARD[wire])

    assert reply.status_code == 200, reply.text
    (request,) = heard
    text = '{"output":"12"}' if wire == "google" else "12"
    assert (request.prompt, request.results, request.tools) == ("hi", (("weather", text),), ("weather",))
    assert [role for role, _ in request.messages] == ["user", "assistant", "tool"][:: 2 if wire == "responses" else 1]


def test_a_call_that_was_made_before_is_part_of_the_question(sim):
    other = [HEARD["chat"][0], chat_call("a"), HEARD["chat"][2]]
    other[1]["tool_calls"][0]["function"]["arguments"] = '{"city":"Ulm"}'

    texts = [asked(sim, "chat", turns).json()["choices"][0]["message"]["content"] for turns in (HEARD["chat"], other)]

    assert texts[0] != texts[1]


def test_openai_wants_every_call_answered_and_nothing_else(sim):
    missing = (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'"
    )

    assert refusal(sim, "chat", user("hi"), chat_call("a", "b"), HEARD["chat"][2]).startswith(missing)
    assert refusal(sim, "chat", user("hi"), chat_call("a"), user("so?"), HEARD["chat"][2]).startswith(missing)
    assert "must be a response to a preceeding message" in refusal(sim, "chat", user("hi"), HEARD["chat"][2])
    assert refusal(sim, "responses", *HEARD["responses"][:2]) == "No tool output found for function call a."
    orphan = refusal(sim, "responses", HEARD["responses"][0], HEARD["responses"][2])
    assert orphan == "No tool call found for function call output with call_id a."


def test_anthropic_wants_all_results_first_in_the_next_message(sim):
    late = {"role": "user", "content": [{"type": "text", "text": "here"}, result("a")]}

    for turns in ([uses("a", "b"), {"role": "user", "content": [result("a")]}], [uses("a"), late], [uses("a")]):
        said = refusal(sim, "anthropic", user("hi"), *turns, model="claude-haiku-4-5")
        assert said.startswith("messages.1: `tool_use` ids were found without `tool_result` blocks immediately after")
    orphan = refusal(sim, "anthropic", user("hi"), {"role": "user", "content": [result("a")]})
    assert orphan.startswith("messages.1.content.0: unexpected `tool_use_id` found in `tool_result` blocks: a.")


def test_google_wants_as_many_responses_as_calls(sim):
    hi, call = HEARD["google"][:2]

    for turns in ([call, {"role": "user", "parts": [RESPONSE, RESPONSE]}], [{"role": "user", "parts": [RESPONSE]}]):
        assert "number of function response parts is equal" in refusal(sim, "google", hi, *turns)
    assert "function call turn" in refusal(sim, "google", hi, call)


def test_google_wants_calls_of_the_current_turn_signed_from_gemini_3_on(sim):
    hi, _, response = HEARD["google"]
    later = {"role": "user", "parts": [{"text": "and now?"}]}
    said = {"role": "model", "parts": [{"text": "12"}]}

    assert "is missing a thought_signature" in refusal(sim, "google", hi, google_call(), response)
    # Of a turn that is over nobody asks it.
    assert asked(sim, "google", [hi, google_call(), response, said, later]).status_code == 200


def test_calls_of_the_simulators_own_come_back_with_the_thoughts_before_them(sim):
    sim.set(answers=lambda request: SimAnswer.tool_calls([("weather", {"city": "Bern"})]))
    blocks = asked(sim, "anthropic", [user("hi")]).json()["content"]
    items = asked(sim, "responses", [user("hi")]).json()["output"]
    sim.set(answers=None)

    results = {"role": "user", "content": [result(blocks[-1]["id"])]}
    output = {"type": "function_call_output", "call_id": items[-1]["call_id"], "output": "12"}

    assert [block["type"] for block in blocks] == ["thinking", "tool_use"]
    assert [item["type"] for item in items] == ["reasoning", "function_call"]
    whole = {"role": "assistant", "content": blocks}
    assert asked(sim, "anthropic", [user("hi"), whole, results]).status_code == 200
    assert asked(sim, "responses", [user("hi"), *items, output]).status_code == 200
    without = {"role": "assistant", "content": blocks[1:]}
    assert "Expected `thinking`" in refusal(sim, "anthropic", user("hi"), without, results)
    assert "without its required 'reasoning' item" in refusal(sim, "responses", user("hi"), items[1], output)


def test_a_claude_that_does_not_think_gives_no_thoughts(sim):
    sim.set(answers=lambda request: SimAnswer.tool_calls([("weather", {"city": "Bern"})]))

    older = asked(sim, "anthropic", [user("hi")], model="claude-haiku-4-5").json()["content"]
    told = asked(sim, "anthropic", [user("hi")], thinking={"type": "disabled"}).json()["content"]

    assert [block["type"] for block in (*older, *told)] == ["tool_use", "tool_use"]


def test_an_old_claude_goes_on_from_the_beginning_of_its_answer_unless_that_ends_in_white_space(sim):
    begun = {"role": "assistant", "content": "The answer is"}

    assert asked(sim, "anthropic", [user("hi"), begun], model="claude-haiku-4-5").status_code == 200
    ends = refusal(sim, "anthropic", user("hi"), {**begun, "content": "The "}, model="claude-haiku-4-5")
    assert ends == "messages: final assistant content cannot end with trailing whitespace"
    assert "does not support assistant message prefill" in refusal(sim, "anthropic", user("hi"), begun)


def block(kind, **source):
    return {"role": "user", "content": [{"type": kind, "source": source}]}


def inline(mime, data):
    return {"role": "user", "parts": [{"inlineData": {"mimeType": mime, "data": data}}]}


def image(url):
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


@pytest.mark.parametrize(
    ("wire", "turn", "words"),
    [
        ("chat", image("data:image/tiff;base64,aW1n"), "You uploaded an unsupported image."),
        ("chat", image("data:image/png;base64,?"), "Invalid base64 image_url."),
        ("chat", image("a.png"), "Expected a valid URL"),
        ("chat", {"role": "user", "content": [{"type": "input_text", "text": "hi"}]}, "Invalid value: 'input_text'."),
        ("responses", {"role": "user", "content": [{"type": "image_url"}]}, "Invalid value: 'image_url'."),
        (
            "responses",
            {"role": "user", "content": [{"type": "input_file", "filename": "a", "file_data": "cGRm"}]},
            "Expected a base64-encoded data URL",
        ),
        (
            "anthropic",
            block("image", type="base64", media_type="image/tiff", data="aW1n"),
            "Input should be 'image/png'",
        ),
        ("anthropic", block("document", type="base64", media_type="application/pdf", data="?"), "Invalid base64 data"),
        ("anthropic", block("image", type="url", url="a.png"), "Only HTTPS URLs are supported."),
        ("google", inline("application/zip", "aW1n"), "Unsupported MIME type: application/zip"),
        ("google", inline("image/png", "?"), "Base64 decoding failed"),
    ],
)
def test_a_file_that_no_one_can_read_is_refused(sim, wire, turn, words):
    assert words in refusal(sim, wire, turn)
