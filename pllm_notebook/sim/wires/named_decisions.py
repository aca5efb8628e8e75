"""Decision endpoints with named questions: Google's, and System One of self-hosted servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from pllm_notebook.sim.decision_author import YES_NO, SimQuestion
from pllm_notebook.sim.rate_limits import LimitState
from pllm_notebook.sim.simulator_options import SimOptions
from pllm_notebook.sim.wire_types import GeneratedAnswer, Headers, ParsedRequest, Rejected, Tokens, WireConversation
from pllm_notebook.sim.wires import openai_rules as rules
from pllm_notebook.sim.wires.google_generate import GoogleGenerate

__all__ = ["GoogleDecisions", "SystemOneDecisions"]

_MOST_OPTIONS = 255
_MODEL = "models/gemini-decision-1"


class GoogleDecisions(GoogleGenerate):
    """POST /v1beta/decisions. The endpoint exists only in this version."""

    def read(self, body: dict[str, Any], model: str, options: SimOptions) -> ParsedRequest:
        """Check a body as the endpoint does."""
        if unknown := sorted(body.keys() - {"input", "model", "questions"}):
            raise Rejected(400, f'Invalid JSON payload received. Unknown name "{unknown[0]}"', param=unknown[0])
        if body.get("model") != _MODEL:
            raise Rejected(404, f"{body.get('model')} is not found for API version v1beta, or is not supported.")
        said = WireConversation()
        given = body["input"]
        parts = [{"type": "text", "text": given}] if isinstance(given, str) else given
        texts = [part["text"] for part in parts if part["type"] == "text"]
        said.media += [part.get("data") or part["uri"] for part in parts if part["type"] != "text"]
        said.messages.append(("user", "\n".join(texts)))
        said.called.append(orjson.dumps(body["questions"]).decode())
        questions = _questions(body["questions"], most_levels=_MOST_OPTIONS)
        return ParsedRequest("google", "gemini-decision-1", body, said, questions=questions)

    def write(self, ask: ParsedRequest, made: GeneratedAnswer, tokens: Tokens, number: str) -> bytes:
        """Return the answers by name. A refused or filtered input has none."""
        usage = {"total_input_tokens": tokens.input, "total_output_tokens": 0, "total_tokens": tokens.input}
        if made.finish in ("refusal", "filtered") or None in made.decided.values():  # the whole input is refused
            return orjson.dumps({"prompt_feedback": {"block_reason": "safety"}, "usage": usage})
        answers = {question.name: _google_answer(question, made.decided[question.name] or (), ask.body)
                   for question in ask.questions}  # fmt: skip
        return orjson.dumps({"answers": answers, "usage": usage})


class SystemOneDecisions:
    """POST /v1/systemone."""

    provider = "compatible"

    def authorise(self, headers: Mapping[str, str]) -> None:
        """Accept any key."""

    def read(self, body: dict[str, Any], model: str, options: SimOptions) -> ParsedRequest:
        """Check a body as the server does."""
        if unknown := sorted(body.keys() - {"model", "questions", "state"}):
            raise Rejected(422, f"Extra inputs are not permitted: {unknown[0]}", param=unknown[0])
        if not isinstance(body.get("state"), (str, dict, list)):
            raise Rejected(422, "Field required: state", param="state")
        said = WireConversation()
        state = body["state"]
        said.messages.append(("user", state if isinstance(state, str) else orjson.dumps(state).decode()))
        said.called.append(orjson.dumps(body["questions"]).decode())
        return ParsedRequest("compatible", str(body["model"]), body, said, questions=_questions(body["questions"], 10))

    def write(self, ask: ParsedRequest, made: GeneratedAnswer, tokens: Tokens, number: str) -> bytes:
        """Return the answers by name. A refused question has none."""
        decided = {question: made.decided[question.name] for question in ask.questions}
        answers = {
            question.name: _answer(question, p, ask.body["questions"][question.name]["type"])
            for question, p in decided.items()
            if p is not None
        }
        usage = {"input_tokens": tokens.input, "output_tokens": 0}
        return orjson.dumps({"model": ask.model, "answers": answers, "usage": usage})

    def error(self, rejected: Rejected, number: str) -> bytes:
        """Return an error body in OpenAI's format."""
        return rules.error_body(rejected)

    def limit_headers(self, limit_state: LimitState, refused: bool) -> Headers:
        """Return the waiting time on a 429, and no headers otherwise."""
        return [("retry-after", limit_state.retry_after)] if refused else []

    def request_id(self, number: str) -> tuple[str, str]:
        """Return the header with the request id."""
        return "x-request-id", f"req_{number}"


def _questions(given: Any, most_levels: int) -> Sequence[SimQuestion]:
    if not isinstance(given, dict) or not given:
        raise Rejected(400, "At least one question is required.", param="questions")
    return [_question(name, each, most_levels) for name, each in given.items()]


def _question(name: str, given: Mapping[str, Any], most_levels: int) -> SimQuestion:
    if not given.get("instructions"):
        raise Rejected(400, f"questions.{name}.instructions is required.", param=name)
    if given["type"] == "noul":
        return SimQuestion(name, YES_NO, is_yes_no=True)
    options = tuple(given["criteria"])
    most = most_levels if given["type"] == "score" else _MOST_OPTIONS
    clean = all(option and option == option.strip() and option.isprintable() for option in options)
    if not 2 <= len(options) <= most or not clean:
        raise Rejected(400, f"questions.{name}.criteria has 2 to {most} options without outer blanks.", param=name)
    return SimQuestion(name, options)


def _answer(question: SimQuestion, p: Sequence[float], kind: str) -> dict[str, Any]:
    if question.is_yes_no:
        return {"type": "noul", "noul": p[0]}
    most = max(p)
    confidence = round((len(p) * most - 1) / (len(p) - 1), 2)
    if kind == "choice":
        shares = dict(zip(question.options, p, strict=True))
        return {"type": "choice", "choice": question.options[p.index(most)], "probabilities": shares,
                "confidence": confidence}  # fmt: skip
    levels = {str(at): one for at, one in enumerate(p)}
    legend = {str(at): option for at, option in enumerate(question.options)}
    score = sum(at * one for at, one in enumerate(p))
    return {"type": "score", "score": score, "legend": legend, "probabilities": levels, "confidence": confidence}


def _google_answer(question: SimQuestion, p: Sequence[float], body: Mapping[str, Any]) -> dict[str, Any]:
    made = _answer(question, p, body["questions"][question.name]["type"])
    if question.is_yes_no:
        made["noul"] = min(max(p[0], 0.01), 0.99)
        return made | {"confidence": max(made["noul"], 1 - made["noul"])}
    return made | {"confidence": max(p)}
