"""How long one call is tried, where a caller's own numbers say so and not the engine's patience with a long run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pllm_notebook.engine.feed import Job

__all__ = ["Patience"]


@dataclass(frozen=True, slots=True)
class Patience:
    """The caller's own bounds for each call.

    A refusal by a rate limit counts as an attempt here while the provider lets no other call through: a limit that
    lets others through is waited for, and one that lets nobody through is told.

    Attributes:
        whole_s: Seconds from the first failure to the last attempt, None for no bound.
    """

    whole_s: float | None = None

    def is_over(self, job: Job, *, now: float, delay_s: float, landed: int, max_retries: int) -> bool:
        """Return whether a call that failed and could be tried again is given up.

        Args:
            job: The call; its first failure is noted in it.
            now: Seconds on the loop's clock.
            delay_s: Seconds until it would be sent again.
            landed: Replies that have come back, whoever asked.
            max_retries: Attempts beyond the first.
        """
        if job.failed_first is None:
            job.failed_first = now, landed
        since, landed_then = job.failed_first
        if self.whole_s is not None and now + delay_s - since > self.whole_s:
            return True
        return landed == landed_then and job.attempts + job.refusals > max_retries
