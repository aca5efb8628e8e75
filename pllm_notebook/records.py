"""The values that pass between the rooms of the house. Frozen, and free of behaviour.

Words: a *call* is one request to a model, fully determined by its content; a *reply* is
what came back; an *outcome* is the reply or failure of one row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pllm_notebook.escaping import strip_control_chars
from pllm_notebook.messages_types import ProviderMessage, ToolCall

__all__ = [
    "REJECTED_KINDS",
    "BatchLimits",
    "BatchResult",
    "FailedCall",
    "Failure",
    "FailureKind",
    "Finish",
    "LimitReport",
    "Price",
    "Progress",
    "RawReply",
    "RemoteJob",
    "Reply",
    "Spent",
    "Usage",
]


class FailureKind(StrEnum):
    """Why a row has no value: the word a person sees in `out.llm.errors`."""

    # The reply came whole and was paid for; asking the same again gives the same.
    REFUSAL = "refusal"
    FILTERED = "content_filter"
    TRUNCATED = "truncated"
    INVALID_JSON = "invalid_json"
    SCHEMA = "schema"
    # It came whole and was paid for, and asking again may bring an answer: it ended for a reason that is not a normal
    # end, or it holds nothing.
    UNFINISHED = "unfinished"
    EMPTY = "empty"
    # The model called tools, and nobody was told to run them; or they were run, and it went on calling.
    TOOL_CALL = "tool_call"
    # The provider rejected this one request.
    BAD_REQUEST = "bad_request"
    # It can succeed again.
    RATE_LIMIT = "rate_limit"
    OVERLOADED = "overloaded"
    SERVER = "server_error"
    CONNECTION = "connection"
    TIMEOUT = "timeout"
    MALFORMED = "malformed_reply"
    # A batch job ended without an answer to it.
    EXPIRED = "expired"
    MISSING = "missing"
    # Every row would meet it; the run stops.
    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    UNKNOWN_MODEL = "unknown_model"
    QUOTA = "quota"
    REJECTED = "rejected"
    # The caller's own `decide` function gave no answer out of those that came.
    DECISION = "decision"
    # Nothing was sent.
    INPUT = "input"
    NOT_CACHED = "not_cached"
    BUDGET = "budget"
    CANCELLED = "cancelled"
    # Answered and paid for, but the cache could not keep it.
    NOT_STORED = "not_stored"

    @property
    def retried(self) -> bool:
        """Whether the same request can succeed when it is sent again."""
        return self in _RETRIED

    @property
    def fatal(self) -> bool:
        """Whether every other row would meet the same failure (see `run.refused` for how that is told)."""
        return self in _FATAL

    @property
    def maybe_paid(self) -> bool:
        """Whether the provider may have charged for a request that ended so."""
        return self in _MAYBE_PAID


_RETRIED = frozenset(
    {
        FailureKind.RATE_LIMIT,
        FailureKind.OVERLOADED,
        FailureKind.SERVER,
        FailureKind.CONNECTION,
        FailureKind.TIMEOUT,
        FailureKind.MALFORMED,
        FailureKind.UNFINISHED,
        FailureKind.EMPTY,
        FailureKind.EXPIRED,
        FailureKind.MISSING,
    }
)
_FATAL = frozenset(
    {
        FailureKind.AUTHENTICATION,
        FailureKind.PERMISSION,
        FailureKind.UNKNOWN_MODEL,
        FailureKind.QUOTA,
        FailureKind.REJECTED,
    }
)
# How a provider rejects one request for what it says; whether that stands, its status tells.
REJECTED_KINDS = (FailureKind.BAD_REQUEST, FailureKind.FILTERED)

_MAYBE_PAID = frozenset({FailureKind.CONNECTION, FailureKind.TIMEOUT, FailureKind.MALFORMED})


class Finish(StrEnum):
    """How a reply ended. Only `COMPLETE` and `CALLED` can become a value.

    `CALLED` is a whole reply that calls tools, with or without words beside the calls. `UNFINISHED` is one whose
    reason to end is none of those that its format has for a whole reply.
    """

    COMPLETE = "complete"
    CALLED = "called"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    FILTERED = "filtered"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, in the same sense for every provider.

    `input_tokens` is the total, cache reads and writes included; `output_tokens` is what
    is billed as output, reasoning included.
    """

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        """`input_tokens`, as OpenAI's client names it."""
        return self.input_tokens

    @property
    def completion_tokens(self) -> int:
        """`output_tokens`, as OpenAI's client names it."""
        return self.output_tokens

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    @property
    def cache_read_input_tokens(self) -> int:
        """`cache_read_tokens`, as Anthropic's client names it."""
        return self.cache_read_tokens

    @property
    def cache_creation_input_tokens(self) -> int:
        """`cache_write_tokens`, as Anthropic's client names it."""
        return self.cache_write_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class Spent:
    """What calls have used and cost together.

    Attributes:
        input_tokens: Of all replies.
        output_tokens: Of all replies.
        cached_tokens: Input tokens that providers read from their prompt caches.
        cost_usd: US dollars; None once a call of unknown price is among them, so that no sum looks whole that is not.
        perhaps_requests: Requests that may have been charged besides: lost, cancelled, or without word of their usage.
        perhaps_usd: US dollars that these can have cost at most; 0.0 where nothing was reserved for them, since the
            run has no ceiling.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = 0.0
    perhaps_requests: int = 0
    perhaps_usd: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        costs = self.cost_usd, other.cost_usd
        return Spent(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            None if None in costs else sum(cost for cost in costs if cost is not None),
            self.perhaps_requests + other.perhaps_requests,
            self.perhaps_usd + other.perhaps_usd,
        )


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for one call, or None where no one knows the model's price."""

    total_usd: float | None


