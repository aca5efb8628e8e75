"""The limits of their own that a run's options state, kept by all courses of the run together."""

from __future__ import annotations

from pllm_notebook.engine import UserRateLimit
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.settings import Options

__all__ = ["UserRateLimits", "user_rate_limit"]


def user_rate_limit(options: Options, *, rates: bool = True) -> tuple[UserRateLimit, ...]:
    """Return what *options* limit, empty for nothing.

    Args:
        options: As resolved.
        rates: Whether the rates count; they do not where a question has rates of its own in their place.
    """
    stated = (options.requests_per_min, options.tokens_per_min) if rates else (None, None)
    if options.concurrency is None and stated == (None, None):
        return ()
    return (UserRateLimit(*stated, options.concurrency),)


class UserRateLimits:
    """One ceiling for each that the questions of a run state: those that state the same share it."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], tuple[UserRateLimit, ...]] = {}

    def of(self, ask: CallSpec) -> tuple[UserRateLimit, ...]:
        """Return what the calls of *ask* keep, empty for nothing."""
        options, rates = ask.options, ask.ceiling is None
        stated = (options.concurrency, options.requests_per_min, options.tokens_per_min, rates)
        if stated not in self._made:
            self._made[stated] = user_rate_limit(options, rates=rates)
        return self._made[stated] if ask.ceiling is None else (*self._made[stated], ask.ceiling)
