"""Labels of a frame's rows: stored from a column, from corrected cells or a review, and found by the rows' content."""

from __future__ import annotations

import getpass
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pllm_notebook.callers import caller
from pllm_notebook.cell_text import is_missing
from pllm_notebook.exceptions import PllmError, UnknownColumnError, UsageError, guess
from pllm_notebook.execution import LiveRun
from pllm_notebook.formatting import counted
from pllm_notebook.frames.dtypes import Column, read_back
from pllm_notebook.frames.hashing import content_hashes
from pllm_notebook.frames.label_values import field_schema, value_of
from pllm_notebook.frames.labels import check_kind, check_single, has_known_values, plain_values
from pllm_notebook.frames.plain_data import plain_data
from pllm_notebook.frames.provenance import Provenance, Source, provenance_of
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.rows import ColumnData
from pllm_notebook.frames.table import LabelColumn, Table
from pllm_notebook.store import Label, LabelFile, current_directory

__all__ = [
    "STORED",
    "LabelNote",
    "answer_columns",
    "current_user",
    "label_cells",
    "label_column",
    "label_table",
    "labeller",
    "labels_of_cells",
    "stored_labels",
]

STORED = "labels"
"""Value of `against=` for the labels of the cache directory, unless the frame has a column of that name."""


@dataclass(frozen=True, slots=True)
class LabelNote:
    """The metadata stored with labels.

    Attributes:
        by: Name of the person who labelled.
        drawn_by: How the rows were chosen, None if unknown.
        pi: The probability with which each row was drawn, None if unknown.
        note: A note by that person, None without a note.
        run: Id of the run whose answers were reviewed, None if there is none.
    """

    by: str
    drawn_by: str | None = None
    pi: float | None = None
    note: str | None = None
    run: str | None = None


def current_user() -> str:
    """Return the login name, "" if there is none."""
    with suppress(Exception):  # a container may have no entry for the user id
        return getpass.getuser()
    return ""


def labeller(by: object) -> str:
    """Return the name of the person who labels; None means the login name.

    Raises:
        UsageError: If *by* is not a name. Nothing was stored.
    """
    if by is None:
        return current_user()
    if not isinstance(by, str) or not by.strip():
        what = "by is text" if not isinstance(by, str) else "by is the name of who labels, or None for your login name"
        raise UsageError(f"{what}, not {by!r}. Nothing was stored.")
    return by


def label_cells(asked: Sequence[str], cells: Sequence[Any], values: Mapping[str, Any], note: LabelNote) -> list[int]:
    """Store labels of one row and return their ids for `LabelFile.remove`.

    Args:
        asked: Names of the columns that a run's question used, in order.
        cells: Their values in this row.
        values: Maps each field, without a run's prefix, to its right value.
        note: The metadata to store with them.
    """
    row = {name: None if is_missing(cell) else plain_data(cell) for name, cell in zip(asked, cells, strict=True)}
    label = _made(tuple(asked), _content_of(asked, cells), row, note)
    labels = [replace(label, field=field, value=_plain(value)) for field, value in values.items()]
    return LabelFile(current_directory()).add(labels)


def labels_of_cells(asked: Sequence[str], cells: Sequence[Any], by: str) -> dict[str, Label]:
    """Return the labels of one row by one person, by field (see `label_cells`). Sends nothing."""
    content = _content_of(asked, cells)
    known = LabelFile(current_directory()).current(columns=asked)
    return {label.field: label for label in known if label.content == content and label.by == by}


def _content_of(asked: Sequence[str], cells: Sequence[Any]) -> int:
    missing = tuple([is_missing(cell)] for cell in cells)
    data = ColumnData(tuple(asked), tuple([cell] for cell in cells), missing, 1)
    return int(content_hashes([data], 1)[0])