@dataclass(frozen=True, slots=True)
class RawReply:
    """An HTTP response, whatever its status, before anyone has read it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered, in the same form for every provider.

    `text` is "" where there was none; `detail` carries the refusal's or filter's own words.
    `calls` and `echo` are there where it called tools.
    """

    text: str
    finish: Finish
    usage: Usage | None
    model: str
    request_id: str = ""
    detail: str = ""
    calls: tuple[ToolCall, ...] = ()
    echo: ProviderMessage | None = None


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

    def __post_init__(self) -> None:
        # Providers' and models' words are in it, and it is printed.
        object.__setattr__(self, "message", strip_control_chars(truncate(self.message, _MAX_MESSAGE_CHARS)))
        if len(self.field) > _MAX_FIELD_CHARS:
            object.__setattr__(self, "field", "")
        if len(self.raw) > _MAX_RAW_CHARS:
            object.__setattr__(self, "raw", truncate(self.raw, _MAX_RAW_CHARS))


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


@dataclass(frozen=True, slots=True)
class LimitReport:
    """What a response's headers say of the account's limits. None: not said.

    `reset_*_s` is the time in seconds until the bucket is full again.
    """

    limit_requests: float | None = None
    remaining_requests: float | None = None
    reset_requests_s: float | None = None
    limit_tokens: float | None = None
    remaining_tokens: float | None = None
    reset_tokens_s: float | None = None


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one batch job of a provider may hold.

    Attributes:
        lines: Requests.
        bytes: Of the request file.
    """

    lines: int
    bytes: int


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """A batch job as its provider tells of it.

    Attributes:
        id: The provider's.
        state: "running" until nothing more will come; then "ended" (with results for all, or for some),
            "failed" (refused as a whole), "expired" or "cancelled" (with or without results).
        label: What it was created under, "" where the provider keeps no label.
        created_at: Seconds since the epoch.
        total: Requests; None where it is not told.
        succeeded: Of them, as the provider counts; None where it is not told, or not yet.
        failed: The same.
        message: What the provider says of a failed job, "" for nothing.
        files: Where results are: what `BatchAPI.results` needs, as the provider named it.
    """

    id: str
    state: Literal["running", "ended", "failed", "expired", "cancelled"]
    label: str = ""
    created_at: float = 0.0
    total: int | None = None
    succeeded: int | None = None
    failed: int | None = None
    message: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchResult:
    """One line of a job's results.

    Attributes:
        custom_id: As submitted.
        raw: The response, None where the request was never answered.
        failure: Why it was not: "expired", "cancelled", or the provider's own word; "" where it was.
    """

    custom_id: str
    raw: RawReply | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a run at one moment, as displays see it.

    Rows add up: `done + cached + failed + not_sent + skipped + pending == total`; `done` were answered by
    calls of this run (equal rows each count), `cached` by the store; `not_sent` are those for which `max_cost_usd`
    left no money.

    Attributes:
        label: What is being asked, for the display's first words.
        model: `provider:name`.
        simulated: Whether the answers are invented.
        in_flight: Calls on the wire now.
        rows_per_s: Over the last few seconds.
        eta_s: Seconds left at that pace, None for unknown.
        cached_tokens: Of the input tokens, those that the provider read from its prompt cache.
        cost_usd: Paid by this run, None for unknown price.
        budget_usd: The ceiling, None for none.
        perhaps_requests: Requests that may have been charged besides: lost, cancelled, or without word of their usage.
        perhaps_usd: US dollars that these can have cost at most; 0.0 where nothing was reserved for them.
        reserved_usd: US dollars put by for the requests that are out, under a ceiling.
        note: One line of news ("at the provider's limit", "waiting 12 s"), "" for none.
        state: "running", "done", "cancelled" or "failed".
    """

    label: str
    model: str
    simulated: bool
    total: int
    done: int
    cached: int
    failed: int
    skipped: int
    in_flight: int
    elapsed_s: float
    rows_per_s: float
    eta_s: float | None
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    budget_usd: float | None
    note: str
    state: Literal["running", "done", "cancelled", "failed"]
    cached_tokens: int = 0
    not_sent: int = 0
    perhaps_requests: int = 0
    perhaps_usd: float = 0.0
    reserved_usd: float = 0.0

    @property
    def pending(self) -> int:
        """Rows with no outcome yet."""
        return self.total - self.done - self.cached - self.failed - self.not_sent - self.skipped
