"""`df.llm.compare`: compare the answers of a frame with other answers to the same rows. Sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pllm_notebook.exceptions import PllmError, UsageError, guess
from pllm_notebook.frames.hashing import content_hashes
from pllm_notebook.frames.labels import check_known, check_single, plain_values
from pllm_notebook.frames.stored_labels import label_column
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.answer_sides import AnswerSide, frame_side
from pllm_notebook.lab.comparison import ComparedRows, Comparison
from pllm_notebook.lab.comparisons_made import note_comparison
from pllm_notebook.lab.earlier_runs import old_side
from pllm_notebook.lab.field_changes import FieldValues, field_changes
from pllm_notebook.lab.labelled_change import LabelledChange, labelled_change
from pllm_notebook.lab.sampling_noise import noise_of

__all__ = ["compare_table", "labelled_field"]

Numbers = np.ndarray[Any, np.dtype[Any]]


def check_field(against: Any, field: str | None) -> None:
    """Check that a field is named only together with labels.

    Raises:
        UsageError: If there are no labels. Nothing was sent.
    """
    if field is not None and against is None:
        raise UsageError(f"field={field!r} names the field of the labels in against=. Pass both. Nothing was sent.")


def compare_table(
    table: Table, old: Any, against: Any = None, field: str | None = None, names: tuple[str, str] = ("old", "new")
) -> Comparison:
    """Compare the answers of a table with other answers to its rows (see `df.llm.compare`).

    Args:
        table: The table with the new answers.
        old: A frame, a run, a run's id, "previous", a date or a timedelta.
        against: Labels: a column of the table or an object that its library aligns. None for none.
        field: The field that the labels are for. None for the only field, or the one named like the labels.
        names: Names of both sides.

    Raises:
        PllmError: If a side's rows are unknown, or the sides have no row in common.
        UsageError: If *old* or *against* cannot be compared.
    """
    check_field(against, field)
    new_side = frame_side(table)
    before = old_side(old, table, new_side)
    rows = _matched(table, new_side, before)
    fields = _fields(rows)
    changed = np.zeros(len(rows.line), dtype=bool)
    for one in fields.values():
        changed |= one.differs
    changed |= rows.answered[0] != rows.answered[1]
    labelled, verdict = None, np.zeros(len(rows.line), dtype=np.int64)
    if against is not None:
        labelled, verdict = _with_labels(table, rows, fields, against, field)
    note_comparison(
        "compare",
        (before.source.run, new_side.source.run),
        field=None if labelled is None else labelled.field,
        labels=0 if labelled is None else labelled.labels,
        p=None if labelled is None else labelled.p,
    )
    both = rows.answered[0] & rows.answered[1]
    noise = noise_of((before.source, new_side.source), list(fields), table)
    return Comparison(
        table=table,
        rows=rows,
        fields=fields,
        changes=field_changes(fields, both, rows.question, noise),
        changed_lines=changed,
        labelled=labelled,
        verdict=verdict,
        names=names,
    )


def _matched(table: Table, new: AnswerSide, old: AnswerSide) -> ComparedRows:
    """Match each row of the table with a line of the old side, by the content of the columns it was asked about."""
    asked, columns = list(old.source.asked), list(table.names)
    gone = [name for name in asked if columns.count(name) != 1]
    if gone:
        raise PllmError(
            f"The run {old.source.run.id!r} was asked about {asked!r}, and {gone!r} is not in this frame (or twice), "
            f"so its rows cannot be matched. Nothing was sent."
        )
    content = (
        new.content if tuple(asked) == new.source.asked else content_hashes([table.column_data(asked)], table.total)
    )
    at = _find(old, content)
    line = np.flatnonzero((new.status >= 0) & (at >= 0))
    other = at[line]
    if not len(line):
        raise PllmError(
            f"No row of this frame has an answer of the other side: none of its rows has the content that run "
            f"{old.source.run.id!r} was asked about. Nothing was sent."
        )
    question = content[line] * np.uint64(0x9E3779B97F4A7C15) ^ new.content[line]
    return ComparedRows(
        old=old,
        new=new,
        line=line,
        other=other,
        question=np.unique(question, return_inverse=True)[1].reshape(-1),
        answered=(old.answered[other], new.answered[line]),
        only_new=int(((new.status >= 0) & (at < 0)).sum()),
        only_old=int(np.count_nonzero(~np.isin(old.content[old.status >= 0], content[line]))),
    )


def _find(side: AnswerSide, content: Numbers) -> Numbers:
    """Return for each hash the first line of a side with this content and a known status, or -1."""
    known = np.flatnonzero(side.status >= 0)
    if not len(known):
        return np.full(len(content), -1, dtype=np.int64)
    order = known[np.argsort(side.content[known], kind="stable")]
    ordered = side.content[order]
    at = np.minimum(np.searchsorted(ordered, content), len(ordered) - 1)
    return np.where(ordered[at] == content, order[at], -1)


def _fields(rows: ComparedRows) -> dict[str, FieldValues]:
    """Return the values of the fields that both sides have, line by line."""
    made = {}
    both = rows.answered[0] & rows.answered[1]
    for name, column in rows.new.columns.items():
        if name in rows.old.columns:
            old = _taken(rows.old.values[name], rows.other)
            new = _taken(rows.new.values[name], rows.line)
            made[name] = FieldValues.of(column, old, new, both)
    if not made:
        raise UsageError(
            f"Both sides have no field in common: the old one has {list(rows.old.columns)}, the new one "
            f"{list(rows.new.columns)}. Nothing was sent."
        )
    return made


def _taken(values: Sequence[Any], at: Numbers) -> Sequence[Any]:
    if len(at) == len(values) and np.array_equal(at, np.arange(len(values))):
        return values
    return [values[line] for line in at.tolist()]


def _with_labels(
    table: Table, rows: ComparedRows, fields: dict[str, FieldValues], against: Any, field: str | None
) -> tuple[LabelledChange, Numbers]:
    made = {column.name for column in rows.new.source.made}
    columns = {name: one.column for name, one in fields.items()}
    labels, own = label_column(table, against, columns, field, tuple(made))
    named = "labels" if labels.name is None else str(labels.name)
    chosen = labelled_field(list(fields), field or own, named)
    values = fields[chosen]
    truths = plain_values(labels.values)
    check_single(named, truths)
    # A row that was never sent or is still pending is neither right nor wrong.
    ended = [np.asarray(side.answered[at] | (side.status[at] == 2))
             for side, at in ((rows.old, rows.other), (rows.new, rows.line))]  # fmt: skip
    missing = np.array(labels.missing, dtype=bool)[rows.line]
    # A row that was shown to a side as an example, or a near-duplicate, does not measure that side.
    shown = rows.old.examples[rows.other] | rows.new.examples[rows.line]
    used = np.flatnonzero(~missing & ended[0] & ended[1] & ~shown)
    lines = used.tolist()
    true = [truths[rows.line[at]] for at in lines]
    said = [[side[at] for at in lines] for side in (values.old, values.new)]
    if lines:
        check_known(values.column, named, true, [*said[0], *said[1]])
    answered = [side[used] for side in rows.answered]
    result, verdict = labelled_change(
        (chosen, named), true, (said[0], answered[0]), (said[1], answered[1]), rows.question[used]
    )
    result = replace(result, examples=int((shown & ~missing).sum()))
    whole = np.zeros(len(rows.line), dtype=np.int64)
    whole[used] = verdict
    return result, whole


def labelled_field(fields: Sequence[str], field: str | None, named: str, there: str = "on both sides") -> str:
    """Return the field that labels are for: the given one, the only one, or the one named like the labels.

    Raises:
        UsageError: If this is ambiguous, or there is no such field. Nothing was sent.
    """
    if field is None and len(fields) == 1:
        return fields[0]
    wanted = named if field is None else field
    if wanted in fields:
        return wanted
    if field is None:
        raise UsageError(
            f"There are several fields, and none is named {named!r}. Pass field= with one of {fields}. "
            f"Nothing was sent."
        )
    raise UsageError(
        f"There is no field {field!r} {there}; these are: {fields}.{guess(field, fields)} Nothing was sent."
    )
