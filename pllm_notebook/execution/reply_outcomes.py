"""Outcomes of replies without a usable value: the failure of the row, with the usage of all earlier replies."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pllm_notebook.exceptions import sentence
from pllm_notebook.execution.follow_ups import UnreadReply
from pllm_notebook.execution.outcome import Outcome
from pllm_notebook.failures import Failure, FailureKind, ways_to_send_again
from pllm_notebook.formatting import strip_control_chars
from pllm_notebook.redaction import redact
from pllm_notebook.types import Finish

__all__ = ["failed", "unread", "unusable"]

_UNUSABLE = {
    Finish.TRUNCATED: (
        FailureKind.TRUNCATED,
        "The reply was cut off at the output limit{limit}. Give a larger max_output_tokens.",
    ),
    Finish.REFUSED: (FailureKind.REFUSAL, "The model refused{detail}."),
    Finish.FILTERED: (FailureKind.FILTERED, "The provider's content filter stopped the reply{detail}."),
    Finish.UNFINISHED: (
        FailureKind.UNFINISHED,
        "The reply ended for a reason that is not a normal end{detail}. Running the cell again asks again.",
    ),
}
_SHOWN_DETAIL = 500

_KEPT = frozenset(
    {
        FailureKind.REFUSAL,
        FailureKind.FILTERED,
        FailureKind.TRUNCATED,
        FailureKind.INVALID_JSON,
        FailureKind.SCHEMA,
        FailureKind.TOOL_CALL,
    }
)


def failed(reply: UnreadReply, kind: FailureKind, message: str, raw: str | None = None) -> Outcome:
    """Return the outcome of a reply without a usable value.

    Args:
        reply: The reply.
        kind: The failure kind.
        message: The message for the user, without the time of storage.
        raw: The raw text to show; None for the reply's text.
    """
    outcome = Outcome(None, None, reply.key, reply.paid, reply.cached, reply.entry)
    paid_replies = outcome.replies()
    outcome.failure = Failure(
        kind=kind,
        message=f"{sentence(message)}{_kept_since(kind, paid_replies[-1])}" if reply.cached else message,
        status=200,
        raw=reply.entry.text.decode("utf-8", "replace") if raw is None else raw,
        attempts=sum(metadata["attempts"] for metadata in paid_replies),
        request_id=paid_replies[-1]["request_id"],
        cost_usd=outcome.cost_usd,
    )
    return outcome


def unusable(reply: UnreadReply) -> Outcome:
    """Return the outcome of a reply that is not a complete answer and calls no tools."""
    entry = reply.entry
    kind, message = _UNUSABLE[entry.finish]
    detail = strip_control_chars(entry.metadata["detail"][:_SHOWN_DETAIL]).strip()
    limit = f" of {entry.output_limit:,} tokens" if entry.output_limit else ""
    detail = f": {detail.rstrip('.')}" if detail else ""
    # If an unusual finish has no text, show the response body; a refusal's text is in its message.
    kept = entry.text or entry.finish is not Finish.UNFINISHED
    raw = None if kept else entry.raw[:2000].decode("utf-8", "replace")
    return failed(reply, kind, message.format(limit=limit, detail=detail), raw)


def _kept_since(kind: FailureKind, decoded_reply: Mapping[str, Any]) -> str:
    """Describe when a stored failure was stored and how to ask again; "" for a kind that is not stored."""
    if kind not in _KEPT:
        return ""
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(decoded_reply["created_at"]))
    return f" Kept since {when} UTC and not paid for again; {ways_to_send_again(str(kind))} asks again."


def unread(reply: UnreadReply, error: Exception) -> Outcome:
    """Return the outcome of a reply that could not be read because of an internal error."""
    message = redact(f"The reply could not be read: {type(error).__name__}: {error}"[:500])
    try:
        return failed(reply, FailureKind.MALFORMED, message)
    except Exception:  # its metadata cannot be read either
        raw = reply.entry.text.decode("utf-8", "replace")
        failure = Failure(FailureKind.MALFORMED, message, status=200, raw=raw, attempts=1, cost_usd=None)
        return Outcome(None, failure, reply.key, (), reply.cached)
