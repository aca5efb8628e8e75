"""Requests that the real providers refuse are refused here, in their words."""

from __future__ import annotations

import anthropic
import httpx2
import openai
import pytest
from google import genai
from google.genai import errors, types
from sim_asking import SCHEMA, TOOL, chat, generate, message, openai_tool, respond

OPTIONAL = {**SCHEMA, "required": ["product"]}


def nested(**node):
    return {**SCHEMA, "properties": {"x": node}, "required": ["x"]}


RECURSIVE = {
    "type": "object",
    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
    "required": ["next"],
    "additionalProperties": False,
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
            "required": ["next"],
            "additionalProperties": False,
        }
    },
}


def test_a_bad_key_is_refused(sim):
    with pytest.raises(openai.AuthenticationError) as from_openai:
        chat(openai.OpenAI(api_key="bad-key", base_url=sim.base_url("openai"), max_retries=0))
    with pytest.raises(anthropic.AuthenticationError) as from_anthropic:
        message(anthropic.Anthropic(api_key="bad-key", base_url=sim.base_url("anthropic"), max_retries=0))
    with pytest.raises(errors.ClientError) as from_google:
        generate(genai.Client(api_key="bad-key", http_options=types.HttpOptions(base_url=sim.base_url("google"))))

    assert from_openai.value.code == "invalid_api_key"
    assert from_anthropic.value.type == "authentication_error"
    assert (from_google.value.code, from_google.value.status) == (400, "INVALID_ARGUMENT")
    assert from_google.value.details["error"]["details"][0]["reason"] == "API_KEY_INVALID"


def test_an_unknown_model_is_404(gpt, claude, gemini):
    with pytest.raises(openai.NotFoundError) as from_chat:
        chat(gpt, model="missing-model")
    with pytest.raises(openai.NotFoundError) as from_responses:
        respond(gpt, model="claude-haiku-5-5")
    with pytest.raises(anthropic.NotFoundError) as from_anthropic:
        message(claude, model="missing-model")
    with pytest.raises(errors.ClientError) as from_google:
        generate(gemini, model="missing-model")

    assert from_chat.value.code == from_responses.value.code == "model_not_found"
    assert from_anthropic.value.type == "not_found_error"
    assert (from_google.value.code, from_google.value.status) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("model", "parameters", "code", "param"),
    [
        ("gpt-6-luna", {"max_tokens": 5}, "unsupported_parameter", "max_tokens"),
        ("o3", {"max_tokens": 5}, "unsupported_parameter", "max_tokens"),
        ("gpt-6-luna", {"temperature": 0}, "unsupported_value", "temperature"),
        ("gpt-6-luna", {"temperature": 0, "reasoning_effort": "low"}, "unsupported_value", "temperature"),
        ("gpt-6-astra", {"reasoning_effort": "none"}, "unsupported_value", "reasoning_effort"),
        ("gpt-6-luna", {"reasoning_effort": "minimal"}, "unsupported_value", "reasoning_effort"),
        ("gpt-5.4", {"temperature": 0, "reasoning_effort": "low"}, "unsupported_value", "temperature"),
        ("gpt-6-luna", {"logprobs": True}, "unsupported_parameter", "logprobs"),
    ],
)
def test_reasoning_models_refuse_what_they_refuse(gpt, model, parameters, code, param):
    with pytest.raises(openai.BadRequestError) as refused:
        chat(gpt, model=model, **parameters)

    assert (refused.value.code, refused.value.param) == (code, param)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("gpt-6-luna", {"temperature": 0, "reasoning_effort": "none"}),
        ("gpt-6-luna", {"temperature": 1}),
        ("gpt-6-luna", {"max_completion_tokens": 50}),
        ("gpt-5.4", {"temperature": 0}),
        ("gpt-4.1", {"temperature": 0, "max_tokens": 50}),
    ],
)
def test_what_a_model_takes_is_taken(gpt, model, parameters):
    assert chat(gpt, model=model, **parameters).choices[0].message.content


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (OPTIONAL, "Missing 'sentiment'"),
        ({**SCHEMA, "additionalProperties": True}, "'additionalProperties' is required to be supplied and to be false"),
        ({"type": "array", "items": {"type": "string"}}, 'type: "object"\', got \'type: "array"\''),
        (nested(oneOf=[{"type": "string"}]), "In context=('properties', 'x'), 'oneOf' is not permitted"),
        (nested(type="string", default="a"), "'default' is not permitted"),
        (nested(type="array"), "array schema missing items"),
        (nested(), "must have a 'type' key"),
        (nested(type="string", pattern="^(?=a)"), "look ahead"),
    ],
)
def test_openai_refuses_a_schema_that_is_not_strict(gpt, schema, why):
    for ask, param in ((chat, "response_format"), (respond, "text.format.schema")):
        with pytest.raises(openai.BadRequestError) as refused:
            ask(gpt, schema=schema)

        assert (refused.value.code, refused.value.param) == ("invalid_json_schema", param)
        assert why in refused.value.message


