"""OpenAI, and every server that speaks its Chat Completions.

Bodies go through the SDK's own `post` as bytes: its `create` walks every request by type
annotations and builds response models, three quarters of a call's cost, for nothing we use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from pllm_notebook.credentials import Address, Key
from pllm_notebook.exceptions import UsageError
from pllm_notebook.protocols import MalformedReply
from pllm_notebook.providers import refusals
from pllm_notebook.providers.stainless import StainlessTransport
from pllm_notebook.records import Failure, FailureKind, Finish, LimitReport, RawReply, Reply, Request, Usage

__all__ = ["Chat", "Responses", "called", "connect", "schema_instruction"]

# `n` would hide samples from the cache; a stream cannot be stored as a body.
_OURS = frozenset({"messages", "input", "model", "n", "stream", "response_format", "text"})
# What a Response that failed says in place of a status; all others reject what was asked
# (openai/types/responses/response_error.py).
_FAILED_RESPONSE = {"": 502, "server_error": 500, "vector_store_timeout": 504, "rate_limit_exceeded": 429}
_NEVER_AGAIN = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})


class Chat:
    """`/chat/completions`.

    Args:
        limit_field: `max_completion_tokens` for OpenAI, whose reasoning models refuse the old
            name; `max_tokens` for most other servers.
        strict: Whether schemas are marked strict (OpenAI's own guarantee).
    """

    form = "chat"

    def __init__(self, limit_field: str = "max_completion_tokens", *, strict: bool = True) -> None:
        self._limit_field = limit_field
        self._strict = strict

    def path(self, model: str) -> str:
        return "/chat/completions"

    def encode(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {"model": request.model}
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.max_output_tokens is not None:
            body[self._limit_field] = request.max_output_tokens
        body |= extra(request.extra_body)
        if request.schema is not None:
            described: dict[str, Any] = {"name": request.schema_name, "schema": request.schema}
            if self._strict:
                described["strict"] = True
            body["response_format"] = {"type": "json_schema", "json_schema": described}
        messages: list[dict[str, Any]] = []
        if request.system:
            messages.append({"role": "system", "content": request.system})
        messages += [{"role": turn.role, "content": turn.text} for turn in request.turns]
        body["messages"] = messages
        return body

    def loosen(self, body: Mapping[str, Any], rung: int) -> dict[str, Any]:
        wanted = body.get("response_format", {}).get("json_schema")
        if rung == 0 or wanted is None:
            return dict(body)
        loose = {name: value for name, value in body.items() if name != "response_format"}
        if rung == 1:
            loose["response_format"] = {"type": "json_object"}
        messages = list(loose.pop("messages"))
        told = schema_instruction(wanted["schema"])
        if messages and messages[0]["role"] == "system":
            messages[0] = {"role": "system", "content": f"{messages[0]['content']}\n\n{told}"}
        else:
            messages.insert(0, {"role": "system", "content": told})
        loose["messages"] = messages
        return loose

    def prefix(self, body: Mapping[str, Any]) -> list[Any]:
        system = [message for message in body["messages"] if message["role"] == "system"]
        return [body.get("tools"), body.get("response_format"), system]

    def mark(self, body: Mapping[str, Any], name: str, lead: str) -> dict[str, Any]:
        return keyed(body, name)

    def output_limit(self, body: Mapping[str, Any]) -> int | None:
        return body.get("max_completion_tokens") or body.get("max_tokens")

    def decode(self, body: Mapping[str, Any]) -> Reply:
        try:
            choice = body["choices"][0]
            message = choice["message"]
            content, refusal, finish = message.get("content"), message.get("refusal"), choice.get("finish_reason")
            if not content and not refusal and message.get("tool_calls"):
                refusal = called(message["tool_calls"][0]["function"]["name"])
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise MalformedReply(f"no choices[0].message ({error!r})") from None
        if isinstance(content, list):  # some servers answer in parts
            content = "".join(part.get("text", "") for part in content)
        if finish == "length":
            end = Finish.TRUNCATED
        elif finish == "content_filter":
            end = Finish.FILTERED
        else:
            end = Finish.REFUSED if refusal else Finish.COMPLETE
        return Reply(
            text=content or "",
            finish=end,
            usage=_usage(body.get("usage"), "prompt_tokens", "completion_tokens"),
            model=body.get("model") or "",
            request_id=body.get("id") or "",
            detail=refusal or "",
        )

    def refuse(self, raw: RawReply) -> Failure:
        return refuse(raw)

    def limits(self, headers: Mapping[str, str]) -> LimitReport | None:
        return limits(headers)


class Responses:
    """`/responses`, for the models that have only that."""

    form = "responses"

    def path(self, model: str) -> str:
        return "/responses"

    def encode(self, request: Request) -> dict[str, Any]:
        # Responses are kept by the provider for 30 days unless told otherwise; bulk data should not be.
        body: dict[str, Any] = {"model": request.model, "store": False}
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.max_output_tokens is not None:
            body["max_output_tokens"] = request.max_output_tokens
        body |= extra(request.extra_body)
        if request.schema is not None:
            form = {"type": "json_schema", "name": request.schema_name, "schema": request.schema, "strict": True}
            body["text"] = {"format": form}
        if request.system:
            body["instructions"] = request.system
        body["input"] = [{"role": turn.role, "content": turn.text} for turn in request.turns]
        return body

    def loosen(self, body: Mapping[str, Any], rung: int) -> dict[str, Any]:
        wanted = body.get("text", {}).get("format")
        if rung == 0 or wanted is None:
            return dict(body)
        loose = {name: value for name, value in body.items() if name not in ("text", "input")}
        told = schema_instruction(wanted["schema"])
        loose["instructions"] = f"{loose['instructions']}\n\n{told}" if loose.get("instructions") else told
        return loose | {"input": body["input"]}

    def prefix(self, body: Mapping[str, Any]) -> list[Any]:
        return [body.get("tools"), body.get("text"), body.get("instructions")]

    def mark(self, body: Mapping[str, Any], name: str, lead: str) -> dict[str, Any]:
        return keyed(body, name)

    def output_limit(self, body: Mapping[str, Any]) -> int | None:
        return body.get("max_output_tokens")

    def decode(self, body: Mapping[str, Any]) -> Reply:
        try:
            status, output = body["status"], body["output"]
            texts, refusals_seen, calls = [], [], []
            for item in output:
                if item["type"] == "function_call":
                    calls.append(item["name"])
                # Commentary is the model thinking aloud; only the final answer is one.
                if item["type"] != "message" or item.get("phase") == "commentary":
                    continue
                for part in item["content"]:
                    if part["type"] == "refusal":
                        refusals_seen.append(part["refusal"])
                    else:
                        texts.append(part["text"])
        except (KeyError, TypeError) as error:
            raise MalformedReply(f"no output ({error!r})") from None
        if calls and not texts and not refusals_seen:
            refusals_seen.append(called(calls[0]))
        if status not in ("completed", "incomplete"):
            raise MalformedReply(f"status {status!r}")
        reason = (body.get("incomplete_details") or {}).get("reason")
        if status == "incomplete":
            end = Finish.FILTERED if reason == "content_filter" else Finish.TRUNCATED
        else:
            end = Finish.REFUSED if refusals_seen else Finish.COMPLETE
        return Reply(
            text="".join(texts),
            finish=end,
            usage=_usage(body.get("usage"), "input_tokens", "output_tokens"),
            model=body.get("model") or "",
            request_id=body.get("id") or "",
            detail=" ".join(refusals_seen),
        )

    def refuse(self, raw: RawReply) -> Failure:
        return refuse(raw)

    def limits(self, headers: Mapping[str, str]) -> LimitReport | None:
        return limits(headers)


def extra(fields: Mapping[str, Any], ours: frozenset[str] = _OURS) -> dict[str, Any]:
    """Take the caller's own fields, less those that are ours to fill."""
    for name in fields:
        if name in ours:
            raise UsageError(f"extra_body may not set {name!r}, which this package fills itself. Nothing was sent.")
    return dict(fields)


def keyed(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Have requests of one prefix sent to one machine, which has it cached; a key of the caller's own stays."""
    return {"prompt_cache_key": name} | dict(body)


def schema_instruction(schema: Mapping[str, Any]) -> str:
    """Word a schema for a server that has no structured output."""
    return (
        "Answer with one JSON value that matches this JSON schema, and with nothing else:\n"
        + orjson.dumps(schema).decode()
    )


def called(tool: str) -> str:
    """Say why a reply that calls a tool, and says nothing, is no answer: nobody runs the tool."""
    return f"it called the tool {tool!r} in place of an answer"


def refuse(raw: RawReply) -> Failure:
    """Read OpenAI's error body: `{"error": {"message", "type", "param", "code"}}`."""
    body = refusals.body_of(raw)
    error = body.get("error", body)  # compatible servers differ: an object, a string, or the body itself
    if not isinstance(error, dict):
        error = {"message": str(error)}
    code = str(error.get("code") or "")
    kind = None
    if code in _NEVER_AGAIN or error.get("type") in _NEVER_AGAIN:
        kind = FailureKind.QUOTA
    elif code == "content_filter":  # Azure filters the prompt with a 400
        kind = FailureKind.FILTERED
    elif raw.status == 200:  # an error inside a success: a router's (OpenRouter) or a failed Response
        status = int(code) if code.isdigit() else _FAILED_RESPONSE.get(code, 400)
        raw = RawReply(status, raw.headers, raw.body)
    return refusals.failure(
        raw,
        str(error.get("message") or ""),
        kind=kind,
        field=str(error.get("param") or ""),
        request_id=raw.headers.get("x-request-id", ""),
    )


def limits(headers: Mapping[str, str]) -> LimitReport | None:
    """Read `x-ratelimit-*`."""
    if "x-ratelimit-limit-requests" not in headers and "x-ratelimit-limit-tokens" not in headers:
        return None
    get = headers.get
    return LimitReport(
        refusals.number(get("x-ratelimit-limit-requests")),
        refusals.number(get("x-ratelimit-remaining-requests")),
        refusals.seconds(get("x-ratelimit-reset-requests")),
        refusals.number(get("x-ratelimit-limit-tokens")),
        refusals.number(get("x-ratelimit-remaining-tokens")),
        refusals.seconds(get("x-ratelimit-reset-tokens")),
    )


def connect(key: Key, address: Address) -> StainlessTransport:
    """Open a client. Call it on the loop that will use it."""
    import openai

    client = openai.AsyncOpenAI(
        api_key=key.reveal(),
        base_url=address or None,
        default_headers=address.headers(),
        max_retries=0,
        timeout=None,
        http_client=openai.DefaultAioHttpClient(timeout=None),
    )
    return StainlessTransport(client)


def _usage(usage: Any, total_in: str, total_out: str) -> Usage | None:
    if not isinstance(usage, dict) or usage.get(total_in) is None:
        return None
    details = usage.get(f"{total_in}_details") or {}
    produced = usage.get(f"{total_out}_details") or {}
    return Usage(
        usage[total_in],
        usage.get(total_out) or 0,
        details.get("cached_tokens") or 0,
        details.get("cache_write_tokens") or 0,
        produced.get("reasoning_tokens") or 0,
    )
