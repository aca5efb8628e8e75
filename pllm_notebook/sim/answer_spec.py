"""The question of a request and its answer, for live requests and for lines of batch jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from pllm_notebook.sim.author import make, schema_of, wrap_in_prose
from pllm_notebook.sim.decision_author import Decided, Unanswerable, answers_to, schema_of_questions
from pllm_notebook.sim.draws import Draws, digest
from pllm_notebook.sim.fault_draw import JSON_FAULTS
from pllm_notebook.sim.known_model import KnownModel
from pllm_notebook.sim.simulator_options import SimOptions
from pllm_notebook.sim.token_author import asks_for_tokens, tokens_of, unsure
from pllm_notebook.sim.tokens import count_input
from pllm_notebook.sim.wire_types import GeneratedAnswer, ParsedRequest, Rejected, SimWire

__all__ = ["AnswerSpec", "answer", "parse", "read", "script_request", "spec_of"]


@dataclass(slots=True)
class AnswerSpec:
    """The parts of a request that its answer depends on.

    `identity` is a digest of model, prompt and schema, without the seed. `key` adds the seed and determines
    the answer. `input_tokens` are counted, not yet billed.
    """

    ask: ParsedRequest
    schema: Mapping[str, Any] | None
    schema_json: bytes
    identity: bytes
    key: bytes
    input_tokens: int

    def fitting(self, fault: str) -> str:
        """Return *fault*, or "" if it cannot occur: a schema fault needs a request for JSON, a cut one needs a text."""
        if self.ask.questions and (fault in JSON_FAULTS or fault == "truncation"):
            return ""
        plain = (self.schema is None and not self.ask.json_mode) or self.ask.forced
        return "" if fault in JSON_FAULTS and plain else fault


def parse(raw: bytes | memoryview) -> Any:
    """Read JSON. Raises `Rejected`."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Rejected(400, f"We could not parse the JSON body of your request: {error}") from None


def read(wire: SimWire, body: Any, model: str, options: SimOptions) -> ParsedRequest:
    """Check and parse a request's body as its provider does. Raises `Rejected`."""
    if not isinstance(body, dict):
        raise Rejected(400, "The request's body is not a JSON object.")
    try:
        ask = wire.read(body, model, options)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        # The wires' readers assume well-formed bodies. A real provider would name the field here.
        raise Rejected(400, f"Invalid request body: {type(error).__name__}: {error}") from error
    ask.known_model = KnownModel(options.known_errors, options.miscalibration, options.refused_questions)
    return ask


def spec_of(ask: ParsedRequest, seed: int) -> AnswerSpec:
    """Return the answer spec of the request *ask*."""
    schema = schema_of_questions(ask.questions) if ask.questions else schema_of(ask)
    schema_json = orjson.dumps(schema) if schema is not None else b""
    said = ask.said
    parts = [ask.system, *(part for turn in ask.messages for part in turn), *said.media, *said.called]
    text = "\0".join(parts).encode("utf-8", "replace")
    identity = digest(0, ask.model.encode(), text, schema_json)
    return AnswerSpec(ask, schema, schema_json, identity, digest(seed, identity), count_input(ask, schema_json))


def script_request(spec: AnswerSpec, index: int, batch: bool) -> dict[str, Any]:
    """Return the fields of the `SimRequest` for the program's `answers` function."""
    ask = spec.ask
    return {
        "provider": ask.provider,
        "model": ask.model,
        "system": ask.system,
        "prompt": ask.prompt,
        "messages": ask.messages,
        "schema": spec.schema,
        "tools": [tool.name for tool in ask.tools],
        "media": len(ask.said.media),
        "results": ask.said.results,
        "body": ask.body,
        "index": index,
        "batch": batch,
    }


def answer(spec: AnswerSpec, fault: str, scripted: Mapping[str, Any] | None) -> GeneratedAnswer:
    """Build the answer, from *scripted* if given, with *fault* applied.

    Raises:
        Unanswerable: If *scripted* does not answer the questions of a decision endpoint.
    """
    declined: Decided = {question.name: None for question in spec.ask.questions}
    if fault == "filtered":
        return GeneratedAnswer("filtered", decided=declined)
    if fault == "refusal":
        text = "SIMULATED refusal: I'm sorry, but I can't help with that request."
        return GeneratedAnswer("refusal", text, decided=declined)
    if scripted is None or fault in JSON_FAULTS:
        made = make(spec.ask, spec.schema, spec.schema_json, spec.key, fault)
    else:
        kind, text = scripted["kind"], scripted["content"]
        finish = {"text": "stop", "truncated": "length"}.get(kind, kind)
        # A server that ignores the schema puts the same content in prose.
        text = wrap_in_prose(text) if spec.ask.fenced and finish == "stop" else text
        calls = [(name, arguments) for name, arguments in scripted["calls"]]
        made = GeneratedAnswer(finish, text, calls if spec.ask.parallel else calls[:1])
    if fault == "truncation":
        made = GeneratedAnswer("length", made.text[: len(made.text) // 2])
    ask, given = spec.ask, scripted or {}
    known = given.get("probabilities") or {}
    if ask.questions and made.finish in ("refusal", "filtered"):
        made.decided = declined
    elif ask.questions and made.finish != "stop":
        raise Unanswerable(
            f"A decision endpoint writes no text and calls no tools, so {given['kind']!r} is no answer of one."
        )
    elif ask.questions:
        refused = given.get("refused") or ()
        value = _value_in(made.text)
        made.decided = answers_to(ask.questions, value, known, refused, ask.known_model, spec.key)
    elif made.finish == "stop" and spec.schema is not None and ask.known_model.errors:
        made.text, bent = unsure(made.text, spec.schema, ask.known_model, spec.key)
        known = bent | known
    if made.finish == "stop" and asks_for_tokens(ask.body):
        made.tokens = tokens_of(made.text, spec.schema, known, Draws(spec.key + b"tokens"))
    return made


def _value_in(text: str) -> Any:
    """Return the value of a scripted text: JSON, or the text itself."""
    try:
        return orjson.loads(text)
    except ValueError:
        return text