def test_openai_takes_recursive_schemas_and_lenient_ones(gpt):
    loose = {"type": "json_schema", "json_schema": {"name": "loose", "schema": OPTIONAL}}

    assert chat(gpt, schema=RECURSIVE).choices[0].message.content
    assert chat(gpt, response_format=loose).choices[0].message.content


def test_openai_refuses_a_strict_tool_that_is_not_strict(gpt):
    tool = openai_tool()
    tool["function"] = {**tool["function"], "parameters": {**TOOL, "required": []}}

    with pytest.raises(openai.BadRequestError) as refused:
        chat(gpt, tools=[tool])

    assert refused.value.code == "invalid_function_parameters"
    assert refused.value.param == "tools[0].function.parameters"


def test_json_object_wants_the_word_json(gpt):
    with pytest.raises(openai.BadRequestError, match="must contain the word 'json'"):
        chat(gpt, "hi", response_format={"type": "json_object"})


def many(count, **node):
    properties = {f"p{index}": node or {"type": "string"} for index in range(count)}
    return {"type": "object", "properties": properties, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (RECURSIVE, "Recursive schemas are not supported"),
        (many(25), "Schema is too complex: 25 optional parameters"),
        (
            {**(unions := many(17, anyOf=[{"type": "string"}, {"type": "null"}])), "required": [*unions["properties"]]},
            "17 parameters with union types",
        ),
        ({**SCHEMA, "additionalProperties": True}, "'additionalProperties' must be explicitly set to false"),
        (nested(type="integer", minimum=1), "For 'integer' type, property 'minimum' is not supported"),
    ],
)
def test_anthropic_refuses_a_schema_beyond_its_grammar(claude, schema, why):
    with pytest.raises(anthropic.BadRequestError) as refused:
        message(claude, schema=schema)

    assert refused.value.type == "invalid_request_error"
    assert why in refused.value.message


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_newer_claudes_refuse_sampling(claude, name):
    for model in ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-4-7", "claude-fable-5-1"):
        with pytest.raises(anthropic.BadRequestError) as refused:
            message(claude, model=model, extra_body={name: 1})
        assert refused.value.body["error"]["message"] == f"`{name}` is deprecated for this model."
    for model in ("claude-haiku-4-5", "claude-opus-4-6"):
        assert message(claude, model=model, extra_body={name: 1}).content


def test_anthropic_wants_max_tokens_within_the_model(sim, claude):
    with pytest.raises(anthropic.BadRequestError, match="max_tokens: 128001 > 128000"):
        message(claude, max_tokens=128_001, timeout=5)

    reply = httpx2.post(
        sim.base_url("anthropic") + "/v1/messages",
        json={"model": "claude-haiku-5-5", "messages": [{"role": "user", "content": "hi"}]},
        headers={"x-api-key": "k", "anthropic-version": "2026-10-21"},
    )

    assert reply.status_code == 400
    assert reply.json()["error"] == {"type": "invalid_request_error", "message": "max_tokens: Field required"}


def test_newest_claudes_are_not_forced_to_use_tools(claude):
    tools = [{"name": "weather", "input_schema": TOOL}]

    with pytest.raises(anthropic.BadRequestError, match="tool_choice"):
        message(claude, model="claude-opus-5-5", tools=tools, tool_choice={"type": "any"})
    assert message(claude, tools=tools, tool_choice={"type": "any"}).stop_reason == "tool_use"


def test_a_body_that_is_not_json_is_400_everywhere(sim):
    headers = {"authorization": "Bearer k", "x-goog-api-key": "k", "anthropic-version": "2026-10-21"}
    paths = ("/openai/v1/responses", "/anthropic/v1/messages", "/google/v1/models/gemini-3.8-flash:generateContent")

    for path in paths:
        for body in (b'{"model": ', b"[]", b'{"model": "gpt-6-luna", "messages": 3, "contents": 3, "max_tokens": 3}'):
            assert httpx2.post(sim.url + path, content=body, headers=headers).status_code == 400
    assert sim.stats().rejected == 9


def test_the_list_of_models_and_a_wrong_path(sim, gpt):
    assert "gpt-6-luna" in [model.id for model in gpt.models.list()]
    assert httpx2.get(sim.url + "/nothing").status_code == 404
