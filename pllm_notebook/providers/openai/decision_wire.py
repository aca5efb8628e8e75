"""OpenAI's decision endpoint, and that of servers with the same format."""

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
    listed,
    predicate,
    shown,
)
from pllm_notebook.providers.media_parts import data_url, is_image, untaken
from pllm_notebook.providers.openai import errors as openai_errors
from pllm_notebook.types import Finish, LimitReport, RawReply, Reply

__all__ = ["DECISIONS", "Decisions"]


class Decisions(DecisionWire):
    """`/decisions`. The system prompt, which all questions share, is a system message; the input is a user message."""

    format_name = "decisions"

    def path(self, model: str) -> str:
        return "/decisions"

    def encode(self, request: Request) -> dict[str, Any]:
        text, media = shown(request)
        items: list[dict[str, Any]] = []
        if request.system:
            items.append({"role": "system", "content": request.system})
        content: Any = text
        if media:
            content = [_part(each) for each in media]
            if text:
                content.append({"type": "input_text", "text": text})
        items.append({"role": "user", "content": content})
        return {"model": request.model, "questions": [_question(each) for each in request.questions], "input": items}

    def decode(self, body: Mapping[str, Any]) -> Reply:
        answers: dict[str, Any] = {}
        for each in typed.mappings(body.get("answers"), "answers"):
            name = typed.text(each.get("name"), "an answer's name")
            if name in answers:
                raise MalformedReply(f"two answers to the question {name[:80]!r}")
            answers[name] = _stated(each)
        return Reply(
            text=encoded(answers),
            finish=Finish.COMPLETE,
            usage=openai_errors.usage_of(body.get("usage"), "input_tokens", "output_tokens"),
            model=typed.label(body.get("model")),
            request_id=typed.label(body.get("id")),
        )

    def error_from(self, raw: RawReply) -> Failure:
        return openai_errors.error_from(raw)

    def limits(self, headers: Mapping[str, str]) -> LimitReport | None:
        return openai_errors.limits(headers)


def _question(question: DecisionQuestion) -> dict[str, Any]:
    made: dict[str, Any] = {"name": question.name, "instructions": question.instructions}
    if question.kind == "predicate":
        return {"type": "predicate", **made}
    if question.kind == "scale":
        return {"type": "score", **made, "levels": [{"label": label} for label in question.options]}
    choices = [{"value": option} | ({"description": note} if note else {}) for option, note in question.described]
    return {"type": "choice", **made, "choices": choices}


def _stated(given: Mapping[str, Any]) -> dict[str, Any] | None:
    # Checked here, because the SDK reads an unknown type as a predicate without a probability.
    kind = given.get("type")
    if kind == "refusal":
        return None
    if kind == "predicate":
        return predicate(given.get("probability"))
    if kind == "choice":
        return answer(listed(given.get("probabilities"), "value"), given.get("choice"))
    if kind == "score":
        return answer(listed(given.get("probabilities"), "value"))
    raise MalformedReply(f"an answer of the type {str(kind)[:80]!r}")


def _part(media: Media) -> dict[str, Any]:
    if is_image(media) and (media.url or media.data):
        return {"type": "input_image", "image_url": media.url or data_url(media)}
    raise untaken(media, "the decision endpoint", "images (PNG, JPEG, GIF, WebP), by address or as files")


# 1 to 400 questions, 2 to 255 choices (openai/types/decision_create_params.py). There is one model; genai-prices has
# its price under a separate provider.
DECISIONS = DecisionEndpoint(
    wire=Decisions(), title="OpenAI's decision endpoint", model="gpt-6-luna", price_provider="openai-decisions"
)
