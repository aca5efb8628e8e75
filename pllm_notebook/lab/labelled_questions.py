"""The labelled rows of a frame as distinct questions, in an order determined only by their content."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import options_for
from pllm_notebook.frames.dtypes import Column
from pllm_notebook.frames.hashing import content_hashes
from pllm_notebook.frames.labels import check_kind, check_single, plain_values
from pllm_notebook.frames.response_format import output_of
from pllm_notebook.frames.result_columns import ResultColumns
from pllm_notebook.frames.stored_labels import label_column
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.row_matching import labelled_field

__all__ = ["LabelledQuestions", "field_columns", "labelled_questions"]

Numbers = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class LabelledQuestions:
    """Labelled rows of a table. Equal rows are one *line*: they share one call. Several lines may be one question.

    Attributes:
        table: The table.
        asked: The columns that any of the prompts sends.
        row: For each line its first row in the table, shape (lines,), in the order of the questions.
        question: For each line the number of its question, from 0, ascending.
        truths: For each line the label of each of its rows.
        column: The column of the answers.
        field: The field that the labels are for.
        named: Name of the labels.
    """

    table: Table
    asked: tuple[str, ...]
    row: Numbers
    question: Numbers
    truths: Sequence[Sequence[Any]]
    column: Column
    field: str
    named: str

    def __len__(self) -> int:
        return int(self.question[-1]) + 1 if len(self.question) else 0

    @property
    def labels(self) -> int:
        """Number of labelled rows."""
        return sum(map(len, self.truths))

    def sizes(self) -> Numbers:
        """Return the labelled rows of each question, shape (questions,)."""
        return np.bincount(self.question, weights=[len(own) for own in self.truths], minlength=len(self))

    def lines(self, questions: range) -> range:
        """Return the lines of consecutive questions."""
        return range(*np.searchsorted(self.question, [questions.start, questions.stop]).tolist())

    def frame(self, lines: Sequence[int]) -> Any:
        """Return some lines as a frame of the columns that are sent."""
        dropped = [name for name in self.table.names if name not in self.asked]
        return self.table.join({}, self.row[list(lines)].tolist(), dropped, explode=True, run_id=None)

    def distinct(self, columns: Sequence[str]) -> int:
        """Return the number of distinct rows of the whole table, labelled or not, in some columns: one call each."""
        return len(np.unique(content_hashes([self.table.column_data(columns)], self.table.total)))

    def right(self, line: int, value: Any) -> int:
        """Return how many rows of a line have *value* as their label."""
        return sum(truth == value for truth in self.truths[line])


def field_columns(response_format: Any, given: Mapping[str, Any]) -> dict[str, Column]:
    """Return the columns of the answers by field name, without a prefix. Sends nothing."""
    options = options_for({**given})
    shape = ResultColumns(output_of(response_format, options), options)
    return {column.name.removeprefix(options.prefix): column for column in shape.columns}


def labelled_questions(
    table: Table,
    columns: Mapping[str, Column],
    against: Any,
    field: str | None,
    asked: Callable[[], Sequence[tuple[str, ...]]],
    without: Sequence[str] = (),
) -> LabelledQuestions:
    """Return the labelled rows of a table as questions. Sends nothing.

    Args:
        table: The rows.
        columns: The columns of the answers by field.
        against: Labels: a column of the table, an object that its library aligns, or "labels".
        field: The field that the labels are for. None for the only field, or the one named like the labels.
        asked: Returns the columns that each prompt sends. Called after the labels have been found.
        without: Columns of the table that are not labels.

    Raises:
        UsageError: If there are no labels, or a prompt names their column. Nothing was sent.
    """
    labels, own = label_column(table, against, columns, field, without)
    named = "labels" if labels.name is None else str(labels.name)
    chosen = labelled_field(list(columns), field or own, named, "in the answers")
    there = [row for row in range(table.total) if not labels.missing[row]]
    if not table.total:
        raise UsageError("The frame has no rows: nothing is left of the selection that made it. Nothing was sent.")
    if not there:
        raise UsageError(f"No row has a label in {named!r}. Nothing was sent.")
    values = plain_values([labels.values[row] for row in there])
    check_single(named, values)
    check_kind(columns[chosen], named, values)
    sent = asked()
    if isinstance(against, str) and any(against in names for names in sent):
        raise UsageError(
            f"A prompt names {{{against}}}, the column of the labels, so the answer is in the question. Nothing was "
            f"sent."
        )
    union = tuple(dict.fromkeys(name for names in sent for name in names))
    common = tuple(name for name in union if all(name in names for names in sent)) or union
    whole = content_hashes([table.column_data(union)], table.total)
    # Rows that are equal in all columns that every prompt sends may share a call, so they are one observation.
    unit = whole if common == union else content_hashes([table.column_data(common)], table.total)
    first: dict[int, int] = {}
    truths: dict[int, list[Any]] = {}
    for row, value in zip(there, values, strict=True):
        first.setdefault(int(whole[row]), row)
        truths.setdefault(int(whole[row]), []).append(value)
    keys = sorted(first, key=lambda key: (int(unit[first[key]]), key))
    rows = np.array([first[key] for key in keys], dtype=np.int64)
    return LabelledQuestions(
        table=table,
        asked=union,
        row=rows,
        question=np.unique(unit[rows], return_inverse=True)[1].reshape(-1),
        truths=[truths[key] for key in keys],
        column=columns[chosen],
        field=chosen,
        named=named,
    )