def label_table(table: Table, against: Any, field: str | None, columns: Sequence[str] | None, note: LabelNote) -> int:
    """Store labels of a table's rows and return their number (see `df.llm.label`)."""
    found = None
    try:
        found = provenance_of(table)
    except PllmError:
        if against is None:
            raise
    if against is None:
        assert found is not None
        return _label_corrected(table, found, field, replace(note, drawn_by=note.drawn_by or "corrected"))
    made = set() if found is None else {column.name for source in found.sources for column in source.made}
    labels = table.labels(against, made)
    named = field or labels.name
    if named is None:
        raise UsageError("The labels have no name: pass field= with the field that they are of.")
    if found is not None:
        named = _field_named(str(named), found.sources[0], given=field is not None)
    asked = _identifying(table, found, columns, str(labels.name))
    lines = [row for row in range(table.total) if not labels.missing[row]]
    column = None if found is None else answer_columns(found.sources[0]).get(str(named))
    if lines and column is not None:
        values = plain_values([labels.values[row] for row in lines])
        if has_known_values(column):
            check_single(str(labels.name), values)
        check_kind(column, str(labels.name), values)
    return _store(table, asked, {str(named): {row: labels.values[row] for row in lines}}, note)


def _label_corrected(table: Table, found: Provenance, field: str | None, note: LabelNote) -> int:
    """Store the cells whose value differs from the run's answer as labels, and return their number."""
    values: dict[str, dict[int, Any]] = {}
    total = 0
    for at, source in enumerate(found.sources):
        for name, column in answer_columns(source).items():
            if list(table.names).count(column.name) != 1 or (field is not None and name != field):
                continue
            same = source.has(table, column.name, found.row)
            if same is None:
                continue
            changed = np.flatnonzero((found.source == at) & ~same & ~table.missing(column.name)).tolist()
            cells = table.column_data([column.name]).values[0]
            values[name] = {row: _of_type(column, cells[row], source, name, row) for row in changed}
        total += _store(table, source.asked, values, replace(note, run=source.run.id))
        values = {}
    return total


def _of_type(column: Column, cell: Any, source: Source, field: str, row: int) -> Any:
    """Return a corrected cell after checking that it is a possible answer.

    Raises:
        UsageError: If it is not. Nothing was stored.
    """
    (value,) = plain_values([cell])
    try:
        value_of(column, plain_data(value), field_schema(schema_of(source), field))
    except UsageError as error:
        raise UsageError(f"Row {row:,} was corrected to what is no answer: {error}") from None
    return cell


def schema_of(source: Source) -> Any:
    """Return the JSON schema of a run's answers, None for text."""
    run = source.run
    if isinstance(run, RegisteredRun):
        return run.header["schema"]
    assert isinstance(run, LiveRun)
    return None if run.spec.output is None else run.spec.output.json_schema


def _store(table: Table, asked: Sequence[str], values: Mapping[str, Mapping[int, Any]], note: LabelNote) -> int:
    """Store values of rows by field and return the number of labels. Equal rows share the first one's label."""
    data = table.column_data(asked)
    content = content_hashes([data], table.total).tolist()
    made: dict[tuple[int, str], Label] = {}
    unlike: set[tuple[int, str]] = set()
    for field, of_rows in values.items():
        for row, value in of_rows.items():
            key = (content[row], field)
            if key not in made:
                cells = {
                    name: None if missing[row] else plain_data(own[row])
                    for name, own, missing in zip(data.names, data.values, data.missing, strict=True)
                }
                made[key] = replace(_made(tuple(asked), content[row], cells, note), field=field, value=_plain(value))
            elif made[key].value != _plain(value):
                unlike.add(key)
    if unlike:
        caller().warn(
            f"{counted(len(unlike), 'label')} of rows whose {list(asked)} are equal, and whose values are not: the "
            f"first value is stored. If these rows differ, name the columns that tell them apart with columns=."
        )
    LabelFile(current_directory()).add(list(made.values()))
    return len(made)


def stored_labels(table: Table, field: str, by: str | None = None) -> list[Label | None]:
    """Return, for each row of a table, the newest stored label of a field; None without one. Sends nothing.

    A row is found by the columns that identify it in the file, if the table has them.

    Args:
        table: Any frame.
        field: Name of the field, without a run's prefix.
        by: Only labels by this person. None for all.
    """
    known = [label for label in LabelFile(current_directory()).current(field=field) if by is None or label.by == by]
    found: list[Label | None] = [None] * table.total
    names = list(table.names)
    for asked in dict.fromkeys(label.columns for label in known):
        if any(names.count(name) != 1 for name in asked):
            continue
        by_content = {label.content: label for label in known if label.columns == asked}  # the newest comes last
        hashes = content_hashes([table.column_data(asked)], table.total)
        here = np.flatnonzero(np.isin(hashes, np.array(list(by_content), dtype=np.uint64))).tolist()
        for row in here:
            label, other = by_content[int(hashes[row])], found[row]
            if other is None or other.id < label.id:
                found[row] = label
    return found


