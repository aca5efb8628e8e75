"""How the lines of a request file have ended, counted."""

from __future__ import annotations

from dataclasses import dataclass

from pllm_notebook.formatting import format_usd

__all__ = ["FileStatus"]


@dataclass(frozen=True, slots=True)
class FileStatus:
    """How the lines of a request file have ended.

    Attributes:
        save_filepath: Where the results are.
        total: Requests in the file.
        done_before: Of them, those that had a result when it began.
        started: Lines taken up this time, from the cache or by a call.
        in_progress: Of them, those that have not ended.
        succeeded: Of them, those with the provider's response, whatever it says.
        failed: Of them, those with an error.
        rate_limit_errors: Of the failed, those that ended with a rate limit, after all attempts.
        api_errors: Those that the provider refused otherwise, or could not serve.
        other_errors: All others: no connection, no answer in time, no request at all.
        put_off: Lines that have no result yet, for want of money (`max_cost_usd`), of an answer in the cache
            (`cache="only"`), or because it was stopped.
        cached: Of the succeeded, those that were in the cache.
        cost_usd: Paid this time, None for unknown.
    """

    save_filepath: str
    total: int
    done_before: int
    started: int
    in_progress: int
    succeeded: int
    failed: int
    rate_limit_errors: int
    api_errors: int
    other_errors: int
    put_off: int
    cached: int
    cost_usd: float | None

    @property
    def complete(self) -> bool:
        """Whether every line has its result."""
        return self.put_off == 0 and self.in_progress == 0

    def __str__(self) -> str:
        before = f", {self.done_before:,} done before" if self.done_before else ""
        left = f"; {self.put_off:,} not sent" if self.put_off else ""
        return (
            f"{self.save_filepath}: {self.started:,} started, {self.in_progress:,} in progress, "
            f"{self.succeeded:,} succeeded ({self.cached:,} from the cache), {self.failed:,} failed "
            f"({self.rate_limit_errors:,} rate limit errors, {self.api_errors:,} API errors, "
            f"{self.other_errors:,} other errors){left}{before}; {format_usd(self.cost_usd)}"
        )
