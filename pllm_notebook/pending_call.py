"""One call on its way to a provider, and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.types import RawReply, Reply, Usage

__all__ = ["CallResult", "PendingCall"]


@dataclass(slots=True)
class CallResult:
    """The result of one call, with its attempts and latency.

    Attributes:
        result: The reply, or the failure of the last attempt.
        raw: The last response as received. None without one.
        attempts: Number of requests sent, including those refused by a rate limit.
        latency_s: Latency of the last request.
        maybe_paid: Requests without a reply that may have been charged.
        failed_usage: Tokens of each failed request that was charged, as reported by the provider.
        over_budget: Whether a retry was not sent because the budget did not allow it.
        output_limit: The request's output limit in tokens, if lower than the call's own. Otherwise None.
        joined: The source of the call that the request was sent for, if that is another run's. Otherwise None.
    """

    result: Reply | Failure
    raw: RawReply | None
    attempts: int
    latency_s: float
    maybe_paid: int = 0
    failed_usage: tuple[Usage, ...] = ()
    over_budget: bool = False
    output_limit: int | None = None
    joined: object | None = None


@dataclass(eq=False, slots=True)
class PendingCall:
    """One call, from the time that a run offers it until it is done.

    Attributes:
        key: The cache key. Calls of any run with equal keys and output limits share one request.
        content: Builds the request's bytes. Called before every attempt, because knowledge about the server may have
            changed.
        tokens: Estimated tokens that count towards the token limit.
        tag: The run's own data, opaque to the engine.
        funded: Requests that the run has reserved money for. The first is funded when the call is made.
        answer_tokens: Estimated tokens of the answer. 0.0 if not needed.
        output_limit: Output limit of the call in tokens. None for no limit.
        wire_limit: Output limit in tokens that the budget allows for the request, if lower. Otherwise None. An answer
            cut off there is requested again.
        sent: Number of requests sent.
        attempts: Requests that failed for a reason other than a rate limit.
        refusals: Requests refused by a rate limit.
        refused_since: Time of the first refusal on the loop's clock.
        replies_then: Replies that the dispatcher had received by then.
        adaptations: How often the request was adapted to the server and sent again.
        maybe_paid: Requests without a reply that may have been charged.
        failed_usage: Tokens of each failed request that was charged, as reported by the provider.
        held: Whether a limit delayed its first request, so that another run may have received its answer meanwhile.
        hedged: Whether it was sent a second time while the first request was in flight.
        last_result: Result of the last attempt. None before a retry.
        first_failure: Time of the first failure, and replies that the dispatcher had received by then. None before a
            failure, and if the caller set no `RetryBounds`.
    """

    key: str
    content: Callable[[], bytes]
    tokens: float
    tag: Any = None
    funded: int = 1
    answer_tokens: float = 0.0
    output_limit: int | None = None
    wire_limit: int | None = None
    sent: int = 0
    attempts: int = 0
    refusals: int = 0
    refused_since: float = 0.0
    replies_then: int = 0
    adaptations: int = 0
    maybe_paid: int = 0
    failed_usage: tuple[Usage, ...] = ()
    held: bool = False
    hedged: bool = False
    last_result: CallResult | None = None
    first_failure: tuple[float, int] | None = None

    @property
    def is_funded(self) -> bool:
        """Whether money is reserved for one more request than those that were or may have been charged."""
        return self.maybe_paid + len(self.failed_usage) < self.funded

    def count_charge(self, failure: Failure) -> None:
        """Count the actual or possible charge for a failed request."""
        if not failure.maybe_paid:
            return
        if failure.usage is None:
            self.maybe_paid += 1
        else:
            self.failed_usage = (*self.failed_usage, failure.usage)

    def result(
        self, result: Reply | Failure, raw: RawReply | None, latency_s: float, *, output_limit: int | None = None
    ) -> CallResult:
        """Return the result of the call, with the actual and possible charges of its requests."""
        return CallResult(
            result, raw, self.sent, latency_s, self.maybe_paid, self.failed_usage, output_limit=output_limit
        )

    def count_failure(self, kind: FailureKind, now: float, replies: int) -> None:
        """Count a failed request. *replies* is the number of replies that the dispatcher has received."""
        if kind is not FailureKind.RATE_LIMIT:
            self.attempts += 1
            return
        if not self.refusals:
            self.refused_since, self.replies_then = now, replies
        self.refusals += 1
