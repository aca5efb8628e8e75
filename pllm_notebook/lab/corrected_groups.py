"""Means and shares of a frame's answers, overall and by group, corrected by labels with a known draw probability."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pllm_notebook.exceptions import PllmError, UnknownColumnError, UsageError
from pllm_notebook.frames.dtypes import Column, Kind, read_back
from pllm_notebook.frames.labels import plain_values
from pllm_notebook.frames.provenance import provenance_of
from pllm_notebook.frames.stored_labels import stored_labels
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.answer_sides import AnswerSide, run_side
from pllm_notebook.lab.label_chances import label_chances
from pllm_notebook.statistics import CorrectedMean, corrected_mean
from pllm_notebook.store import Label, LabelFile, current_directory

__all__ = [
    "FieldAnswers",
    "GroupMean",
    "RowGroups",
    "accuracy_of",
    "field_answers",
    "group_means",
    "groups_of",
    "item_answers",
    "own_answers",
    "with_labels_of",
]

Numbers = np.ndarray[Any, np.dtype[Any]]

_MOST_VALUES = 30
_MOST_GROUPS = 1_000
_FAILED = 2


@dataclass(frozen=True, slots=True)
class GroupMean:
    """One figure of a report.

    Attributes:
        field: The field's name without a run's prefix.
        value: The value whose share it is. None for the mean of a number.
        group: The value of each `by` column, as text. () for all rows.
        of: The figure and its interval.
    """

    field: str
    value: Any
    group: tuple[str, ...]
    of: CorrectedMean


@dataclass(frozen=True, slots=True)
class RowGroups:
    """The rows of each group, by the values of `columns`. The group () has all rows."""

    columns: tuple[str, ...]
    rows: Mapping[tuple[str, ...], Numbers]


@dataclass(frozen=True, slots=True)
class FieldAnswers:
    """One field of the input rows, with its labels.

    Attributes:
        field: The field's name without a run's prefix.
        column: The column of the answers.
        rows: The rows of the frame that were answered or failed, shape (n,).
        answers: The model's answers before any correction. None for a row without one.
        labels: The newest stored label of each row. None for none.
        labelled: Whether each row has a label, shape (n,), bool.
        truths: The labels' values. None for none.
        failed: Whether each row has no answer, shape (n,), bool.
        examples: Whether each row is an example of its run or a near-duplicate of one; shape (n,), bool. Such rows are
            not evaluated, and do not correct other rows.
        counted: Whether each row is included in the means; shape (n,), bool. Failed rows are excluded if none of them
            could be labelled, because a review shows only answers. Examples count by their labels, and are excluded if
            these have no known probability.
        pi: Probability with which each row was drawn for labelling, shape (n,). NaN if no label has one.
        question: A number for each row, equal for equal rows.
        problem: Why the labels are not a sample of these rows. "" without a known problem.
    """

    field: str
    column: Column
    rows: Numbers
    answers: Sequence[Any]
    labels: Sequence[Label | None]
    labelled: Numbers
    truths: Sequence[Any]
    failed: Numbers
    examples: Numbers
    counted: Numbers
    pi: Numbers
    question: Numbers
    problem: str

    @property
    def is_listed(self) -> bool:
        """Whether its type lists its values, so that each has a share."""
        return self.column.kind is Kind.BOOLEAN or bool(self.column.categories)

    @property
    def is_number(self) -> bool:
        """Whether it has a mean."""
        return self.column.kind in (Kind.INTEGER, Kind.REAL) and not self.column.categories

    @property
    def has_chance(self) -> Numbers:
        """Whether each row has a label that may be used for an interval."""
        return np.asarray(self.labelled & ~np.isnan(self.pi))


def field_answers(table: Table, side: AnswerSide, field: str, own: Mapping[str, Sequence[Any]]) -> FieldAnswers:
    """Return the answers and labels of a field.

    Args:
        table: The frame.
        side: Its answers.
        field: The field's name without a run's prefix.
        own: The result of `own_answers`.
    """
    column = side.columns[field]
    rows = np.flatnonzero(side.answered | (side.status == _FAILED))
    given = own.get(field, side.values[field])
    labels = stored_labels(table, field)
    chances = LabelFile(current_directory()).chances(field)
    drawn = [None if one is None else chances.get((one.columns, one.content)) for one in labels]
    values = plain_values(read_back(column, [None if one is None else one.value for one in labels]))
    question = side.content[rows]
    failed = side.status[rows] == _FAILED
    have = np.array([drawn[row] is not None for row in rows.tolist()], dtype=bool)
    counted_rows = np.ones(len(rows), dtype=bool) if have[failed].any() else ~failed
    known = np.full(len(rows), np.nan)
    shown = np.asarray(side.examples[rows], dtype=bool)
    draws = [drawn[row] for row in rows[counted_rows].tolist()]
    known[counted_rows], problem = label_chances(draws, question[counted_rows], shown[counted_rows])
    examples_left_out = shown & counted_rows & ~have & have.any()
    if field not in own:
        problem = "cells were corrected, and the model's own answers to these rows cannot be read"
    return FieldAnswers(
        field=field,
        column=column,
        rows=rows,
        answers=[given[row] for row in rows.tolist()],
        labels=[labels[row] for row in rows.tolist()],
        labelled=np.array([labels[row] is not None for row in rows.tolist()], dtype=bool),
        truths=[values[row] for row in rows.tolist()],
        failed=failed,
        examples=shown,
        counted=counted_rows & ~examples_left_out,
        pi=known,
        question=np.unique(question, return_inverse=True)[1].reshape(-1),
        problem=problem,
    )


def item_answers(side: AnswerSide, field: str) -> FieldAnswers:
    """Return a field's answers in a frame with a line for each item. They have no labels, because rows are labelled."""
    rows = np.flatnonzero(side.answered | (side.status == _FAILED))
    none = np.zeros(len(rows), dtype=bool)
    return FieldAnswers(
        field=field,
        column=side.columns[field],
        rows=rows,
        answers=[side.values[field][row] for row in rows.tolist()],
        labels=[None] * len(rows),
        labelled=none,
        truths=[None] * len(rows),
        failed=side.status[rows] == _FAILED,
        examples=none,
        counted=~none,
        pi=np.full(len(rows), np.nan),
        question=np.arange(len(rows)),
        problem="",
    )


