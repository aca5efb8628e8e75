"""Runs over consecutive tables: a few ahead of the one whose answers are taken next, and nothing of those taken.

A table is a run of its own, so limits, retries, cached answers and failures are those of `df.llm.parse`. What the runs
share is here: the order, the money, the display and the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from pllm_notebook.callers import Caller
from pllm_notebook.exceptions import BudgetError, RunInterrupted
from pllm_notebook.execution import LiveRun, RunBudget, WindowProgress, forget

__all__ = ["Answered", "RunWindow", "Submit", "TablePiece"]

# Rows that have no outcome are kept at this multiple of the calls on the wire: a window that has just enough would run
# dry at the end of each table.
_AHEAD = 2
# Tables whose first one is late are held up to this multiple of the rows that are wanted ahead.
_MOST_HELD = 3


class TablePiece(NamedTuple):
    """Rows that are one run.

    Attributes:
        name: What the caller knows them by.
        data: A frame.
    """

    name: str
    data: Any


class Answered(NamedTuple):
    """A piece whose run has ended.

    Attributes:
        piece: The piece.
        run: Its run, which nothing else holds.
    """

    piece: TablePiece
    run: LiveRun


Submit = Callable[[Any, RunBudget], LiveRun]
"""Starts the run of one frame, with money that it shares."""


class RunWindow:
    """The runs of one stream of tables. Used from one thread at a time, but for `stop`.

    Args:
        submit: Starts a run.
        rows: Rows without an outcome that are wanted at least.
        max_cost_usd: The ceiling of all runs together, None for none.
        progress: The display of all of them.
    """

    def __init__(self, submit: Submit, *, rows: int, max_cost_usd: float | None, progress: WindowProgress) -> None:
        self._submit = submit
        self._rows = rows
        self._budget = RunBudget(max_cost_usd)
        self._progress = progress
        self._going: deque[Answered] = deque()
        self._is_read = False
        self._error: BaseException | None = None
        self._kept = self._total = self._not_sent = 0
        self._news: dict[str, None] = {}

    @property
    def wants_more(self) -> bool:
        """Whether another piece is to be read now."""
        if self._is_read:
            return False
        counts = [run.progress() for run in self._runs()]
        wanted = max(self._rows, _AHEAD * sum(one.in_flight for one in counts))
        held = sum(one.total for one in counts)
        # A run that has ended leaves rows pending where other senders ask about them.
        pending = sum(one.pending for one in counts if one.state == "running")
        return pending < wanted and held < _MOST_HELD * wanted

    def add(self, piece: TablePiece) -> None:
        """Start the run of the next piece; one that cannot be asked is the last, and its error comes at the end."""
        try:
            run = self._submit(piece.data, self._budget)
        except Exception as error:
            self.no_more(error)
            return
        self._going.append(Answered(piece, run))
        self._progress.open(self, run)

    def no_more(self, error: Exception | None = None) -> None:
        """Note that no further piece comes; *error* is why, where it is not the end. What was started is answered."""
        self._is_read, self._error = True, error

    def show(self) -> None:
        """Show the counts of this moment."""
        self._progress.update(self._runs())

    @property
    def head(self) -> LiveRun | None:
        """The run whose answers are next, None where all were taken."""
        return self._going[0].run if self._going else None

    def take(self) -> Answered:
        """Remove the first run, which has ended.

        Raises:
            StoppedError: What ended the run.
            UsageError: When nothing could be sent (no key, no package).
        """
        answered = self._going.popleft()
        run, counts = answered.run, answered.run.progress()
        forget(run)
        self._kept += counts.done + counts.cached
        self._total += counts.total
        self._not_sent += counts.not_sent
        self._progress.add(counts)
        if run.execution.error is not None:
            raise run.execution.error
        if run.state == "cancelled":
            raise RunInterrupted("Stopped.", kept=self._kept, total=self._total)
        if counts.not_sent:
            self._is_read = True  # the money is spent: what follows could only be answered in part
        if run.execution.unsaved:
            self._news["The cache cannot be written, so some answers are in these tables alone: keep them."] = None
        self._news.update(dict.fromkeys(run.execution.warnings))
        return answered

    def finish(self, called_by: Caller) -> None:
        """Close the display, and say what is wrong with the whole.

        Raises:
            BudgetError: When rows were not sent because of `max_cost_usd`.
            Exception: What the source of the tables raised.
        """
        self._progress.close(self._runs(), "done" if self._error is None else "failed")
        failed = self._progress.failed
        if failed and not self._progress.stays:
            self._news[f"{failed:,} of {self._total:,} rows failed and have no answer."] = None
        for line in self._news:
            called_by.warn(line)
        if self._not_sent:
            raise BudgetError(
                f"max_cost_usd was reached: {self._not_sent:,} rows of the tables that were read were not sent, and "
                f"no further table was read. Raise it to go on.",
                kept=self._kept,
                total=self._total,
            )
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Start nothing more, and cancel what is going. From any thread."""
        self._is_read = True
        for run in self._runs():
            run.cancel()

    def abandon(self) -> list[LiveRun]:
        """Stop, and return the runs that have not ended; from here on none is held."""
        self.stop()
        going = [run for run in self._runs() if not run.done()]
        for run in self._runs():
            forget(run)
        self._progress.close(self._runs(), "cancelled")
        self._going.clear()
        return going

    def _runs(self) -> list[LiveRun]:
        return [one.run for one in list(self._going)]