def label_column(
    table: Table, against: Any, columns: Mapping[str, Column], field: str | None, without: Sequence[str] = ()
) -> tuple[LabelColumn, str | None]:
    """Return labels in the order of the rows, and for stored labels their field, otherwise None.

    Args:
        table: The rows.
        against: Name of a column, another object that the library aligns with rows, or `STORED`.
        columns: Maps each field, without a run's prefix, to the column of its answers.
        field: As given by the caller.
        without: Columns of *table* that are not labels.

    Raises:
        UsageError: If there are no labels, or labels of several fields and *field* is not given.
    """
    if not isinstance(against, str) or against != STORED or (STORED in table.names and STORED not in without):
        return table.labels(against, without), None
    every = {label.field for label in LabelFile(current_directory()).current()}
    fields = [name for name in columns if name in every]
    if field is not None and field not in columns:
        field = next((name for name, column in columns.items() if column.name == field), field)
    if field is None:
        labelled = {name: labels for name in fields if any(labels := stored_labels(table, name))}
        if len(labelled) > 1:
            raise UsageError(
                f"The cache directory has labels of several fields of these rows, {list(labelled)}: pass "
                f"field= with one."
            )
        if not labelled:
            raise UsageError(
                "The cache directory has no label of a row and field of this frame. df.llm.label(against='column') "
                "stores those of a column, pllm.labels() lists all."
            )
        field = next(iter(labelled))
    if field not in columns:
        raise UsageError(f"There is no field {field!r} among {list(columns)}.{guess(field, list(columns))}")
    labels = stored_labels(table, field)
    if not any(labels):
        raise UsageError(
            f"The cache directory has no label of {field!r} for a row of this frame. pllm.labels() lists all."
        )
    values = read_back(columns[field], [None if label is None else label.value for label in labels])
    return LabelColumn(STORED, values, [label is None for label in labels]), field


def answer_columns(source: Source) -> dict[str, Column]:
    """Return the columns of a run's answers by field, that is, by name without the run's prefix."""
    run = source.run
    if isinstance(run, RegisteredRun):
        prefix, fields = run.header["options"].get("prefix", ""), run.header["fields"]
    else:
        assert isinstance(run, LiveRun)
        rows: Any = run.rows
        prefix, fields = run.spec.options.prefix, rows.described(run)["fields"]
    return {column.name.removeprefix(prefix): column for column in source.made if column.name in fields}


def _field_named(named: str, source: Source, *, given: bool) -> str:
    """Return the field for a name with or without the prefix, or the only field if the name was not given."""
    columns = answer_columns(source)
    if named in columns:
        return named
    by_column = {column.name: field for field, column in columns.items()}
    if named in by_column:
        return by_column[named]
    if not given and len(columns) == 1:
        return next(iter(columns))
    if not given:
        raise UsageError(
            f"There are several fields, and none is named {named!r}. Pass field= with one of {list(columns)}."
        )
    raise UsageError(f"There is no field {named!r} among {list(columns)}.{guess(named, list(columns))}")


def _identifying(table: Table, found: Provenance | None, columns: Sequence[str] | None, labels: str) -> Sequence[str]:
    """Return the columns that identify a row."""
    names = list(table.names)
    if columns is not None:
        for name in columns:
            if name not in names:
                raise UnknownColumnError(name, names, "columns=")
        return tuple(columns)
    if found is not None:
        return found.sources[0].asked
    rest = [name for name in names if name != labels]
    if len(rest) == 1:
        return rest
    raise UsageError(
        f"No known run made this frame, so it is unclear which of its columns identify a row: pass columns= with those "
        f"that a prompt uses, of {rest}."
    )


def _made(columns: tuple[str, ...], content: int, row: dict[str, Any], note: LabelNote) -> Label:
    return Label(
        columns=columns,
        content=content,
        field="",
        value=None,
        by=note.by,
        at=time.time(),
        drawn_by=note.drawn_by,
        pi=note.pi,
        note=note.note,
        run=note.run,
        row=row,
    )


def _plain(value: Any) -> Any:
    """Return a value as JSON data, None for a missing value."""
    if is_missing(value) if not isinstance(value, (list, dict)) else False:
        return None
    (value,) = plain_values([value])
    return plain_data(value)
