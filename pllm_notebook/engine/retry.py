"""Whether and when a failed request is sent again."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pllm_notebook.exceptions import sentence
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.formatting import format_duration
from pllm_notebook.pending_call import PendingCall

__all__ = ["RetryBounds", "paced_refusals", "retried_as", "retry_delay_s", "with_wait"]

# In this module a refusal is a rate limit's (a 429 response), not a model's. After its first refusals without a stated
# wait, a call is sent again as soon as the limiter allows. A call that is refused more often than this does not fit
# what the limiter has learned, and backs off separately.
PACED_REFUSALS = 3
# If calls are refused at random, some are refused many times in a row. A streak that chance produces in one call of
# this many is not a sign of another cause, and waiting would not help.
ONE_IN_CALLS = 1e6
MAX_PACED_REFUSALS = 16
FIRST_DELAY_S = 0.25
MAX_DELAY_S = 8.0
# Calls due at the same time are spread over this many seconds after it.
SPREAD_S = 0.1
# A run does not wait longer than this, even if the provider states a longer wait: the user should decide.
MAX_STATED_S = 600.0
# A refusal is free and only means "later", so a call may be refused many times. It fails if no call was admitted for
# this long (a limit per clock minute may admit none for a minute), ...
MAX_SHUT_S = 120.0
# ... or if others were admitted and it never was for this long: a request larger than the whole limit.
MAX_REFUSED_S = 600.0


def retry_delay_s(
    kind: FailureKind,
    *,
    attempts: int,
    refusals: int,
    retry_after_s: float | None,
    max_retries: int,
    draw: float,
    refused_for_s: float = 0.0,
    others_pass: bool = False,
    paced: int = PACED_REFUSALS,
) -> float | None:
    """Return the seconds to wait before a request is sent again, None for never.

    Args:
        kind: Failure kind of the last request.
        attempts: Number of requests of this call that failed for a reason other than a rate limit.
        refusals: Number of requests refused by a rate limit. They do not count as attempts.
        retry_after_s: The wait stated by the provider, None if it stated none.
        max_retries: Maximum attempts beyond the first.
        draw: Random number from [0, 1), so that calls that failed together do not retry together.
        refused_for_s: Seconds since the first refusal.
        others_pass: Whether other calls to the same model have been answered since then.
        paced: Number of refusals without a stated wait up to which the limiter alone decides when to send again.
    """
    if not kind.retried:
        return None
    if kind is FailureKind.RATE_LIMIT:
        if max_retries == 0 or refused_for_s > (MAX_REFUSED_S if others_pass else MAX_SHUT_S):
            return None
        if retry_after_s is not None and retry_after_s <= MAX_STATED_S:
            return retry_after_s + min(0.1 * retry_after_s, SPREAD_S) * draw
        if retry_after_s is None and refusals <= paced:
            return 0.0
        # While other calls are admitted, a stated wait longer than MAX_STATED_S is ignored: no call has to wait for it.
        return _backoff(min(max(refusals - paced, 1), 6), draw) if retry_after_s is None or others_pass else None
    if retry_after_s is not None and retry_after_s > MAX_STATED_S:
        return None
    if attempts > max_retries:
        return None
    return max(retry_after_s or 0.0, _backoff(attempts, draw))


def paced_refusals(random_share: float) -> int:
    """Return how many consecutive rate-limit refusals (429) chance explains if *random_share* of calls is refused.

    Refusals are assumed to be independent: with share p, a call is refused k times in a row with probability p ** k.
    That is one in a million at 5 refusals for p = 0.05, at 9 for p = 0.2, and at 12 for p = 0.3.
    """
    if not 0 < random_share < 1:
        return PACED_REFUSALS
    explained = math.ceil(-math.log(ONE_IN_CALLS) / math.log(random_share))
    return min(MAX_PACED_REFUSALS, max(PACED_REFUSALS, explained))


def retried_as(failure: Failure) -> FailureKind:
    """Return the kind that decides about retries.

    An authentication failure without a status counts as a connection failure: the client itself could not sign in,
    and may succeed the next time.
    """
    unsigned = failure.kind is FailureKind.AUTHENTICATION and failure.status is None
    return FailureKind.CONNECTION if unsigned else failure.kind


def _backoff(nth: int, draw: float) -> float:
    return float(min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (max(nth, 1) - 1)) * (0.5 + 0.5 * draw))


def with_wait(failure: Failure) -> Failure:
    """Add the stated wait to a failure's message if it is longer than a run waits."""
    if failure.retry_after_s is None or failure.retry_after_s <= MAX_STATED_S:
        return failure
    asked, most = format_duration(failure.retry_after_s), format_duration(MAX_STATED_S)
    wait = f"The provider asks to wait {asked}, and a run waits {most} at most."
    return replace(failure, message=f"{sentence(failure.message)} {wait}")


@dataclass(frozen=True, slots=True)
class RetryBounds:
    """The caller's retry bounds for each call. They replace the engine's defaults, which are more patient.

    A rate-limit refusal counts as an attempt only while the provider admits no other call. So a call waits for a limit
    that admits others, and runs out of retries at one that admits none.

    Attributes:
        total_s: Maximum seconds from the first failure to the last attempt, None for no bound.
    """

    total_s: float | None = None

    def exceeded(self, call: PendingCall, *, now: float, delay_s: float, replies: int, max_retries: int) -> bool:
        """Return whether a failed call is out of retries. The time of its first failure is recorded in the call.

        Args:
            call: The failed call.
            now: Seconds on the loop's clock.
            delay_s: Seconds until the call would be sent again.
            replies: Number of replies received, for all runs.
            max_retries: Maximum attempts beyond the first.
        """
        if call.first_failure is None:
            call.first_failure = now, replies
        since, replies_then = call.first_failure
        if self.total_s is not None and now + delay_s - since > self.total_s:
            return True
        return replies == replies_then and call.attempts + call.refusals > max_retries
