"""The rows of an ensemble's run: each of the user's rows once per member, then the judge's rows."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

from pllm_notebook.execution import Contexts, ContextualRows, DerivedRows, JudgedRows, Rows, RowSource
from pllm_notebook.failures import Failure
from pllm_notebook.messages_types import Dialogue, Prompt

__all__ = ["EnsembleRows", "JudgedInputs"]


def inputs_of(rows: RowSource, some: range) -> Sequence[Prompt | Failure | None]:
    """Return the input that a decision endpoint judges for some rows: their values, or otherwise the whole prompt."""
    return rows.inputs(some) if isinstance(rows, JudgedRows) else rows.prompts(some)


class JudgedInputs:
    """The rows of a member that judges the rows' values (see `RowSource`)."""

    source = ""

    def __init__(self, rows: RowSource) -> None:
        self._rows = rows
        self.total, self.items = rows.total, rows.items

    def prompts(self, rows: range) -> Sequence[Prompt | Failure | None]:
        """Return the judged inputs of some rows."""
        return inputs_of(self._rows, rows)


class EnsembleRows(DerivedRows):
    """Rows for several members (see `MixedRows`): row r of member m is row r * members + m.

    Args:
        rows: The user's rows.
        members: Number of members. The judge's spec comes after theirs.
        judging: How many of the members, counted from the first, judge the row's values separately from the task.

    Attributes:
        members: As given.
        spec_of_row: See `MixedRows`.
        judge_prompt: Builds the judge's prompt for a group of equal rows. Set before the first judge's row is added.
        judged_row: Returns the first of the user's rows in a group. Set at the same time.
        contexts: The validators' context of each row. None for none.
    """

    judge_prompt: Callable[[int], str | Dialogue]
    judged_row: Callable[[int], int]

    def __init__(self, rows: Rows, members: int, judging: int = 0) -> None:
        self.members = members
        self._judging = judging
        self.label = rows.label
        self.spec_of_row = array("I", range(members)) * rows.total
        self._rows = rows
        self._own = rows.total * members
        # The group of each judge's row.
        self._contested = array("q")
        self.contexts: Contexts | None = None
        if isinstance(rows, ContextualRows) and rows.contexts is not None:
            self.contexts = _MemberContexts(rows.contexts, self._user_row)

    @property
    def total(self) -> int:
        """Current number of rows."""
        return self._own + len(self._contested)

    @property
    def source(self) -> str:
        """The template that all rows share."""
        return self._rows.source

    def prompts(self, rows: range) -> Sequence[Prompt | Failure | None]:
        """Return the prompts of some rows."""
        made: list[Prompt | Failure | None] = []
        own = range(rows.start, min(rows.stop, self._own))
        if own:
            first = own.start // self.members
            asked = range(first, (own.stop - 1) // self.members + 1)
            whole = self._rows.prompts(asked) if self._judging < self.members else ()
            judged = inputs_of(self._rows, asked) if self._judging else ()
            for row in own:
                at, member = divmod(row, self.members)
                made.append((judged if member < self._judging else whole)[at - first])
        made += [
            self.judge_prompt(self._contested[row - self._own]) for row in range(max(rows.start, self._own), rows.stop)
        ]
        return made

    def items(self, rows: range) -> Sequence[bytes]:
        """Return the text of each row in a packed call."""
        items: list[bytes] = []
        for row in rows:
            at = row // self.members
            items += self._rows.items(range(at, at + 1))
        return items

    def position_of(self, row: int) -> int | None:
        """Return the position of a row among the user's rows, or None for a judge's row."""
        return row // self.members if row < self._own else None

    def group_of(self, row: int) -> int | None:
        """Return the group of a judge's row, or None for a member's row."""
        return None if row < self._own else self._contested[row - self._own]

    def add(self, group: int) -> None:
        """Add a judge's row for *group*."""
        self.spec_of_row.append(self.members)
        self._contested.append(group)

    def _user_row(self, row: int) -> int:
        return row // self.members if row < self._own else self.judged_row(self._contested[row - self._own])


class _MemberContexts:
    """The contexts of the user's rows, mapped to the members' and the judge's rows."""

    def __init__(self, contexts: Contexts, user_row: Callable[[int], int]) -> None:
        self._contexts = contexts
        self._user_row = user_row

    def of(self, row: int) -> Any:
        return self._contexts.of(self._user_row(row))

    def ids(self, rows: Sequence[int]) -> Sequence[str | Failure]:
        return self._contexts.ids([self._user_row(row) for row in rows])
