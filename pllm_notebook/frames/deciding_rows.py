"""Rows that already have answers in columns, for a run that decides between these answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pllm_notebook.execution import LiveRun
from pllm_notebook.frames.dtypes import Column, Kind
from pllm_notebook.frames.judge import FROM, CandidateAnswers
from pllm_notebook.frames.row_question import RowQuestion
from pllm_notebook.frames.table import Table
from pllm_notebook.frames.table_rows import TableRows

__all__ = ["DecidingRows"]


class DecidingRows(TableRows):
    """A table's rows that already have answers in columns, for one run that decides between these answers.

    Args:
        table: As for `TableRows`.
        names: The columns that hold answers.
        question: The question that was asked. Its shape has one column.
    """

    def __init__(self, table: Table, names: Sequence[str], question: RowQuestion) -> None:
        template, shape, options = question.template, question.shape, question.options
        assert template is not None
        self._from = shape.columns[0].name + FROM
        shape.names = (*shape.names, self._from)
        super().__init__(table, question)
        table = self.table
        candidates = table.column_data(names)
        instructions = None
        if question.instruction is not None and self._instructing is not None:
            instructions = question.instruction.texts(self._instructing, options.na)
        self._candidates = CandidateAnswers(
            candidates, table.column_data(template.names), template, options, instructions
        )
        self._asked_data.append(candidates)
        self.asked = (*self.asked, *names)
        self.prompts, self.source, self.items = self._candidates.prompts, "", self._candidates.items

    def described(self, run: LiveRun) -> dict[str, Any]:
        """Return the question and the result's columns, marked as a decision: most answers are not in a reply."""
        return super().described(run) | {"answers": "decision"}

    def _make(
        self, run: LiveRun, rows: Sequence[int] | None = None, table: Table | None = None
    ) -> tuple[dict[str, Any], Sequence[int]]:
        """Build the columns for the decided answer and for the column that it is from (see `TableRows._make`)."""
        build = (table or self.table).frame_library.array
        lines = range(self.total) if rows is None else rows
        decided = [(None, None) if row < 0 else self._candidates.decided(run, row) for row in lines]
        (column,) = self.shape.columns
        made = {
            column.name: build(column, [value for value, _ in decided]),
            self._from: build(Column(self._from, Kind.TEXT), [name for _, name in decided]),
        }
        return made | self._made_messages(run, lines, build), range(len(lines))