def with_labels_of(answers: FieldAnswers, table: Table, against: Any, without: Sequence[str]) -> FieldAnswers:
    """Return the answers with labels from a column instead of the stored ones. Their probabilities are unknown."""
    given = table.labels(against, without)
    lines = answers.rows.tolist()
    values = plain_values([None if gap else value for value, gap in zip(given.values, given.missing, strict=True)])
    return replace(
        answers,
        labels=[None] * len(lines),
        labelled=np.array([not given.missing[row] for row in lines], dtype=bool),
        truths=[values[row] for row in lines],
        pi=np.full(len(lines), np.nan),
        problem="",
    )


def groups_of(table: Table, side: AnswerSide, by: str | Sequence[str] | None) -> RowGroups:
    """Return the rows of each group, starting with all rows.

    Raises:
        UnknownColumnError: For a column that the frame does not have.
        UsageError: For a column of answers, or one with very many values.
    """
    every: dict[tuple[str, ...], Numbers] = {(): np.arange(table.total)}
    if not (
        by is None or isinstance(by, str) or (isinstance(by, Iterable) and all(isinstance(one, str) for one in by))
    ):
        raise UsageError(f"by= is the name of a column, or a list of names, not {by!r}. Nothing was written.")
    columns = () if by is None else (by,) if isinstance(by, str) else tuple(by)
    if not columns:
        return RowGroups((), every)
    for name in columns:
        if list(table.names).count(name) != 1:
            raise UnknownColumnError(name, list(table.names), "by=")
        if name in {column.name for column in side.source.made}:
            raise UsageError(
                f"by={name!r} is an answer of the model: its errors would put rows into wrong groups, which labels "
                f"of another field cannot correct. Group by an input column. Nothing was sent."
            )
    data = table.column_data(columns)
    found: dict[tuple[str, ...], list[int]] = {}
    for row in range(table.total):
        cells = zip(data.values, data.missing, strict=True)
        found.setdefault(tuple("missing" if gaps[row] else str(own[row]) for own, gaps in cells), []).append(row)
    if len(found) > _MOST_GROUPS:
        raise UsageError(
            f"by={list(columns)!r} makes {len(found):,} groups, more than {_MOST_GROUPS:,}. Group by fewer values. "
            f"Nothing was sent."
        )
    return RowGroups(columns, every | {name: np.array(rows) for name, rows in sorted(found.items())})


