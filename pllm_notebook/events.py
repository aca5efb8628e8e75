"""Events for your own listeners: a run's start, the end of each call, and the run's end.

    pllm.configure(on_event=print)

Listeners are called in a separate thread, one event at a time, so a slow listener does not delay requests. A listener
that raises is logged once and not called again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["CallEnded", "Event", "EventListener", "RunEnded", "RunStarted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A run starts. Also emitted after each retry.

    Attributes:
        run: Id of the run.
        at: Seconds since 1970.
        model: The requested model with its provider: `openai:gpt-6-luna`.
        rows: Number of rows.
        mode: `async`, `sync` or `batch`.
    """

    run: str
    at: float
    model: str
    rows: int
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded:
    """A call was answered or failed for good. Cached answers have no event.

    Attributes:
        run: Id of its run.
        at: Seconds since 1970.
        model: As asked, with its provider.
        served: The provider's name of the model that answered. "" for a failure.
        latency_s: Seconds of the last request. For a line of a batch job, seconds since its submission.
        requests: Number of requests sent for it, including refused ones.
        failure: The failure kind. None for a reply.
        finish: How the reply ended (`stop`, `length`, …). "" for a failure.
        input_tokens: Input tokens reported by the provider. None if not reported.
        output_tokens: Output tokens reported by the provider. None if not reported.
        cost_usd: Cost in US dollars. None if the price or the usage is unknown.
        request_id: The provider's request id. "" for none.
        batch: Whether it was a line of a batch job.
        joined: Whether it shared the request of another run that had already sent an equal call. That run's event has
            the same tokens and cost, which were paid for once.
        prompt: Returns the prompt as text, rendered only on call. None if the call continues another one.
        answer: The reply's text. "" for a failure.
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
    # A printed or logged event shows no text of rows.
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
        answered: Rows answered by calls of this run.
        cached: Rows answered from the cache.
        failed: Rows that failed.
        not_sent: Rows not sent because of `max_cost_usd` or a stop.
        cost_usd: US dollars paid. None if a price is unknown.
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
