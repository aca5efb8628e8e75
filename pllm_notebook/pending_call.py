"""One call on its way to a provider, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.types import RawReply, Reply, Usage

__all__ = ["CallResult", "PendingCall"]


@dataclass(slots=True)
class CallResult:
    """The result of one call, with its attempts and its latency.

    Attributes:
        result: The reply, or the failure of the last attempt.
        raw: The last response as received, None where there was none.
        attempts: Requests that were sent, those refused by a rate limit included.
        latency_s: Of the last request.
        maybe_paid: Requests that brought no reply but may have been charged.
        failed_usage: Tokens of each request that failed and was charged, as the provider reports it.
        over_budget: Whether it was not sent again because the budget did not allow one more request.
        output_limit: The output limit in tokens that the request carried, where that is lower than the call's own;
            else None.
        joined: The source of the call that the request was sent for, where that is another run's; else None.
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
    """One call, from the moment that a run offers it until it is done.

    Attributes:
        key: Calls with equal keys and output limits share one request, whichever runs they belong to.
        content: Builds the request's bytes; called before every attempt, since what is known of the server may have
            changed.
        tokens: Estimated tokens that it takes of the token limit.
        tag: Opaque to the engine; the run's own.
        funded: Requests that the run has reserved money for. The first is funded when the call is made.
        answer_tokens: Estimated tokens of the answer; 0.0 if it is not needed.
        output_limit: Output limit of the call in tokens, None for no limit.
        wire_limit: Output limit in tokens that the budget allows its request, where that is lower; else None. An answer
            cut off there is asked for again.
        sent: Requests that were sent.
        attempts: Requests that failed for another reason than a rate limit.
        refusals: Requests that a rate limit refused.
        refused_since: Time of the first refusal on the loop's clock.
        replies_then: Replies that the dispatcher had received by then.
        adaptations: Times the request was adapted to the server and sent again.
        maybe_paid: Requests that brought no reply but may have been charged.
        failed_usage: Tokens of each request that failed and was charged, as the provider reports it.
        held: Whether a limit held it back when it was first to be sent: another run may have brought its answer since.
        hedged: Whether it was sent a second time while the first request was still out.
        last_result: Result of the last attempt, None before it was to be sent again.
        first_failure: Time of the first failure, and replies that the dispatcher had received by then; None before,
            and where the caller set no `RetryBounds`.
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
        """Whether money is reserved for one request more than was or may have been charged."""
        return self.maybe_paid + len(self.failed_usage) < self.funded

    def count_charge(self, failure: Failure) -> None:
        """Count what the provider has charged, or may have charged, for a failed request."""
        if not failure.maybe_paid:
            return
        if failure.usage is None:
            self.maybe_paid += 1
        else:
            self.failed_usage = (*self.failed_usage, failure.usage)

    def result(
        self, result: Reply | Failure, raw: RawReply | None, latency_s: float, *, output_limit: int | None = None
    ) -> CallResult:
        """Return the result of the call, with what its requests were and may have been charged."""
        return CallResult(
            result, raw, self.sent, latency_s, self.maybe_paid, self.failed_usage, output_limit=output_limit
        )

    def count_failure(self, kind: FailureKind, now: float, replies: int) -> None:
        """Count a failed request, at a dispatcher that has received *replies* replies."""
        if kind is not FailureKind.RATE_LIMIT:
            self.attempts += 1
            return
        if not self.refusals:
            self.refused_since, self.replies_then = now, replies
        self.refusals += 1