def group_means(answers: FieldAnswers, groups: RowGroups, bounds: tuple[float, float] | None) -> list[GroupMean]:
    """Return the share of each value (the first 30), or the mean of a number, for each group. Nothing for text.

    Args:
        answers: The answers of one field.
        groups: The groups of the frame.
        bounds: The smallest and largest number of the type. None for those of the data.
    """
    made = []
    if answers.is_listed:
        values = _values_of(answers)
        for value in values[:_MOST_VALUES]:
            y, guess = (np.array([cell == value for cell in cells], dtype=np.float64)
                        for cells in (answers.truths, answers.answers))  # fmt: skip
            made += [GroupMean(answers.field, value, *one) for one in _by_group(answers, groups, y, guess, (0.0, 1.0))]
    elif answers.is_number:
        y, guess = (np.array([_number(cell) for cell in cells]) for cells in (answers.truths, answers.answers))
        known = guess[~np.isnan(guess)]
        # A failed row counts with the mean of the others: any guess is valid that does not depend on labels.
        guess = np.where(np.isnan(guess), known.mean() if len(known) else 0.0, guess)
        every = np.concatenate([guess, y[~np.isnan(y)]])
        if not len(every):
            return []
        ends = bounds or (float(every.min()), float(every.max()))
        made += [GroupMean(answers.field, None, *one) for one in _by_group(answers, groups, y, guess, ends)]
    return made


def accuracy_of(answers: FieldAnswers) -> CorrectedMean:
    """Return the accuracy in the whole table, from labels with a known draw probability. Failed rows are wrong."""
    right = np.array([answer == truth for answer, truth in zip(answers.answers, answers.truths, strict=True)])
    known = answers.has_chance | answers.failed
    here = ~answers.examples
    if answers.problem:
        found = corrected_mean(right[here], right[here], known[here] & False, question=answers.question[here])
        return _without(found, answers.problem)
    pi = np.where(answers.failed, 1.0, answers.pi)
    return corrected_mean(
        (right & ~answers.failed)[here], np.zeros(int(here.sum())), known[here], pi[here], answers.question[here]
    )


def _by_group(
    answers: FieldAnswers, groups: RowGroups, y: Numbers, guess: Numbers, bounds: tuple[float, float]
) -> list[tuple[tuple[str, ...], CorrectedMean]]:
    known = answers.has_chance & ~np.isnan(y)
    if answers.problem:
        known = np.zeros(len(y), dtype=bool)
    made = []
    for name, rows in groups.rows.items():
        here = np.flatnonzero(np.isin(answers.rows, rows) & answers.counted)
        if not len(here):
            continue
        found = corrected_mean(
            y[here], guess[here], known[here], answers.pi[here], answers.question[here], bounds=bounds
        )
        if answers.problem:
            found = _without(found, answers.problem)
        made.append((name, found))
    return made


def _without(found: CorrectedMean, problem: str) -> CorrectedMean:
    nan = float("nan")
    return CorrectedMean(nan, nan, nan, found.uncorrected, found.labels, found.questions, found.rows, "none", problem)


def _values_of(answers: FieldAnswers) -> list[Any]:
    listed = list(answers.column.categories) or [False, True]
    seen = [one for one in (*answers.answers, *answers.truths) if one is not None and one not in listed]
    return [*listed, *dict.fromkeys(seen)]


def _number(cell: Any) -> float:
    return float(cell) if isinstance(cell, (int, float)) and not isinstance(cell, bool) else float("nan")


def own_answers(table: Table, side: AnswerSide) -> dict[str, list[Any]]:
    """Return the model's original answers to the rows of a frame, before any correction, by field.

    Fields whose answers cannot be read are left out.
    """
    found = provenance_of(table)
    made = {field: list(values) for field, values in side.values.items()}
    for at, source in enumerate(found.sources):
        lines = np.flatnonzero(found.changed & (found.source == at)).tolist()
        if not lines:
            continue
        try:
            whole = run_side(source, table)
        except PllmError:
            return {}
        for field in list(made):
            if field not in whole.values:
                del made[field]
                continue
            for line in lines:
                made[field][line] = whole.values[field][int(found.row[line])]
    return made
