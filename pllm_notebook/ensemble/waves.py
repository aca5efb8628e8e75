"""The calls on which the members differ, as rows of a run of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pllm_notebook.execution import Chunk, Ledger, Outcome, WholePrompts
from pllm_notebook.messages_types import Dialogue

__all__ = ["Wave"]


class Wave(WholePrompts):
    """Some calls of an ensemble, asked further: its rows' prompts, and the ear for their answers.

    Args:
        calls: Of the ensemble.
        word: Makes the prompt of one call.
        answered: Called with a call and what became of it.
    """

    def __init__(
        self, calls: Sequence[int], word: Callable[[int], str | Dialogue], answered: Callable[[int, Outcome], None]
    ) -> None:
        self.total = len(calls)
        self._calls = calls
        self._word = word
        self._answered = answered
        self._unsent: set[int] = set()

    def prompts(self, rows: range) -> list[str | Dialogue]:
        """Return the prompts of some rows."""
        return [self._word(self._calls[row]) for row in rows]

    def planned(self, ledger: Ledger, chunk: Chunk) -> None:
        """Note rows that cannot be sent."""
        self._first_row = ledger.first_row
        if chunk.failed:
            for row in ledger.own_failures.keys() - self._unsent:
                self._unsent.add(row)
                failure = ledger.own_failures[row]
                self._answered(self._calls[row], Outcome(None, failure, "", (), False))

    def recorded(self, call: int, outcome: Outcome) -> None:
        """Note an answer."""
        # Questions differ from call to call, hence so do the wave's own: each has one row.
        self._answered(self._calls[self._first_row[call]], outcome)
