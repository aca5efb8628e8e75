"""The format of OpenAI's decision endpoint and compatible servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from pllm_notebook.sim.decision_author import YES_NO, SimQuestion
from pllm_notebook.sim.rate_limits import LimitState
from pllm_notebook.sim.simulator_options import SimOptions
from pllm_notebook.sim.wire_types import GeneratedAnswer, Headers, ParsedRequest, Rejected, Tokens
from pllm_notebook.sim.wires import openai_rules as rules
from pllm_notebook.sim.wires.openai_turns import read_input

__all__ = ["OpenAIDecisions"]

_PARAMETERS = frozenset(
    ["input", "model", "prompt_cache_key", "prompt_cache_options", "questions", "safety_identifier"]
)
_MODEL = "gpt-6-luna"
_MOST_QUESTIONS, _MOST_CHOICES, _MOST_LEVELS = 400, 255, 10


class OpenAIDecisions:
    """POST /decisions. With `provider` "openai" it accepts only OpenAI's model, with "compatible" any model."""

    def __init__(self, provider: str) -> None:
        self.provider = provider

    def authorise(self, headers: Mapping[str, str]) -> None:
        """Check the bearer token."""
        rules.check_key(headers)

    def read(self, body: dict[str, Any], model: str, options: SimOptions) -> ParsedRequest:
        """Check a body as the endpoint does."""
        model = rules.check_body(body, _PARAMETERS, options)
        if self.provider == "openai" and model != _MODEL:
            message = f"The model '{model}' does not support decisions. Only '{_MODEL}' is supported."
            raise Rejected(400, message, param="model")
        given = body.get("input")
        if not isinstance(given, (str, list)) or not given:
            raise Rejected(400, "Missing required parameter: 'input'.", param="input")
        questions = _questions(body.get("questions"))
        said = read_input(given, None, signed=False)
        said.called.append(orjson.dumps(body["questions"]).decode())
        return ParsedRequest(self.provider, model, body, said, questions=questions)

    def write(self, ask: ParsedRequest, made: GeneratedAnswer, tokens: Tokens, number: str) -> bytes:
        """Return the answers in the order of the questions."""
        answers = [
            _answer(question, body, made.decided[question.name])
            for question, body in zip(ask.questions, ask.body["questions"], strict=True)
        ]
        usage = {
            "input_tokens": tokens.input,
            "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens.input,
        }
        return orjson.dumps({"answers": answers, "model": ask.model, "usage": usage})

    def error(self, rejected: Rejected, number: str) -> bytes:
        """Return OpenAI's error body."""
        return rules.error_body(rejected)

    def limit_headers(self, limit_state: LimitState, refused: bool) -> Headers:
        """Return x-ratelimit-*."""
        return rules.limit_headers(limit_state, refused)

    def request_id(self, number: str) -> tuple[str, str]:
        """Return the header with the request id."""
        return "x-request-id", f"req_{number}"


def _questions(given: Any) -> Sequence[SimQuestion]:
    if not isinstance(given, list) or not 1 <= len(given) <= _MOST_QUESTIONS:
        raise Rejected(400, f"Invalid 'questions': expected 1 to {_MOST_QUESTIONS} questions.", param="questions")
    return [_question(each, f"questions[{at}]") for at, each in enumerate(given)]


def _question(given: Mapping[str, Any], where: str) -> SimQuestion:
    kind, name = given.get("type"), given.get("name") or ""
    if not given.get("instructions"):
        raise Rejected(400, f"Missing required parameter: '{where}.instructions'.", param=f"{where}.instructions")
    if kind == "predicate":
        _only(given, {"type", "name", "instructions"}, where)
        return SimQuestion(name, YES_NO, is_yes_no=True)
    if kind == "choice":
        _only(given, {"type", "name", "instructions", "choices"}, where)
        options = tuple(each["value"] for each in given["choices"])
        _check(options, 2, _MOST_CHOICES, f"{where}.choices")
        return SimQuestion(name, options)
    if kind == "score":
        _only(given, {"type", "name", "instructions", "levels"}, where)
        options = tuple(each["label"] for each in given["levels"])
        _check(options, 2, _MOST_LEVELS, f"{where}.levels")
        return SimQuestion(name, options)
    values = "'predicate', 'choice', and 'score'"
    raise Rejected(400, f"Invalid value: '{kind}'. Supported values are: {values}.", param=f"{where}.type")


def _only(given: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(given.keys() - known)
    if unknown:
        raise Rejected(400, f"Unknown parameter: '{where}.{unknown[0]}'.", code="unknown_parameter", param=where)


def _check(options: Sequence[Any], least: int, most: int, where: str) -> None:
    if not least <= len(options) <= most:
        raise Rejected(400, f"Invalid '{where}': expected {least} to {most}, got {len(options)}.", param=where)
    if len(set(map(repr, options))) < len(options):
        raise Rejected(400, f"Invalid '{where}': each must be unique.", param=where)


def _answer(question: SimQuestion, body: Mapping[str, Any], p: Sequence[float] | None) -> dict[str, Any]:
    name = body.get("name")
    if p is None:
        return {"type": "refusal", "name": name}
    if question.is_yes_no:
        return {"type": "predicate", "name": name, "probability": p[0]}
    most = max(p)
    confidence = round((len(p) * most - 1) / (len(p) - 1), 2)
    if body["type"] == "choice":
        listed = [{"value": option, "probability": one} for option, one in zip(question.options, p, strict=True)]
        choice = question.options[p.index(most)]
        return {"type": "choice", "name": name, "choice": choice, "confidence": confidence, "probabilities": listed}
    levels = [
        {"value": at, "label": label, "probability": one}
        for at, (label, one) in enumerate(zip(question.options, p, strict=True))
    ]
    score = round(sum(at * one for at, one in enumerate(p)), 2)
    return {"type": "score", "name": name, "score": score, "confidence": confidence, "probabilities": levels}
