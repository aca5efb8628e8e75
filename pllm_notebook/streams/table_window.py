"""The tables of one stream whose runs go: their money, their display, and the end of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pllm_notebook.callers import Caller
from pllm_notebook.exceptions import BudgetError, RunInterrupted
from pllm_notebook.execution import LiveRun, RunWindow, WindowProgress
from pllm_notebook.types import Progress

__all__ = ["Answered", "Submit", "TablePiece", "TableWindow"]


class TablePiece(NamedTuple):
    """Rows that are one run.

    Attributes:
        name: What the caller knows them by.
        data: A frame.
    """

    name: str
    data: Any


class Answered(NamedTuple):
    """A piece whose run was started, and has ended when it is taken.

    Attributes:
        piece: The piece.
        run: Its run, which nothing else holds then.
    """

    piece: TablePiece
    run: LiveRun

    def is_over(self) -> bool:
        """Return whether its run has ended."""
        return self.run.done()

    def open_rows(self, counts: Progress) -> int:
        """Return the number of its rows without an outcome."""
        # A run that has ended leaves rows pending where other senders ask about them.
        return counts.pending if counts.state == "running" else 0


Submit = Callable[[Any], LiveRun]
"""Starts the run of one frame, with money that it shares."""


class TableWindow(RunWindow[Answered]):
    """The runs of one stream of tables, taken in order. Used from one thread at a time, but for `stop`.

    Args:
        submit: Starts a run.
        rows: Rows without an outcome that are wanted at least.
        progress: The display of all of them.
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
            UsageError: If it cannot be asked. Nothing was sent for it.
        """
        return Answered(piece, self._submit(piece.data))

    def add(self, piece: Answered | None) -> None:
        """Hold a piece whose run was started, and show it; None for the end of the source."""
        super().add(piece)
        if piece is not None:
            self._progress.open(self, piece.run)

    def fill(self, started: Iterator[Answered]) -> None:
        """Start as many pieces as are wanted now, and show what goes."""
        super().fill(started)
        self.show()

    def show(self) -> None:
        """Show the counts of this moment."""
        self._progress.update(self.runs)

    def take(self) -> Answered:
        """Remove the first piece, whose run has ended.

        Raises:
            StoppedError: What ended the run.
            UsageError: When nothing could be sent (no key, no package).
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
            self.is_read = True  # the money is spent: what follows could only be answered in part
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
        self._progress.close(self.runs, "done" if self.error is None else "failed")
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
        if self.error is not None:
            raise self.error

    def abandon(self) -> list[LiveRun]:
        """Stop, show it, and return the runs that have not ended; from here on none is held."""
        self.stop()
        self._progress.close(self.runs, "cancelled")
        return super().abandon()
