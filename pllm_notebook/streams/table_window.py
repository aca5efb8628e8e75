"""The running tables of one stream: their budget, display and end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pllm_notebook.callers import Caller
from pllm_notebook.exceptions import BudgetError, RunInterrupted
from pllm_notebook.execution import LiveRun, RunWindow, WindowProgress
from pllm_notebook.types import Progress

__all__ = ["Answered", "Submit", "TablePiece", "TableWindow"]


class TablePiece(NamedTuple):
    """The rows of one run.

    Attributes:
        name: The caller's name for them.
        data: A frame.
    """

    name: str
    data: Any


class Answered(NamedTuple):
    """A piece whose run was started. The run has ended when the piece is taken.

    Attributes:
        piece: The piece.
        run: Its run, to which nothing else refers once it is taken.
    """

    piece: TablePiece
    run: LiveRun

    def is_over(self) -> bool:
        """Return whether its run has ended."""
        return self.run.done()

    def open_rows(self, counts: Progress) -> int:
        """Return the number of its rows without an outcome."""
        # In an ended run, rows are pending if other senders are asking about them.
        return counts.pending if counts.state == "running" else 0


Submit = Callable[[Any], LiveRun]
"""Starts the run of one frame, with the shared budget."""


class TableWindow(RunWindow[Answered]):
    """The runs of one stream of tables, taken in order. Used from one thread at a time, except for `stop`.

    Args:
        submit: Starts a run.
        rows: Minimum number of rows in progress.
        progress: The display of all runs.
    """

    def __init__(self, submit: Submit, rows: int, progress: WindowProgress) -> None:
        super().__init__(rows)
        self._submit = submit
        self._progress = progress
        self._kept = self._total = self._not_sent = 0
        self._news: dict[str, None] = {}

    def start(self, piece: TablePiece) -> Answered:
        """Start the run of a piece.

        Raises:
            UsageError: If it is invalid. Nothing was sent for it.
        """
        return Answered(piece, self._submit(piece.data))

    def add(self, piece: Answered | None) -> None:
        """Add a piece whose run was started and show it; None for the end of the source."""
        super().add(piece)
        if piece is not None:
            self._progress.open(self, piece.run)

    def fill(self, started: Iterator[Answered]) -> None:
        """Start as many pieces as are currently wanted, and update the display."""
        super().fill(started)
        self.show()

    def show(self) -> None:
        """Show the current counts."""
        self._progress.update(self.runs)

    def take(self) -> Answered:
        """Remove the first piece, whose run has ended.

        Raises:
            StoppedError: If the run was ended by an error.
            UsageError: If nothing could be sent (no key, no package).
        """
        answered = super().take()
        run, counts = answered.run, answered.run.progress()
        self._kept += counts.done + counts.cached
        self._total += counts.total
        self._not_sent += counts.not_sent
        self._progress.add(counts)
        if run.execution.error is not None:
            raise run.execution.error
        if run.state == "cancelled":
            raise RunInterrupted("Stopped.", kept=self._kept, total=self._total)
        if counts.not_sent:
            self.is_read = True  # the budget is exhausted: further tables could only be answered in part
        if run.execution.unsaved:
            self._news["The cache cannot be written, so some answers are in these tables alone: keep them."] = None
        self._news.update(dict.fromkeys(run.execution.warnings))
        return answered

    def finish(self, called_by: Caller) -> None:
        """Close the display, and warn or raise for the whole stream.

        Raises:
            BudgetError: If rows were not sent because of `max_cost_usd`.
            Exception: Any exception of the source of the tables.
        """
        self._progress.close(self.runs, "done" if self.error is None else "failed")
        failed = self._progress.failed
        if failed and not self._progress.stays:
            self._news[f"{failed:,} of {self._total:,} rows failed and have no answer."] = None
        for line in self._news:
            called_by.warn(line)
        if self._not_sent:
            raise BudgetError(
                f"max_cost_usd was reached: {self._not_sent:,} rows of the tables that were read were not sent, and "
                f"no further table was read. Raise it to continue.",
                kept=self._kept,
                total=self._total,
            )
        if self.error is not None:
            raise self.error

    def abandon(self) -> list[LiveRun]:
        """Stop the stream, close the display, drop all runs, and return those that have not ended."""
        self.stop()
        self._progress.close(self.runs, "cancelled")
        return super().abandon()
