"""The status of a request file: its lines, counted by result."""

from __future__ import annotations

from dataclasses import dataclass

from pllm_notebook.formatting import format_usd

__all__ = ["FileStatus"]


@dataclass(frozen=True, slots=True)
class FileStatus:
    """The lines of a request file, counted by result.

    Attributes:
        save_filepath: Path of the results file.
        total: Requests in the file.
        done_before: Lines that had a result before this run, a response or an error.
        started: Lines processed in this run, from the cache or by a call.
        in_progress: Started lines that have not ended.
        succeeded: Started lines with a response from the provider, whatever its content.
        failed: Started lines with an error.
        rate_limit_errors: Failed lines that ended with a rate limit, after all attempts.
        api_errors: Failed lines that the provider rejected for another reason, or could not serve.
        other_errors: All other failed lines: no connection, a timeout, an invalid request.
        not_sent: Lines without a result, because of `max_cost_usd`, because the answer is not in the cache
            (`cache="only"`), or because the run was stopped.
        cached: Succeeded lines that were answered from the cache.
        cost_usd: Cost of this run in US dollars, None if unknown.
        failed_before: Lines among `done_before` whose result is an error; `retry_errors=True` sends them again.
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
    not_sent: int
    cached: int
    cost_usd: float | None
    failed_before: int = 0

    @property
    def complete(self) -> bool:
        """Whether every line has a result. Meaningful once the run has ended."""
        return self.not_sent == 0 and self.in_progress == 0

    @property
    def put_off(self) -> int:
        """Former name of `not_sent`, to be removed in the next release."""
        return self.not_sent

    def __str__(self) -> str:
        errors = f" ({self.failed_before:,} with an error)" if self.failed_before else ""
        before = f", {self.done_before:,} done before{errors}" if self.done_before else ""
        left = f"; {self.not_sent:,} not sent" if self.not_sent else ""
        return (
            f"{self.save_filepath}: {self.started:,} started, {self.in_progress:,} in progress, "
            f"{self.succeeded:,} succeeded ({self.cached:,} from the cache), {self.failed:,} failed "
            f"({self.rate_limit_errors:,} rate limit errors, {self.api_errors:,} API errors, "
            f"{self.other_errors:,} other errors){left}{before}; {format_usd(self.cost_usd)}"
        )
