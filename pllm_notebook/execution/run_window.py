"""Runs over consecutive pieces of a larger source: a few run at once, and a piece that was taken is not kept.

A stream of tables and the lines of a request file are read piece by piece. Each piece is a separate run, so limits,
retries, cached answers and failures work as in every run. The common part is here:

    window.fill(pieces)         while more rows are wanted, read the next piece and start its run
    window.take()               remove the first piece, when it is over
    window.take_over()          or remove all pieces that are over, in any order
    window.stop()               start nothing more, and cancel the running pieces

Invariants:

- While the source has more, at least `rows` rows are open, and twice as many as calls are on the wire, so that there
  are calls to send even at the end of a piece.
- Pieces that were not taken have at most `most_held` times the wanted number of rows, so that a late row or a slow
  consumer delays the reading instead of filling the memory.
- An error of the source, or of a piece whose run cannot be started, ends the reading. Pieces that were started are
  still answered.
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

# Number of open rows, as a multiple of the calls on the wire.
_AHEAD = 2


class StartedPiece(Protocol):
    """A piece whose run has been started."""

    @property
    def run(self) -> LiveRun:
        """Its run."""

    def is_over(self) -> bool:
        """Return whether the piece is finished."""

    def open_rows(self, counts: Progress) -> int:
        """Return the number of its rows that are still open; *counts* are the run's current counts."""


PieceT = TypeVar("PieceT", bound=StartedPiece)


class RunWindow(Generic[PieceT]):
    """The started pieces of one source. Used from one thread at a time, except for `stop`.

    Args:
        rows: Minimum number of open rows that are wanted.
        most_held: Maximum number of rows in pieces that were not taken, as a multiple of the wanted rows.

    Attributes:
        is_read: Whether no further piece is read.
        error: The error that ended the reading; None if the source has ended or the window was stopped.
    """

    def __init__(self, rows: int, *, most_held: int = 3) -> None:
        self.is_read = False
        self.error: Exception | None = None
        self._rows = rows
        self._most_held = most_held
        self._going: deque[PieceT] = deque()

    @property
    def pieces(self) -> list[PieceT]:
        """The pieces that were not taken, in the order of their start."""
        return list(self._going)

    @property
    def runs(self) -> list[LiveRun]:
        """The runs of these pieces."""
        return [piece.run for piece in self.pieces]

    @property
    def is_over(self) -> bool:
        """Whether every piece was taken and no more will come."""
        return self.is_read and not self._going

    @property
    def wants_more(self) -> bool:
        """Whether another piece should be read now."""
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
            started: Iterator that reads the next piece and starts its run.
        """
        while self.wants_more:
            with self.reading():
                self.add(next(started, None))

    @contextmanager
    def reading(self) -> Generator[None, None, None]:
        """End the reading if the block raises an `Exception`, which is kept in `error`."""
        try:
            yield
        except Exception as error:
            self.no_more(error)

    def add(self, piece: PieceT | None) -> None:
        """Add a piece whose run has been started; None for the end of the source."""
        if piece is None:
            self.no_more()
        else:
            self._going.append(piece)

    def no_more(self, error: Exception | None = None) -> None:
        """Note that no further piece comes, because of *error* or the end. Pieces that were started are answered."""
        self.is_read, self.error = True, self.error or error

    @property
    def head(self) -> LiveRun | None:
        """The run of the first piece, None if all were taken."""
        return self._going[0].run if self._going else None

    def take(self) -> PieceT:
        """Remove and return the first piece, which is over."""
        piece = self._going.popleft()
        forget(piece.run)
        return piece

    def take_over(self) -> list[PieceT]:
        """Remove and return the pieces that are over."""
        over = [piece for piece in self._going if piece.is_over()]
        taken = {id(piece) for piece in over}
        self._going = deque(piece for piece in self._going if id(piece) not in taken)
        for piece in over:
            forget(piece.run)
        return over

    def stop(self) -> None:
        """Start nothing more, and cancel the running pieces. Callable from any thread."""
        self.is_read = True
        for run in self.runs:
            if run.alive:
                run.cancel()

    def abandon(self) -> list[LiveRun]:
        """Stop and drop all pieces; return their runs that have not ended."""
        self.stop()
        going = [run for run in self.runs if not run.done()]
        for run in self.runs:
            forget(run)
        self._going.clear()
        return going
