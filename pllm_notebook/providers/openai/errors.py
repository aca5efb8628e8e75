"""Errors, rate limits and usage, which all of OpenAI's formats share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.providers import errors, typed
from pllm_notebook.types import LimitReport, RawReply, Usage

__all__ = ["error_from", "limits", "usage_of"]

# Codes of a failed Response, with the status they mean; all others reject the request
# (openai/types/responses/response_error.py).
_FAILED_RESPONSE = {"": 502, "server_error": 500, "vector_store_timeout": 504, "rate_limit_exceeded": 429}
_NEVER_AGAIN = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})


def error_from(raw: RawReply) -> Failure:
    """Read OpenAI's error body: `{"error": {"message", "type", "param", "code"}}`."""
    body = errors.body_of(raw)
    error = body.get("error", body)  # compatible servers send an object, a string, or the fields in the body itself
    if not isinstance(error, dict):
        error = {"message": str(error)}
    code = str(error.get("code") or "")
    used = body.get("usage")
    kind = None
    if code in _NEVER_AGAIN or error.get("type") in _NEVER_AGAIN:
        kind = FailureKind.QUOTA
    elif code == "content_filter":  # Azure filters the prompt with a 400
        kind = FailureKind.FILTERED
    elif raw.status == 200:  # an error inside a success: a router's (OpenRouter) or a failed Response
        status = int(code) if code.isdigit() else _FAILED_RESPONSE.get(code, 400)
        raw = RawReply(status, raw.headers, raw.body)
    return errors.failure(
        raw,
        str(error.get("message") or ""),
        kind=kind,
        field=str(error.get("param") or ""),
        request_id=raw.headers.get("x-request-id", ""),
        usage=usage_of(used, "prompt_tokens", "completion_tokens") or usage_of(used, "input_tokens", "output_tokens"),
    )


def limits(headers: Mapping[str, str]) -> LimitReport | None:
    """Read the `x-ratelimit-*` headers; return None if there are none."""
    if "x-ratelimit-limit-requests" not in headers and "x-ratelimit-limit-tokens" not in headers:
        return None
    get = headers.get
    return LimitReport(
        errors.number(get("x-ratelimit-limit-requests")),
        errors.number(get("x-ratelimit-remaining-requests")),
        errors.seconds(get("x-ratelimit-reset-requests")),
        errors.number(get("x-ratelimit-limit-tokens")),
        errors.number(get("x-ratelimit-remaining-tokens")),
        errors.seconds(get("x-ratelimit-reset-tokens")),
    )


def usage_of(usage: Any, total_in: str, total_out: str) -> Usage | None:
    """Parse a response's usage; return None if it is missing or invalid.

    Args:
        usage: The response's `usage`.
        total_in: Name of the field for input tokens.
        total_out: Name of the field for output tokens.
    """
    if not isinstance(usage, dict):
        return None
    details, produced = usage.get(f"{total_in}_details"), usage.get(f"{total_out}_details")
    details = {} if details is None else details
    produced = {} if produced is None else produced
    if not isinstance(details, dict) or not isinstance(produced, dict):
        return None
    return typed.usage(
        usage.get(total_in),
        usage.get(total_out),
        details.get("cached_tokens"),
        details.get("cache_write_tokens"),
        produced.get("reasoning_tokens"),
    )
