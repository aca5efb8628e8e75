"""What sees the results of a run as they come: displays, and callers that want each row at once."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from pllm_notebook.execution.outcome import Outcome

__all__ = ["MOST_ARRIVALS", "Arrivals", "ResultObserver", "ResultsByRow", "RowObserver"]

# Calls that are kept for a display between two of its looks.
MOST_ARRIVALS = 4_096


class Arrivals:
    """The calls that have ended since the last look, for displays; of very many, the newest."""

    def __init__(self, calls: Iterable[int]) -> None:
        self._calls = deque(calls, maxlen=MOST_ARRIVALS)
        self.append = self._calls.append

    def take(self) -> list[int]:
        """Return them in the order in which they ended, and begin again."""
        taken: list[int] = []
        # One by one: another thread may append meanwhile.
        while self._calls:
            taken.append(self._calls.popleft())
        return taken


class ResultObserver(Protocol):
    """Sees what happens to a run's rows. Used on the engine's loop."""

    def planned(self, rows: Sequence[int]) -> None:
        """Note rows that have been planned: each has its call, or none, in the table."""

    def recorded(self, call: int, outcome: Outcome) -> None:
        """Note how a call ended. Its answer is on disk."""


class ResultsByRow(Protocol):
    """What `RowObserver` reads of a `ResultTable`."""

    @property
    def call_of_row(self) -> Sequence[int]:
        """Index of each row's call; negative where it has none."""

    @property
    def first_row(self) -> Sequence[int]:
        """The row whose prompt each call sends."""

    @property
    def outcomes(self) -> Sequence[Outcome | None]:
        """How each call ended, None until it has."""


class RowObserver:
    """Call a function with each row of a run that has ended (see `ResultObserver`).

    A row whose call has ended before it was planned is reported when it is planned.
    """

    def __init__(self, results: ResultsByRow, on_row: Callable[[int], None]) -> None:
        self._results = results
        self._on_row = on_row
        # Of calls that answer several rows: those after the first.
        self._more_rows: defaultdict[int, list[int]] = defaultdict(list)

    def planned(self, rows: Sequence[int]) -> None:
        """Note rows that have been planned."""
        results = self._results
        for row in rows:
            call = results.call_of_row[row]
            if call >= 0 and results.first_row[call] != row:
                self._more_rows[call].append(row)
            if call < 0 or results.outcomes[call] is not None:
                self._on_row(row)

    def recorded(self, call: int, outcome: Outcome) -> None:
        """Report the rows of a call that has ended."""
        self._on_row(self._results.first_row[call])
        for row in self._more_rows.get(call, ()):
            self._on_row(row)
