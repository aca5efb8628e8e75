"""Google's decision endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pllm_notebook.failures import Failure
from pllm_notebook.messages_types import Media, Request
from pllm_notebook.protocols import MalformedReply
from pllm_notebook.providers import typed
from pllm_notebook.providers.decision_endpoints import (
    DecisionEndpoint,
    DecisionWire,
    named_answers,
    named_questions,
    shown,
)
from pllm_notebook.providers.google.generate import Generate
from pllm_notebook.providers.google.transport import DECISIONS_PATH
from pllm_notebook.providers.media_parts import PDF, untaken
from pllm_notebook.types import Finish, RawReply, Reply, Usage

__all__ = ["DECISIONS", "NamedDecisions"]


class NamedDecisions(DecisionWire):
    """`decisions`, of API version v1beta. Its input has no roles, so each question repeats the system prompt."""

    format_name = "named decisions"

    def path(self, model: str) -> str:
        return DECISIONS_PATH

    def encode(self, request: Request) -> dict[str, Any]:
        text, media = shown(request)
        given: Any = text
        if media:
            given = [_content(each) for each in media]
            if text:
                given.append({"type": "text", "text": text})
        return {"model": f"models/{request.model}", "questions": named_questions(request), "input": given}

    def decode(self, body: Mapping[str, Any]) -> Reply:
        about: dict[str, Any] = {"usage": _usage(body.get("usage")), "model": ""}
        feedback = typed.mapping(body.get("prompt_feedback"), "prompt_feedback")
        blocked = typed.text(feedback.get("block_reason"), "block_reason")
        if blocked:  # the whole input is, and no question has an answer
            words = typed.text(feedback.get("block_reason_message"), "block_reason_message")
            return Reply(text="", finish=Finish.FILTERED, detail=words or blocked, **about)
        if not body.get("answers"):
            raise MalformedReply("no answers")
        return Reply(text=named_answers(body["answers"]), finish=Finish.COMPLETE, **about)

    def error_from(self, raw: RawReply) -> Failure:
        return Generate().error_from(raw)


def _content(media: Media) -> dict[str, Any]:
    kind = "document" if media.mime == PDF else "image" if media.mime.startswith("image/") else ""
    if not kind or not (media.url or media.data):
        raise untaken(media, "Google's decision endpoint", "images and PDF, by address or as files")
    place = {"uri": media.url} if media.url else {"data": media.data}
    known = {} if media.mime.endswith("*") else {"mime_type": media.mime}
    return {"type": kind, **known, **place}


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    return typed.usage(usage.get("total_input_tokens"), usage.get("total_output_tokens", 0),
                       usage.get("total_cached_tokens"))  # fmt: skip


# 2 to 255 options (google/genai/_gaos/types/decisions), up to 1,000 questions (blog.google); no price in genai-prices.
DECISIONS = DecisionEndpoint(
    wire=NamedDecisions(), title="Google's decision endpoint", model="gemini-decision-1", most_questions=1000
)
