"""The values that pass between rooms. Frozen, and free of behaviour.

Words: a *call* is one request to a model, fully determined by its content; a *reply* is
what came back; an *outcome* is the reply or failure of one row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from typing_extensions import deprecated

from pllm_notebook.messages_types import ProviderMessage, ToolCall

__all__ = [
    "BatchLimits",
    "BatchResult",
    "Finish",
    "JobProgress",
    "LimitReport",
    "Price",
    "Progress",
    "RawReply",
    "RemoteJob",
    "Reply",
    "Spent",
    "Usage",
]


class Finish(StrEnum):
    """How a reply ended. Only `COMPLETE` and `CALLED` can become a value.

    `CALLED` is a whole reply that calls tools, with or without words beside the calls. `UNFINISHED` is one whose
    reason to end is not one that its format has for a whole reply.
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
        joined_usd: Of the cost, that of calls which another run had sent already: its cost has them, too.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = 0.0
    perhaps_requests: int = 0
    perhaps_usd: float = 0.0
    joined_usd: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        costs = self.cost_usd, other.cost_usd
        return Spent(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            None if None in costs else sum(cost for cost in costs if cost is not None),
            self.perhaps_requests + other.perhaps_requests,
            self.perhaps_usd + other.perhaps_usd,
            self.joined_usd + other.joined_usd,
        )

    @property
    def own_usd(self) -> float | None:
        """What its own requests cost, None for unknown: over several runs, the sum that was paid."""
        return None if self.cost_usd is None else max(0.0, self.cost_usd - self.joined_usd)


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for one call, or None if the model's price is unknown."""

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
        window_s: Seconds after which the provider answers no more requests of a job.
    """

    lines: int
    bytes: int
    window_s: float = 86_400.0


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """A batch job as its provider tells of it.

    Attributes:
        id: The provider's.
        state: "running" until nothing more will come; then "ended" (with results for all, or for some),
            "failed" (refused as a whole), "expired" or "cancelled" (with or without results).
        label: What it was created under, "" where the provider keeps no label.
        created_at: Seconds since the epoch.
        total: Requests; None if it is not reported.
        succeeded: Of them, as the provider counts; None if it is not reported, or not yet.
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
class JobProgress:
    """A batch job that a run waits for, or has waited for.

    Attributes:
        id: Ours, shortened.
        state: How far it is, in one word.
        total: Its requests.
        answered: Of them, as the provider counts; None where it does not say.
        failed: The same.
        created_at: Seconds since the epoch.
        ends_at: When the provider's window ends, None before the provider has made it, and once it has ended.
        price_usd: What its answers cost, or are expected to; None for unknown.
        is_open: Whether anything more will happen to it.
        message: What is wrong, "" for nothing.
    """

    id: str
    state: str
    total: int
    answered: int | None
    failed: int | None
    created_at: float
    ends_at: float | None
    price_usd: float | None
    is_open: bool
    message: str = ""


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
        maybe_paid_requests: Further requests that may have been charged: lost, cancelled, or without reported usage.
        maybe_paid_usd: US dollars that these can have cost at most; 0.0 where nothing was reserved for them.
        reserved_usd: US dollars reserved for the requests that are out, under a ceiling.
        joined_usd: Of the cost, that of calls which another run had sent already: its cost has them, too.
        note: One line of news ("at the provider's limit", "waiting 12 s"), "" for none.
        state: "running", "done", "cancelled" or "failed".
        unit: What its rows are: "row", "prompt", or "line" of a request file.
        is_batch: Whether its calls go by batch job.
        jobs: The batch jobs that it waits for; at the end, those that it waited for.
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
    maybe_paid_requests: int = 0
    maybe_paid_usd: float = 0.0
    reserved_usd: float = 0.0
    unit: str = "row"
    is_batch: bool = False
    jobs: tuple[JobProgress, ...] = ()
    joined_usd: float = 0.0

    @property
    def open_jobs(self) -> tuple[JobProgress, ...]:
        """The batch jobs that go on at the provider; none once the run is done and every row has its outcome."""
        # The last answers arrive before the job that brought them is recorded as done.
        if self.state == "done" and not self.pending:
            return ()
        return tuple(job for job in self.jobs if job.is_open)

    @property
    def pending(self) -> int:
        """Rows with no outcome yet."""
        return self.total - self.done - self.cached - self.failed - self.not_sent - self.skipped

    @property
    @deprecated("Progress.perhaps_requests is now maybe_paid_requests.")
    def perhaps_requests(self) -> int:
        """`maybe_paid_requests` by its old name, which stays for one release."""
        return self.maybe_paid_requests

    @property
    @deprecated("Progress.perhaps_usd is now maybe_paid_usd.")
    def perhaps_usd(self) -> float:
        """`maybe_paid_usd` by its old name, which stays for one release."""
        return self.maybe_paid_usd
