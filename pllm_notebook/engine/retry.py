"""When a failed request is sent again: a pure function, so that a table can test it."""

from __future__ import annotations

from pllm_notebook.records import Failure, FailureKind

__all__ = ["retried_as", "retry_delay_s"]

# The limiter has learned from the refusal and lets the next call leave when there is room for it, whichever
# call that is. One that is refused again and again does not fit what was learned, and waits by itself.
PACED_REFUSALS = 3
FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 8.0
# A provider that names its own wait is believed up to here; beyond, a person should decide.
LONGEST_STATED_S = 600.0
# A refusal costs nothing and says only "later"; a run may meet thousands. This many for one
# call means that it will never be admitted (a request larger than the whole token limit).
MOST_REFUSALS = 50


def retry_delay_s(
    kind: FailureKind,
    *,
    attempts: int,
    refusals: int,
    retry_after_s: float | None,
    max_retries: int,
    draw: float,
) -> float | None:
    """Give the seconds to wait before sending again, None for never.

    Args:
        kind: How the last request failed.
        attempts: Requests of this call that failed otherwise than by a rate limit; they count.
        refusals: Requests that a rate limit turned away; they do not count as attempts.
        retry_after_s: What the provider asked for, None for no word.
        max_retries: Attempts beyond the first that the caller allows.
        draw: A number from [0, 1), so that calls that failed together do not return together.
    """
    if not kind.retried:
        return None
    if retry_after_s is not None and retry_after_s > LONGEST_STATED_S:
        return None
    if kind is FailureKind.RATE_LIMIT:
        if refusals > MOST_REFUSALS or max_retries == 0:
            return None
        if refusals <= PACED_REFUSALS:
            return 0.0
        if retry_after_s is not None:
            return retry_after_s * (1 + 0.1 * draw)
        return _backoff(min(refusals - PACED_REFUSALS, 6), draw)
    if attempts > max_retries:
        return None
    return max(retry_after_s or 0.0, _backoff(attempts, draw))


def retried_as(failure: Failure) -> FailureKind:
    """Return the kind by which a failure is tried again: a client that could not sign in may the next time."""
    unsigned = failure.kind is FailureKind.AUTHENTICATION and failure.status is None
    return FailureKind.CONNECTION if unsigned else failure.kind


def _backoff(nth: int, draw: float) -> float:
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** (max(nth, 1) - 1)) * (0.5 + 0.5 * draw))
