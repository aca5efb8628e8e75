"""Runs over the consecutive pieces of something larger: a few go at once, and none is held that was taken.

A stream of tables and the lines of a request file are read piece by piece, each a run of its own, so limits, retries,
cached answers and failures are those of every run. What they have in common is here:

    window.fill(pieces)         the next piece is read, and its run started, while more rows are wanted
    window.take()               the first piece that was started, when it is over
    window.take_over()          or all that are over, whatever their order
    window.stop()               nothing more is started, and what goes is cancelled

Invariants:

- At least `rows` rows are open, and twice as many as calls are on the wire, while the source has more: the wire never
  runs dry at the end of a piece.
- At most `most_held` times the rows that are wanted are held by pieces that were not taken, so a late row, or a slow
  consumer, delays and does not fill the memory.
- An error of the source, or of a piece whose run cannot be started, ends the reading; what was started is answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from pllm_notebook.execution.live_run import LiveRun
from pllm_notebook.execution.run_registry import forget
from pllm_notebook.types import Progress

__all__ = ["RunWindow", "StartedPiece"]

# Rows that are open, as a multiple of the calls on the wire.
_AHEAD = 2


class StartedPiece(Protocol):
    """A piece whose run was started."""

    @property
    def run(self) -> LiveRun:
        """Its run."""

    def is_over(self) -> bool:
        """Return whether nothing more comes of it."""

    def open_rows(self, counts: Progress) -> int:
        """Return the number of its rows that something is still to come of, where *counts* are its run's."""


PieceT = TypeVar("PieceT", bound=StartedPiece)


class RunWindow(Generic[PieceT]):
    """The pieces of one source whose runs go. Used from one thread at a time, but for `stop`.

    Args:
        rows: Open rows that are wanted at least.
        most_held: Rows that are held at most, as a multiple of those that are wanted.

    Attributes:
        is_read: Whether no further piece is read.
        error: Why not, None where the source has ended or the window was stopped.
    """

    def __init__(self, rows: int, *, most_held: int = 3) -> None:
        self.is_read = False
        self.error: Exception | None = None
        self._rows = rows
        self._most_held = most_held
        self._going: deque[PieceT] = deque()

    @property
    def pieces(self) -> list[PieceT]:
        """The pieces that were not taken, in the order in which they were started."""
        return list(self._going)

    @property
    def runs(self) -> list[LiveRun]:
        """Their runs."""
        return [piece.run for piece in self.pieces]

    @property
    def is_over(self) -> bool:
        """Whether every piece was taken, and none follows."""
        return self.is_read and not self._going

    @property
    def wants_more(self) -> bool:
        """Whether another piece is to be read now."""
        if self.is_read:
            return False
        going = [(piece, piece.run.progress()) for piece in self.pieces]
        wanted = max(self._rows, _AHEAD * sum(counts.in_flight for _, counts in going))
        if sum(counts.total for _, counts in going) >= self._most_held * wanted:
            return False
        return sum(piece.open_rows(counts) for piece, counts in going) < wanted

    def fill(self, started: Iterator[PieceT]) -> None:
        """Start as many pieces as are wanted now.

        Args:
            started: Reads the next piece and starts its run, each time that it is asked.
        """
        while self.wants_more:
            with self.reading():
                self.add(next(started, None))

    @contextmanager
    def reading(self) -> Generator[None, None, None]:
        """End the reading where the block raises; the error is raised when all pieces were taken."""
        try:
            yield
        except Exception as error:
            self.no_more(error)

    def add(self, piece: PieceT | None) -> None:
        """Hold a piece whose run was started; None for the end of the source."""
        if piece is None:
            self.no_more()
        else:
            self._going.append(piece)

    def no_more(self, error: Exception | None = None) -> None:
        """Note that no further piece comes; *error* is why, where it is not the end. What was started is answered."""
        self.is_read, self.error = True, self.error or error

    @property
    def head(self) -> LiveRun | None:
        """The run of the first piece, None where all were taken."""
        return self._going[0].run if self._going else None

    def take(self) -> PieceT:
        """Remove the first piece, which is over."""
        piece = self._going.popleft()
        forget(piece.run)
        return piece

    def take_over(self) -> list[PieceT]:
        """Remove the pieces that are over."""
        over = [piece for piece in self._going if piece.is_over()]
        taken = {id(piece) for piece in over}
        self._going = deque(piece for piece in self._going if id(piece) not in taken)
        for piece in over:
            forget(piece.run)
        return over

    def stop(self) -> None:
        """Start nothing more, and cancel what goes. From any thread."""
        self.is_read = True
        for run in self.runs:
            if run.alive:
                run.cancel()

    def abandon(self) -> list[LiveRun]:
        """Stop, and return the runs that have not ended; from here on none is held."""
        self.stop()
        going = [run for run in self.runs if not run.done()]
        for run in self.runs:
            forget(run)
        self._going.clear()
        return going
