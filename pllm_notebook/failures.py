"""The reasons why a row has no value: the table of failure kinds, and the failure records.

A new kind is one row of `FailureKind` and one line of docs/errors.md. Retries, the failure log, request files and
`ParallelLLM` read the table's columns and have no lists of kinds of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple, Self

from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.formatting import strip_control_chars
from pllm_notebook.request_errors import (
    APIError,
    AuthenticationError,
    LLMTimeoutError,
    LLMValidationError,
    ModelError,
    ParallelLLMError,
    RateLimitError,
)
from pllm_notebook.types import Usage

__all__ = ["FailedCall", "Failure", "FailureFacts", "FailureKind", "kinds_named", "truncate", "ways_to_send_again"]


class FailureFacts(NamedTuple):
    """The columns of the table: how the rest of the package treats a kind of failure.

    Attributes:
        retried: The same request can succeed if sent again.
        fatal: Every other row would fail in the same way, so the run ends (see `execution.rejections`).
        maybe_paid: The provider may have charged for a request that ended this way.
        logged: The failure log keeps it. False if nothing was sent, or if it is unknown how the call would have ended.
        rejected: The provider rejected this request because of its content. It would be rejected again, provided that
            its status confirms this.
        reply_kept: The complete reply is in the cache, and the next run reads it instead of paying again.
        type_decides: Another type may read a value from the same reply. The failure is then removed from the log.
        line: The count of a request file's results that includes a failed line.
        error: The exception that `ParallelLLM` raises.
    """

    retried: bool = False
    fatal: bool = False
    maybe_paid: bool = False
    logged: bool = True
    rejected: bool = False
    reply_kept: bool = False
    type_decides: bool = False
    line: Literal["rate_limit_errors", "api_errors", "other_errors", "not_sent"] = "other_errors"
    error: type[ParallelLLMError] = ParallelLLMError


_Facts = FailureFacts
_PLAIN = FailureFacts()


class FailureKind(StrEnum):
    """Why a row has no value, as shown in `out.llm.errors`."""

    retried: bool
    fatal: bool
    maybe_paid: bool
    facts: FailureFacts

    def __new__(cls, value: str, facts: FailureFacts = _PLAIN) -> Self:
        kind = str.__new__(cls, value)
        kind._value_ = value
        kind.facts = facts
        kind.retried, kind.fatal, kind.maybe_paid = facts.retried, facts.fatal, facts.maybe_paid
        return kind

    # The reply is complete and paid for. The same request would give the same reply.
    REFUSAL = "refusal", _Facts(reply_kept=True, error=LLMValidationError)
    FILTERED = "content_filter", _Facts(rejected=True, reply_kept=True, line="api_errors", error=LLMValidationError)
    TRUNCATED = "truncated", _Facts(reply_kept=True, error=LLMValidationError)
    INVALID_JSON = "invalid_json", _Facts(reply_kept=True, type_decides=True, error=LLMValidationError)
    SCHEMA = "schema", _Facts(reply_kept=True, type_decides=True, error=LLMValidationError)
    # The reply is complete and paid for, but another request may bring an answer: it ended abnormally, or is empty.
    UNFINISHED = "unfinished", _Facts(retried=True, error=LLMValidationError)
    EMPTY = "empty", _Facts(retried=True, type_decides=True, error=LLMValidationError)
    # The model called tools that the run does not run, or kept calling the tools that the run ran.
    TOOL_CALL = "tool_call", _Facts(reply_kept=True)
    # The provider rejected only this request.
    BAD_REQUEST = "bad_request", _Facts(rejected=True, line="api_errors", error=APIError)
    # A retry can succeed.
    RATE_LIMIT = "rate_limit", _Facts(retried=True, line="rate_limit_errors", error=RateLimitError)
    OVERLOADED = "overloaded", _Facts(retried=True, line="api_errors", error=APIError)
    SERVER = "server_error", _Facts(retried=True, line="api_errors", error=APIError)
    CONNECTION = "connection", _Facts(retried=True, maybe_paid=True, error=APIError)
    TIMEOUT = "timeout", _Facts(retried=True, maybe_paid=True, error=LLMTimeoutError)
    MALFORMED = "malformed_reply", _Facts(retried=True, maybe_paid=True, error=APIError)
    # A batch job ended without an answer to the call.
    EXPIRED = "expired", _Facts(retried=True)
    MISSING = "missing", _Facts(retried=True)
    # Every row would fail in the same way, so the run ends.
    AUTHENTICATION = "authentication", _Facts(fatal=True, line="api_errors", error=AuthenticationError)
    PERMISSION = "permission", _Facts(fatal=True, line="api_errors", error=AuthenticationError)
    UNKNOWN_MODEL = "unknown_model", _Facts(fatal=True, line="api_errors", error=ModelError)
    QUOTA = "quota", _Facts(fatal=True, line="api_errors", error=RateLimitError)
    REJECTED = "rejected", _Facts(fatal=True, error=APIError)
    # The caller's `decide` function returned no answer.
    DECISION = "decision", _Facts(logged=False)
    # Nothing was sent.
    INPUT = "input", _Facts(logged=False)
    NOT_CACHED = "not_cached", _Facts(logged=False, line="not_sent")
    BUDGET = "budget", _Facts(logged=False, line="not_sent")
    CANCELLED = "cancelled", _Facts(logged=False, line="not_sent")
    # Answered and paid for, but the cache could not store it.
    NOT_STORED = "not_stored", _Facts(logged=False, line="not_sent")


def kinds_named(kinds: Iterable[str]) -> frozenset[FailureKind]:
    """Return the failure kinds for names from the user.

    Raises:
        UsageError: If one does not exist, or a string is given instead of a list. Nothing was sent.
    """
    if isinstance(kinds, str):
        raise UsageError(f"Kinds of failure are a list, such as [{kinds!r}], not {kinds!r}. Nothing was sent.")
    if not isinstance(kinds, Iterable):
        raise UsageError(f"Kinds of failure are a list, not {kinds!r}. Nothing was sent.")
    known = {str(kind): kind for kind in FailureKind}
    named = list(kinds)
    for kind in named:
        if kind not in known:
            raise UsageError(
                f"There is no kind of failure {kind!r}.{guess(str(kind), list(known))} There are {', '.join(known)}. "
                "Nothing was sent."
            )
    return frozenset(known[kind] for kind in named)


# Replies may be very long, and each failed row keeps its own.
_MAX_MESSAGE_CHARS = 2_000
_MAX_RAW_CHARS = 100_000
_MAX_FIELD_CHARS = 200


def truncate(text: str, most: int) -> str:
    """Return the beginning of a text, with "…" if it was truncated."""
    return text if len(text) <= most else text[: most - 1] + "…"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row has no value.

    Attributes:
        kind: The failure kind, for code to branch on.
        message: One readable line without control characters, at most 2,000 characters.
        status: HTTP status. None without a response.
        raw: The first 100,000 characters of the response text. "" for none.
        attempts: Number of requests sent.
        request_id: The provider's id of the last request, for support requests.
        retry_after_s: Seconds that the provider asked to wait. None if it did not.
        field: The request's field that the provider rejected. "" if unknown.
        cost_usd: US dollars paid despite the failure. None if unknown.
        usage: Tokens that the provider reported for the failed request. None for none.
    """

    kind: FailureKind
    message: str
    status: int | None = None
    raw: str = ""
    attempts: int = 0
    request_id: str = ""
    retry_after_s: float | None = None
    field: str = ""
    cost_usd: float | None = 0.0
    usage: Usage | None = None

    def __post_init__(self) -> None:
        # The message contains text from providers and models, and is printed.
        object.__setattr__(self, "message", strip_control_chars(truncate(self.message, _MAX_MESSAGE_CHARS)))
        if len(self.field) > _MAX_FIELD_CHARS:
            object.__setattr__(self, "field", "")
        if len(self.raw) > _MAX_RAW_CHARS:
            object.__setattr__(self, "raw", truncate(self.raw, _MAX_RAW_CHARS))

    @property
    def maybe_paid(self) -> bool:
        """Whether the provider may have charged for the request, by its kind or a success status."""
        return self.kind.maybe_paid or self.cost_usd is None


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A call that failed for good, as stored beside the answers.

    Attributes:
        key: Key of the call.
        failure: The failure, with redacted texts and truncated raw text.
        model: The model's name as the user writes it.
        at: Seconds since the epoch.
        body: The intended body as JSON, redacted and truncated.
        prompt: The beginning of the row's prompt, redacted.
        position: The row's position, from 0. None if the call was not about one row.
        label: The row's label. "" for none.
        run: Id of the run.
        asked: Short description of the run's question.
        about_row: Whether the row itself was refused, so that sending it again cannot help. False if the reason may be
            the account or the configuration.
    """

    key: str
    failure: Failure
    model: str
    at: float
    body: str = ""
    prompt: str = ""
    position: int | None = None
    label: str = ""
    run: str = ""
    asked: str = ""
    about_row: bool = True


def ways_to_send_again(kind: str) -> str:
    """Return how to send a stored failure of this kind again, as the subject of a sentence."""
    return f"run.retry(kinds=[{kind!r}]) or cache='refresh'"
