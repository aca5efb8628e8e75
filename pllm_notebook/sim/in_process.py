"""Answers to single requests without a server, for tests of the user's own pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from pllm_notebook.sim import answer_spec
from pllm_notebook.sim.answers import SimRequest, to_answer
from pllm_notebook.sim.draws import digest
from pllm_notebook.sim.simulator_options import SimOptions
from pllm_notebook.sim.tokens import settle
from pllm_notebook.sim.wire_types import Rejected, SimWire
from pllm_notebook.sim.wires.anthropic_messages import AnthropicMessages
from pllm_notebook.sim.wires.google_generate import GoogleGenerate
from pllm_notebook.sim.wires.named_decisions import GoogleDecisions, SystemOneDecisions
from pllm_notebook.sim.wires.openai_chat import OpenAIChat
from pllm_notebook.sim.wires.openai_decisions import OpenAIDecisions
from pllm_notebook.sim.wires.openai_responses import OpenAIResponses
from pllm_notebook.sim.wires.sglang_decisions import SGLangEndpoint

__all__ = ["answers_in", "read_request", "respond"]

_OPTIONS = SimOptions()
_WIRES: dict[str, SimWire] = {
    "chat": OpenAIChat("openai"),
    "responses": OpenAIResponses(),
    "messages": AnthropicMessages(),
    "generate": GoogleGenerate(),
    "decisions": OpenAIDecisions("openai"),
    "named decisions": GoogleDecisions(),
    "system one": SystemOneDecisions(),
    "sglang decisions": SGLangEndpoint(),
}
_COMPATIBLE: dict[str, SimWire] = {"chat": OpenAIChat("compatible"), "decisions": OpenAIDecisions("compatible")}


def answers_in(format_name: str) -> bool:
    """Return whether requests of a wire format can be read and answered here."""
    return format_name in _WIRES


def read_request(format_name: str, compatible: bool, model: str, content: bytes, index: int) -> SimRequest:
    """Parse a request's body into the argument of an `answers` function.

    Args:
        format_name: Name of the wire format.
        compatible: Whether the request is for an OpenAI-compatible server, which accepts additional fields.
        model: Name of the model.
        content: Body of the request.
        index: Number of requests before this one.

    Raises:
        Rejected: If the provider would refuse it.
    """
    wire = _wire(format_name, compatible)
    return _request(answer_spec.spec_of(answer_spec.read(wire, answer_spec.parse(content), model, _OPTIONS), 0), index)


def respond(
    format_name: str, compatible: bool, model: str, content: bytes, answers: Callable[[SimRequest], Any], index: int
) -> tuple[int, dict[str, str], bytes] | None:
    """Return status, headers and body of the response to one request, or None for a lost connection.

    Args:
        format_name: As for `read_request`.
        compatible: As for `read_request`.
        model: As for `read_request`.
        content: As for `read_request`.
        answers: As for `Simulator`. Its exceptions are not caught.
        index: As for `read_request`.

    Raises:
        Unanswerable: If the answer does not answer the questions of a decision endpoint.
    """
    wire = _wire(format_name, compatible)
    number = digest(0, b"number", index.to_bytes(8, "big"))[:12].hex()
    try:
        ask = answer_spec.read(wire, answer_spec.parse(content), model, _OPTIONS)
        spec = answer_spec.spec_of(ask, 0)
        answer = orjson.loads(orjson.dumps(to_answer(answers(_request(spec, index)), spec.schema), default=str))
        if answer["kind"] in ("reset", "hang"):
            return None
        if answer["kind"] == "malformed":
            return 200, {}, b'{"id": "FAKE", "choices": [{"index": 0, "mess'
        if answer["kind"] == "status":
            given = answer["body"]
            if given is None:
                raise Rejected(answer["code"], f"A scripted status {answer['code']}")
            return answer["code"], answer["headers"], given.encode() if isinstance(given, str) else orjson.dumps(given)
        made = answer_spec.answer(spec, "", answer)
        tokens = settle(ask, made, spec.input_tokens, answer["usage"], _OPTIONS)
        return 200, {}, wire.write(ask, made, tokens, number)
    except Rejected as rejected:
        return rejected.status, {}, wire.error(rejected, number)


def _wire(format_name: str, compatible: bool) -> SimWire:
    return _COMPATIBLE.get(format_name, _WIRES[format_name]) if compatible else _WIRES[format_name]


def _request(spec: answer_spec.AnswerSpec, index: int) -> SimRequest:
    given = answer_spec.script_request(spec, index, False)
    return SimRequest(**{**given, "messages": tuple(given["messages"]), "tools": tuple(given["tools"]),
                         "results": tuple(given["results"])})  # fmt: skip
