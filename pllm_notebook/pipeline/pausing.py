"""The quiet end of a program that waits for a batch: what is raised inside, and what a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pllm_notebook.run import Estimate
from pllm_notebook.shown import in_html, without_controls

__all__ = ["Paused", "Summary"]


@dataclass(frozen=True, slots=True)
class Summary:
    """Why a program stopped where it did, and how it goes on.

    Attributes:
        directory: Of the session.
        submitted: Calls that were submitted by this run of the program.
        jobs: Batch jobs that they went in.
        cost_usd: What those are expected to cost, None for unknown.
        awaited: Calls that the program waits for now, those included.
        awaited_jobs: Batch jobs that these are in.
        estimate: Of a dry run: what would have been sent. None for a run that is not dry.
        simulated: Whether the answers are invented.
    """

    directory: str
    submitted: int = 0
    jobs: int = 0
    cost_usd: float | None = 0.0
    awaited: int = 0
    awaited_jobs: int = 0
    estimate: Estimate | None = None
    simulated: bool = False

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return f"<pre>{in_html(repr(self))}</pre>"

    def lines(self) -> Sequence[str]:
        """Give it as a person reads it, a line at a time."""
        where = without_controls(self.directory) + (" SIMULATED" if self.simulated else "")
        if self.estimate is not None:
            told = "A dry run ends here: this would be asked next. Nothing was sent."
            return [f"{where}: {told}", *repr(self.estimate).splitlines()]
        parts = []
        if self.submitted:
            jobs = _many(self.jobs, "batch job")
            parts.append(f"submitted {_many(self.submitted, 'call')} in {jobs} ({self._price()})")
        parts.append(f"awaiting {_many(self.awaited, 'call')} in {_many(self.awaited_jobs, 'batch job')}")
        return [f"{where}: {'; '.join(parts)}.", "Run the program again to go on from here."]

    def _price(self) -> str:
        if self.cost_usd is None:
            return "an unknown price"
        return "less than $0.0001" if 0 < self.cost_usd < 0.0001 else f"about ${self.cost_usd:,.4f}"


class Paused(BaseException):
    """Ends the block of a session at a value that is not there yet; the session lets nobody see it.

    No `Exception`, so that a program's own `except Exception` does not take a pause for a failure; `finally` and
    context managers do their work.

    Attributes:
        summary: What is awaited.
    """

    def __init__(self, summary: Summary) -> None:
        self.summary = summary
        super().__init__("\n".join(summary.lines()))

    def _render_traceback_(self) -> list[str]:
        # Where the program has no `with session:` around it, this is all that a notebook shows.
        return list(self.summary.lines())


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
