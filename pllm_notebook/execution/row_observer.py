"""Report the rows of a run one by one, as soon as each has ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from pllm_notebook.execution.outcome import Outcome
from pllm_notebook.execution.results import ResultTable

__all__ = ["RowObserver"]


class RowObserver:
    """Call a function with each row of a run that has ended (see `ResultObserver`).

    A row whose call has ended before it was planned is reported when it is planned.
    """

    def __init__(self, results: ResultTable, on_row: Callable[[int], None]) -> None:
        self._results = results
        self._on_row = on_row
        # For calls that answer several rows: the rows after the first.
        self._more_rows: defaultdict[int, list[int]] = defaultdict(list)

    def planned(self, rows: Sequence[int]) -> None:
        """Record planned rows, and report those that have already ended."""
        results = self._results
        for row in rows:
            call = results.call_of_row[row]
            if call >= 0 and results.first_row[call] != row:
                self._more_rows[call].append(row)
            if call < 0 or results.outcomes[call] is not None:
                self._on_row(row)

    def recorded(self, call: int, outcome: Outcome) -> None:
        """Report the rows of an ended call."""
        self._on_row(self._results.first_row[call])
        for row in self._more_rows.get(call, ()):
            self._on_row(row)
