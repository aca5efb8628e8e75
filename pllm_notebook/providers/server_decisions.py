"""Decision endpoints of the caller's own servers, in two formats: System One and SGLang's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pllm_notebook.failures import Failure
from pllm_notebook.messages_types import DecisionQuestion, Media, Request
from pllm_notebook.protocols import MalformedReply
from pllm_notebook.providers import typed
from pllm_notebook.providers.decision_endpoints import (
    DecisionEndpoint,
    DecisionWire,
    answer,
    encoded,
    instructed,
    named_answers,
    named_questions,
    shown,
)
from pllm_notebook.providers.media_parts import untaken
from pllm_notebook.providers.openai import errors as openai_errors
from pllm_notebook.types import Finish, LimitReport, RawReply, Reply

__all__ = ["SERVER_ENDPOINTS", "SGLangDecisions", "SystemOne"]


class _ServerWire(DecisionWire):
    """Base class for both formats: text only, with OpenAI's error body and names of usage fields."""

    def error_from(self, raw: RawReply) -> Failure:
        return openai_errors.error_from(raw)

    def limits(self, headers: Mapping[str, str]) -> LimitReport | None:
        return openai_errors.limits(headers)

    def _text(self, request: Request) -> str:
        text, media = shown(request)
        for each in media:
            raise _no_media(each)
        return text

    def _reply(self, body: Mapping[str, Any], text: str) -> Reply:
        return Reply(
            text=text,
            finish=Finish.COMPLETE,
            usage=openai_errors.usage_of(body.get("usage"), "input_tokens", "output_tokens")
            or openai_errors.usage_of(body.get("usage"), "prompt_tokens", "completion_tokens"),
            model=typed.label(body.get("model")),
            request_id=typed.label(body.get("id")),
        )


class SystemOne(_ServerWire):
    """`/systemone`: questions by name about a state (Jev, Fireworks, Perplexity, vLLM, Ollama)."""

    format_name = "system one"
    input_field = "state"

    def path(self, model: str) -> str:
        return "/systemone"

    def encode(self, request: Request) -> dict[str, Any]:
        return {"model": request.model, "questions": named_questions(request), "state": self._text(request)}

    def decode(self, body: Mapping[str, Any]) -> Reply:
        return self._reply(body, named_answers(body.get("answers")))


class SGLangDecisions(_ServerWire):
    """`/decisions` in SGLang's format, which differs from OpenAI's (docs.sglang.io, decision models)."""

    format_name = "sglang decisions"

    def path(self, model: str) -> str:
        return "/decisions"

    def encode(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {"model": request.model}
        if request.temperature is not None:
            body["temperature"] = request.temperature
        body["questions"] = [_question(request, each) for each in request.questions]
        body["input"] = self._text(request)
        return body

    def decode(self, body: Mapping[str, Any]) -> Reply:
        made: dict[str, Any] = {}
        for name, given in typed.mapping(body.get("answers"), "answers").items():
            stated = typed.mapping(typed.mapping(given, "an answer").get("probabilities"), "probabilities")
            if not stated:
                raise MalformedReply(f"no probabilities of {name[:80]!r}")
            is_yes_no = stated.keys() == {"yes", "no"}
            made[name] = answer({"true": stated["yes"], "false": stated["no"]} if is_yes_no else stated)
        return self._reply(body, encoded(made))


def _question(request: Request, question: DecisionQuestion) -> dict[str, Any]:
    made: dict[str, Any] = {"id": question.name}
    text = instructed(request, question)
    if question.kind == "predicate":
        return made | {"type": "yes_no", "question": text}
    if question.kind == "scale":
        return made | {"type": "score", "question": text, "levels": list(question.options)}
    options = [{"name": option} | ({"description": note} if note else {}) for option, note in question.described]
    return made | {"type": "choice", "question": text, "options": options}


def _no_media(media: Media) -> Exception:
    return untaken(media, "the server's decision endpoint", "text alone")


# For System One, the smallest documented limits: Jev's for options and tokens, Perplexity's for questions. For SGLang,
# its own. Jev allows 64,000 tokens a request, of which the state and one question may take up to 32,000. The other
# 32,000 are left for the other questions, at four bytes a token.
SERVER_ENDPOINTS = {
    "systemone": DecisionEndpoint(
        wire=SystemOne(),
        title="the server's decision endpoint",
        most_questions=128,
        most_question_bytes=4 * 32_000,
    ),
    "sglang": DecisionEndpoint(wire=SGLangDecisions(), title="the server's decision endpoint", most_options=26),
}
