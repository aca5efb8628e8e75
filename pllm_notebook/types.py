"""Records that the packages exchange. They are frozen and have almost no behaviour.

Terms: a *call* is one request to a model, fully determined by its content; a *reply* is
the model's response; an *outcome* is the reply or failure of one row.
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

    `CALLED` is a complete reply that calls tools, with or without text next to the calls. `UNFINISHED` is a reply with
    a stop reason that its format does not use for complete replies.
    """

    COMPLETE = "complete"
    CALLED = "called"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    FILTERED = "filtered"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one call, with the same meaning for every provider.

    `input_tokens` is the total, including cache reads and writes; `output_tokens` is the number
    billed as output, including reasoning.
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
        """Sum of input and output tokens."""
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
    """Total usage and cost of several calls.

    Attributes:
        input_tokens: Input tokens of all replies.
        output_tokens: Output tokens of all replies.
        cached_tokens: Input tokens that providers read from their prompt caches.
        cost_usd: Cost in US dollars; None if any call has an unknown price, so that no partial sum looks complete.
        perhaps_requests: Other requests that may have been charged: lost, cancelled, or without reported usage.
        perhaps_usd: Maximum cost of these in US dollars; 0.0 if nothing was reserved for them, because the run has no
            cost limit.
        joined_usd: The part of the cost for calls that another run had already sent. That run's cost includes it too.
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
        """Cost of the run's own requests, None if unknown. Summed over several runs, it is the amount paid."""
        return None if self.cost_usd is None else max(0.0, self.cost_usd - self.joined_usd)


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one call in US dollars, or None if the model's price is unknown."""

    total_usd: float | None


@dataclass(frozen=True, slots=True)
class RawReply:
    """An unparsed HTTP response with any status."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer, in the same form for every provider.

    `text` is "" if there was none. `detail` is the text of a refusal or content filter.
    `calls` and `echo` are set if the model called tools.
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
    """The account's rate limits from a response's headers. None means not reported.

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
    """A provider's limits for one batch job.

    Attributes:
        lines: Maximum number of requests.
        bytes: Maximum size of the request file.
        window_s: Seconds after which the provider answers no more requests of a job.
    """

    lines: int
    bytes: int
    window_s: float = 86_400.0


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """A batch job as reported by its provider.

    Attributes:
        id: The provider's job id.
        state: "running" until no more results will come; then "ended" (with results for all or some requests),
            "failed" (rejected as a whole), "expired" or "cancelled" (with or without results).
        label: The label it was created with, "" if the provider keeps no labels.
        created_at: Creation time in seconds since the epoch.
        total: Number of requests; None if not reported.
        succeeded: Number of successful requests as counted by the provider; None if not reported, or not yet.
        failed: Number of failed requests; None as above.
        message: The provider's message about a failed job, "" for none.
        files: The provider's names of the result files, which `BatchAPI.results` needs.
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
        custom_id: The submitted id.
        raw: The response, None if the request was never answered.
        failure: Why there is no response: "expired", "cancelled", or the provider's own word; "" if there is one.
    """

    custom_id: str
    raw: RawReply | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class JobProgress:
    """A batch job that a run waits for or waited for.

    Attributes:
        id: Our job id, shortened.
        state: State in one word.
        total: Number of requests.
        answered: Number of answered requests as counted by the provider; None if not reported.
        failed: Number of failed requests; None if not reported.
        created_at: Creation time in seconds since the epoch.
        ends_at: End of the provider's window; None before the provider has created the job and after it has ended.
        price_usd: Actual or expected cost of the answers in US dollars; None if unknown.
        is_open: Whether the job can still change.
        message: Description of a problem, "" for none.
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
    """A snapshot of a run's state for displays.

    Rows add up: `done + cached + failed + not_sent + skipped + pending == total`. `done` rows were answered by
    calls of this run (equal rows each count) and `cached` rows by the store. `not_sent` rows were not sent because of
    `max_cost_usd`.

    Attributes:
        label: The question, shown at the beginning of the display.
        model: `provider:name`.
        simulated: Whether the answers are simulated.
        in_flight: Number of calls on the wire.
        rows_per_s: Rows per second over the last few seconds.
        eta_s: Estimated seconds left, None if unknown.
        cached_tokens: Input tokens that the provider read from its prompt cache.
        cost_usd: Cost of this run in US dollars, None if the price is unknown.
        budget_usd: The cost limit, None for none.
        maybe_paid_requests: Other requests that may have been charged: lost, cancelled, or without reported usage.
        maybe_paid_usd: Maximum cost of these in US dollars; 0.0 if nothing was reserved for them.
        reserved_usd: US dollars reserved for the requests in flight, if there is a cost limit.
        joined_usd: The part of the cost for calls that another run had already sent. That run's cost includes it too.
        note: A one-line note ("at the provider's limit", "waiting 12 s"), "" for none.
        state: "running", "done", "cancelled" or "failed".
        unit: Name of one row: "row", "prompt", or "line" for a request file.
        is_batch: Whether the calls are sent as batch jobs.
        jobs: The batch jobs that the run waits for; at the end, those that it waited for.
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
        """The batch jobs still open at the provider; empty once the run is done and every row has its outcome."""
        # The last answers arrive before their job is recorded as done.
        if self.state == "done" and not self.pending:
            return ()
        return tuple(job for job in self.jobs if job.is_open)

    @property
    def pending(self) -> int:
        """Number of rows without an outcome."""
        return self.total - self.done - self.cached - self.failed - self.not_sent - self.skipped

    @property
    @deprecated("Progress.perhaps_requests is now maybe_paid_requests.")
    def perhaps_requests(self) -> int:
        """The old name of `maybe_paid_requests`, kept for one release."""
        return self.maybe_paid_requests

    @property
    @deprecated("Progress.perhaps_usd is now maybe_paid_usd.")
    def perhaps_usd(self) -> float:
        """The old name of `maybe_paid_usd`, kept for one release."""
        return self.maybe_paid_usd
