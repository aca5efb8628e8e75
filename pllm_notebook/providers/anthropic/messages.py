"""Anthropic's Messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from pllm_notebook.exceptions import UsageError
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.messages_types import ProviderMessage, Request
from pllm_notebook.protocols import MalformedReply
from pllm_notebook.providers import errors, typed
from pllm_notebook.providers.anthropic import content as blocks
from pllm_notebook.providers.anthropic.facts import KEYWORDS, refuses_prefill
from pllm_notebook.providers.bodies import (
    extra,
    instructed,
    object_at,
    objects_at,
    prefilled,
    rolled_up,
    schema_instruction,
)
from pllm_notebook.types import Finish, LimitReport, RawReply, Reply, Usage

__all__ = ["Messages"]

# `max_tokens` is required. It includes thinking, which is on by default from Claude 5 on, so a
# limit for the answer alone would truncate it.
DEFAULT_OUTPUT_LIMIT = 8192

_OURS = frozenset({"messages", "model", "stream", "system", "max_tokens"})
_BY_TYPE = {
    "rate_limit_error": FailureKind.RATE_LIMIT,
    "overloaded_error": FailureKind.OVERLOADED,
    "billing_error": FailureKind.QUOTA,
    "authentication_error": FailureKind.AUTHENTICATION,
    "permission_error": FailureKind.PERMISSION,
    "not_found_error": FailureKind.UNKNOWN_MODEL,
    "timeout_error": FailureKind.TIMEOUT,
}
# A spend limit is a 429 that waiting does not lift (anthropic/_exceptions.py).
_SPEND = ("contract_spend_limit", "enforced_spend_limit")
# A paused turn ("pause_turn") or anything else is not an answer. Gateways to other models pass on OpenAI's words for
# a complete and a truncated answer.
_FINISH = {
    "": Finish.COMPLETE,
    "stop": Finish.COMPLETE,
    "tool_calls": Finish.COMPLETE,
    "length": Finish.TRUNCATED,
    "end_turn": Finish.COMPLETE,
    "stop_sequence": Finish.COMPLETE,
    "tool_use": Finish.COMPLETE,
    "max_tokens": Finish.TRUNCATED,
    "model_context_window_exceeded": Finish.TRUNCATED,
    "refusal": Finish.REFUSED,
}


class Messages:
    """`/v1/messages`.

    Consecutive turns of one role are merged: tool results must come first in the next user message.
    """

    format_name = "messages"
    input_field = "messages"
    model_in_path = False
    reply_fields = ("content",)
    keywords = KEYWORDS

    def path(self, model: str) -> str:
        return "/v1/messages"

    def encode(self, request: Request) -> dict[str, Any]:
        if prefilled(request.turns) and refuses_prefill(request.model):
            raise UsageError(
                f"The conversation ends with an assistant's turn, the beginning of an answer, and {request.model} "
                f"takes none: Claude does so before 4.6 alone. End it with a user's turn. Nothing was sent."
            )
        body: dict[str, Any] = {
            "model": request.model,
            "max_tokens": request.max_output_tokens or DEFAULT_OUTPUT_LIMIT,
        }
        if request.temperature is not None:
            body["temperature"] = request.temperature
        body |= extra(request, _OURS)
        if request.schema is not None:
            output = dict(body.pop("output_config", {}))
            body["output_config"] = output | {"format": {"type": "json_schema", "schema": request.schema}}
        if request.tools:
            body |= blocks.tools(request)
        if request.system:
            body["system"] = request.system
        body["messages"] = rolled_up([blocks.message(turn, self.format_name) for turn in request.turns], "content")
        return body

    def relax_schema(self, body: Mapping[str, Any], schema_level: int) -> dict[str, Any]:
        config = object_at(body, "output_config")
        schema = object_at(object_at(config, "format"), "schema")
        if schema_level == 0 or not schema:
            return dict(body)
        loose = {name: value for name, value in body.items() if name not in ("output_config", "messages")}
        rest = {name: value for name, value in config.items() if name != "format"}
        if rest:
            loose["output_config"] = rest
        loose["system"] = instructed(loose.get("system"), schema_instruction(schema))
        return loose | {"messages": body.get("messages")}

    def prefix(self, body: Mapping[str, Any], shown: int = 0) -> list[Any]:
        return [body.get("tools"), body.get("system"), objects_at(body, "messages")[:shown]]

    def mark_prompt_cache(
        self, body: Mapping[str, Any], name: str | None, lead: str, *, turns: bool = False, shown: int = 0
    ) -> dict[str, Any]:
        system: Any = body.get("system")
        messages = objects_at(body, "messages")
        # Callers who set marks decide what is cached. A mark at the top level applies to the row's block.
        contents = [body.get("tools"), system, *(message.get("content") for message in messages)]
        if "cache_control" in body or any(map(blocks.has_mark, contents)):
            return dict(body)
        if name is not None:
            body = self._mark_prefix(body, lead, shown)
        return {**body, "messages": blocks.marked_turns(objects_at(body, "messages"))} if turns else dict(body)

    def _mark_prefix(self, body: Mapping[str, Any], lead: str, shown: int) -> dict[str, Any]:
        system: Any = body.get("system")
        messages = objects_at(body, "messages")
        first = messages[shown].get("content") if len(messages) > shown else None
        # A lead after files is not shared.
        rest = first.removeprefix(lead) if isinstance(first, str) else ""
        # A block of only white space is rejected.
        if lead and isinstance(first, str) and len(rest) < len(first) and rest.strip():
            content = [blocks.marked(lead), {"type": "text", "text": rest}]
            return {
                **body,
                "messages": [*messages[:shown], {**messages[shown], "content": content}, *messages[shown + 1 :]],
            }
        if shown:
            last = blocks.marked_message(messages[shown - 1])
            return {**body, "messages": [*messages[: shown - 1], last, *messages[shown:]]}
        # A mark also caches what precedes it: the tools.
        return {**body, "system": [blocks.marked(system)]} if system and isinstance(system, str) else dict(body)

    def output_limit(self, body: Mapping[str, Any]) -> int | None:
        return body.get("max_tokens")

    def decode(self, body: Mapping[str, Any]) -> Reply:
        if not isinstance(body.get("content"), list):
            raise MalformedReply("no content")
        content = typed.mappings(body["content"], "content")
        stop = typed.text(body.get("stop_reason"), "stop_reason")
        said = [block for block in content if block.get("type") == "text"]
        calls = blocks.calls(content)
        finish = _FINISH.get(stop, Finish.UNFINISHED)
        if finish is Finish.COMPLETE and calls:
            finish = Finish.CALLED
        called = finish is Finish.CALLED
        details = typed.mapping(body.get("stop_details"), "stop_details")
        return Reply(
            text="".join(typed.text(block.get("text"), "text") for block in said),
            finish=finish,
            usage=_usage(body.get("usage")),
            model=typed.label(body.get("model")),
            request_id=typed.label(body.get("id")),
            detail=typed.text(details.get("category"), "category") or (stop if finish is Finish.UNFINISHED else ""),
            calls=calls if called else (),
            # Unchanged: its thinking is signed.
            echo=ProviderMessage(self.format_name, orjson.dumps(content).decode()) if called else None,
        )

    def error_from(self, raw: RawReply) -> Failure:
        body = errors.body_of(raw)
        error: dict[str, Any] = body["error"] if isinstance(body.get("error"), dict) else {}
        message, type_ = str(error.get("message") or ""), str(error.get("type") or "")
        kind = _BY_TYPE.get(type_)
        details = error.get("details")
        code = str(details.get("error_code") if isinstance(details, dict) else error.get("error_code") or "")
        if kind is FailureKind.RATE_LIMIT and any(word in code for word in _SPEND):
            kind = FailureKind.QUOTA
        # Anthropic names the field first: "max_tokens: Field required", "`temperature` is deprecated …"
        field = message.partition(":")[0].strip("` ") if ":" in message else message.partition(" ")[0].strip("`")
        return errors.failure(
            raw,
            message,
            kind=kind,
            field=field if field.isidentifier() or "." in field else "",
            request_id=body.get("request_id") or raw.headers.get("request-id", ""),
            usage=_usage(body.get("usage")),
        )

    def limits(self, headers: Mapping[str, str]) -> LimitReport | None:
        get = headers.get
        requests = errors.number(get("anthropic-ratelimit-requests-limit"))
        # "tokens" is the narrower of the combined and the input limit; older accounts have only the input limit.
        bucket = "tokens" if "anthropic-ratelimit-tokens-limit" in headers else "input-tokens"
        tokens = errors.number(get(f"anthropic-ratelimit-{bucket}-limit"))
        if requests is None and tokens is None:
            return None
        return LimitReport(
            requests,
            errors.number(get("anthropic-ratelimit-requests-remaining")),
            errors.seconds(get("anthropic-ratelimit-requests-reset")),
            tokens,
            errors.number(get(f"anthropic-ratelimit-{bucket}-remaining")),
            errors.seconds(get(f"anthropic-ratelimit-{bucket}-reset")),
        )


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    details = usage.get("output_tokens_details")
    details = {} if details is None else details
    read, written = (usage.get(f"cache_{kind}_input_tokens") for kind in ("read", "creation"))
    parts = [typed.tokens(0 if part is None else part) for part in (read, written)]
    # `input_tokens` excludes the cache.
    counted = [typed.tokens(usage.get("input_tokens")), *parts]
    if None in counted or not isinstance(details, dict):
        return None
    total = sum(part for part in counted if part is not None)
    return typed.usage(total, usage.get("output_tokens"), read, written, details.get("thinking_tokens"))
