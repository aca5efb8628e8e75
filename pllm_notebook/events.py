"""What happens while rows are asked, for listeners of one's own: a run's start, each call's end, the run's end.

    pllm.configure(on_event=print)

Listeners are called in a thread of the package's own, one event after the other, so a slow one delays no request. One
that raises is reported in the log, once, and called no more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["CallEnded", "Event", "EventListener", "RunEnded", "RunStarted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A run begins; again after each retry.

    Attributes:
        run: Its id.
        at: Seconds since 1970.
        model: As asked, with its provider: `openai:gpt-6-luna`.
        rows: How many are asked about.
        mode: `async`, `sync` or `batch`.
    """

    run: str
    at: float
    model: str
    rows: int
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded:
    """A call was answered, or failed for good. What the cache answers is no call, and has no event.

    Attributes:
        run: Id of its run.
        at: Seconds since 1970.
        model: As asked, with its provider.
        served: The model that answered, as the provider names it; "" for a failure.
        latency_s: Seconds that the last request took; of a batch job's line, since it was submitted.
        requests: Requests that were sent for it, those refused included.
        failure: The kind of failure, None for a reply.
        finish: How the reply ended (`stop`, `length`, …); "" for a failure.
        input_tokens: As the provider counts them, None where it did not say.
        output_tokens: As the provider counts them, None where it did not say.
        cost_usd: None where the price or the usage is unknown.
        request_id: The provider's own, "" for none.
        batch: Whether it was a line of a batch job.
        joined: Whether another run had sent an equal call already, whose request it shared: that run's event has the
            same tokens and cost, which were paid once.
        prompt: Returns the prompt as text; None where the call continues another one. Nothing is rendered before.
        answer: The reply's text, "" for a failure.
    """

    run: str
    at: float
    model: str
    served: str
    latency_s: float
    requests: int
    failure: str | None
    finish: str
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    request_id: str
    batch: bool
    joined: bool = False
    # An event that is printed or logged shows no text of rows.
    prompt: Callable[[], str] | None = field(repr=False)
    answer: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """A run has ended.

    Attributes:
        run: Its id.
        at: Seconds since 1970.
        model: As asked, with its provider.
        state: `done`, `cancelled` or `failed`.
        answered: Rows that calls of this run answered.
        cached: Rows that the cache answered.
        failed: Rows that failed.
        not_sent: Rows that the ceiling or a stop kept from being sent.
        cost_usd: What was paid, None where a price is unknown.
    """

    run: str
    at: float
    model: str
    state: str
    answered: int
    cached: int
    failed: int
    not_sent: int
    cost_usd: float | None


Event = RunStarted | CallEnded | RunEnded
EventListener = Callable[[Event], object]
