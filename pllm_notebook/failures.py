"""Why a row has no value: the one table of failure kinds, and the values that carry a failure.

A new kind is one row of `FailureKind` and one line of docs/errors.md. Retries, the failure log, request files and
`ParallelLLM` read the columns; none of them has a list of kinds of its own.
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
        retried: The same request can succeed when it is sent again.
        fatal: Every other row would meet the same failure, so the run ends (see `execution.rejections`).
        maybe_paid: The provider may have charged for a request that ended so.
        logged: The failure log keeps it. False where nothing was sent, or where it is unknown how the call would have
            ended.
        rejected: The provider rejected this one request for its content. Sent again, it is rejected again, provided
            that its status says so.
        reply_kept: The whole reply is in the cache, and the next run reads it instead of paying again.
        type_decides: Another type may read a value from the same reply; the log forgets the failure then.
        line: The count of a request file's results that a failed line adds to.
        error: What `ParallelLLM` raises.
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
    """Why a row has no value: the word a person sees in `out.llm.errors`."""

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

    # The reply came whole and was paid for; the same request brings the same again.
    REFUSAL = "refusal", _Facts(reply_kept=True, error=LLMValidationError)
    FILTERED = "content_filter", _Facts(rejected=True, reply_kept=True, line="api_errors", error=LLMValidationError)
    TRUNCATED = "truncated", _Facts(reply_kept=True, error=LLMValidationError)
    INVALID_JSON = "invalid_json", _Facts(reply_kept=True, type_decides=True, error=LLMValidationError)
    SCHEMA = "schema", _Facts(reply_kept=True, type_decides=True, error=LLMValidationError)
    # It came whole and was paid for, and another request may bring an answer: it ended for a reason that is not a
    # normal end, or it is empty.
    UNFINISHED = "unfinished", _Facts(retried=True, error=LLMValidationError)
    EMPTY = "empty", _Facts(retried=True, type_decides=True, error=LLMValidationError)
    # The model called tools, and the run does not run them; or it ran them, and the model kept calling.
    TOOL_CALL = "tool_call", _Facts(reply_kept=True)
    # The provider rejected this one request.
    BAD_REQUEST = "bad_request", _Facts(rejected=True, line="api_errors", error=APIError)
    # It can succeed again.
    RATE_LIMIT = "rate_limit", _Facts(retried=True, line="rate_limit_errors", error=RateLimitError)
    OVERLOADED = "overloaded", _Facts(retried=True, line="api_errors", error=APIError)
    SERVER = "server_error", _Facts(retried=True, line="api_errors", error=APIError)
    CONNECTION = "connection", _Facts(retried=True, maybe_paid=True, error=APIError)
    TIMEOUT = "timeout", _Facts(retried=True, maybe_paid=True, error=LLMTimeoutError)
    MALFORMED = "malformed_reply", _Facts(retried=True, maybe_paid=True, error=APIError)
    # A batch job ended without an answer to it.
    EXPIRED = "expired", _Facts(retried=True)
    MISSING = "missing", _Facts(retried=True)
    # Every row would meet it; the run ends.
    AUTHENTICATION = "authentication", _Facts(fatal=True, line="api_errors", error=AuthenticationError)
    PERMISSION = "permission", _Facts(fatal=True, line="api_errors", error=AuthenticationError)
    UNKNOWN_MODEL = "unknown_model", _Facts(fatal=True, line="api_errors", error=ModelError)
    QUOTA = "quota", _Facts(fatal=True, line="api_errors", error=RateLimitError)
    REJECTED = "rejected", _Facts(fatal=True, error=APIError)
    # The caller's own `decide` function returned no answer.
    DECISION = "decision", _Facts(logged=False)
    # Nothing was sent.
    INPUT = "input", _Facts(logged=False)
    NOT_CACHED = "not_cached", _Facts(logged=False, line="not_sent")
    BUDGET = "budget", _Facts(logged=False, line="not_sent")
    CANCELLED = "cancelled", _Facts(logged=False, line="not_sent")
    # Answered and paid for, but the cache could not store it.
    NOT_STORED = "not_stored", _Facts(logged=False, line="not_sent")


def kinds_named(kinds: Iterable[str]) -> frozenset[FailureKind]:
    """Return the kinds of failure that a person names.

    Raises:
        UsageError: If one does not exist, or a string is given in place of a list. Nothing was sent.
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


# A provider may answer with a page, and a model with a book; each failed row keeps its own.
_MAX_MESSAGE_CHARS = 2_000
_MAX_RAW_CHARS = 100_000
_MAX_FIELD_CHARS = 200


def truncate(text: str, most: int) -> str:
    """Return the beginning of a text, with "…" where something is missing."""
    return text if len(text) <= most else text[: most - 1] + "…"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row has no value.

    Attributes:
        kind: One of a few words that code may branch on.
        message: One line for a person, without control characters, of at most 2,000 characters.
        status: HTTP status, None where there was no response.
        raw: The text that came back, "" for none; the first 100,000 characters of it.
        attempts: Requests sent for it.
        request_id: The provider's name for the last request, for its support.
        retry_after_s: Seconds the provider asked us to wait, None for no word.
        field: The request's field that the provider rejected, "" for unknown.
        cost_usd: What was paid all the same, None for unknown.
        usage: Tokens that the provider reports for the request that failed, None for none.
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
        # Providers' and models' words are in it, and it is printed.
        object.__setattr__(self, "message", strip_control_chars(truncate(self.message, _MAX_MESSAGE_CHARS)))
        if len(self.field) > _MAX_FIELD_CHARS:
            object.__setattr__(self, "field", "")
        if len(self.raw) > _MAX_RAW_CHARS:
            object.__setattr__(self, "raw", truncate(self.raw, _MAX_RAW_CHARS))

    @property
    def maybe_paid(self) -> bool:
        """Whether the provider may have charged for the request: its kind says so, or it came as a success."""
        return self.kind.maybe_paid or self.cost_usd is None


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A call that failed for good, as it is kept beside the answers.

    Attributes:
        key: Of the call.
        failure: Why; its texts are redacted, and its raw text is cut.
        model: As a person writes it.
        at: When, in seconds since the epoch.
        body: The intended body as JSON, redacted and cut.
        prompt: The beginning of the row's prompt, redacted.
        position: The row, counted from 0; None where the call was not about one row of the caller's.
        label: The row's own name, "" for none.
        run: Id of the run.
        asked: What the run asked, in a few words.
        about_row: Whether the row itself was refused, so that sending it again cannot help. False where what is
            refused may be the account's or the set-up's.
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
    """Return what sends a kept failure of this kind again, as the subject of a sentence."""
    return f"run.retry(kinds=[{kind!r}]) or cache='refresh'"
