"""Every form of answer, held against the SDKs' own response types."""

from __future__ import annotations

import httpx2
import pytest
from anthropic.types import Message
from google.genai.types import GenerateContentResponse
from openai.types import ErrorObject
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from sim_asking import SCHEMA, TOOL
from sim_strictly import check

from pllm_notebook.sim import SimAnswer

ANSWERS = {
    "made up": None,
    "text": lambda request: "plain",
    "value": lambda request: {"product": "x", "sentiment": "neutral", "score": 1},
    "tool calls": lambda request: SimAnswer.tool_calls([("weather", {"city": "Bern"}), ("weather", {"city": "Ulm"})]),
    "refusal": lambda request: SimAnswer.refusal("I will not."),
    "truncated": lambda request: SimAnswer.truncated('{"product": "x'),
    "truncated to nothing": lambda request: SimAnswer.truncated(""),
    "filtered": lambda request: SimAnswer.filtered(),
}
FORM = {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}
TURN = {"role": "user", "content": "hi"}
FUNCTION = {"name": "weather", "description": "Tell the weather."}
ENDPOINTS = {
    "chat": (
        "/openai/v1/chat/completions",
        ChatCompletion,
        {"model": "gpt-6-luna", "messages": [TURN], "n": 2},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}},
        {"tools": [{"type": "function", "function": {**FUNCTION, "parameters": TOOL}}], "tool_choice": "required"},
    ),
    "responses": (
        "/openai/v1/responses",
        Response,
        {"model": "gpt-6-luna", "input": [TURN], "instructions": "Be brief.", "reasoning": {"effort": "low"}},
        {"text": {"format": FORM}},
        {"tools": [{"type": "function", **FUNCTION, "parameters": TOOL}], "tool_choice": "required"},
    ),
    "anthropic": (
        "/anthropic/v1/messages",
        Message,
        {"model": "claude-haiku-5-5", "max_tokens": 100, "messages": [TURN]},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {"tools": [{**FUNCTION, "input_schema": TOOL}], "tool_choice": {"type": "any"}},
    ),
    "google": (
        "/google/v1/models/gemini-3.8-flash:generateContent",
        GenerateContentResponse,
        {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
        {"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}},
        {
            "tools": [{"functionDeclarations": [{**FUNCTION, "parametersJsonSchema": TOOL}]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        },
    ),
}
HEADERS = {"authorization": "Bearer k", "x-api-key": "k", "anthropic-version": "2026-10-21", "x-goog-api-key": "k"}


def post(sim, path, body, **headers):
    return httpx2.post(sim.url + path, json=body, headers={**HEADERS, **headers})


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_every_answer_has_exactly_the_fields_of_the_sdks_type(sim, endpoint, answer):
    path, kind, plain, schema, tools = ENDPOINTS[endpoint]
    sim.set(answers=ANSWERS[answer], cached_prefix_tokens=1, reasoning_tokens=2)

    replies = [post(sim, path, {**plain, **more}) for more in ({}, schema, tools)]

    for reply in replies:
        assert reply.status_code == 200, reply.text
        check(kind, reply.json())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503, 529])
def test_every_error_has_the_body_that_the_sdk_reads(sim, status):
    sim.set(answers=lambda request: SimAnswer.status(status, {"x-more": "yes"}))

    replies = {name: post(sim, path, plain) for name, (path, _, plain, _, _) in ENDPOINTS.items()}

    assert {reply.status_code for reply in replies.values()} == {status}
    assert {reply.headers["x-more"] for reply in replies.values()} == {"yes"}
    for name in ("chat", "responses"):
        check(ErrorObject, replies[name].json()["error"])
    body = replies["anthropic"].json()
    assert body["type"] == "error"
    assert body.keys() == {"type", "error", "request_id"}
    assert body["error"].keys() == {"type", "message"}
    error = replies["google"].json()["error"]
    assert error["code"] == status
    assert isinstance(error["status"], str)
