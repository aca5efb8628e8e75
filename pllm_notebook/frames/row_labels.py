"""Labels for the answer of one row of a live run: its fields, existing labels, and storing new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.execution import LiveRun
from pllm_notebook.frames.dtypes import Column
from pllm_notebook.frames.label_values import choices_of, value_of, value_text
from pllm_notebook.frames.plain_data import plain_data
from pllm_notebook.frames.stored_labels import LabelNote, current_user, label_cells, labels_of_cells
from pllm_notebook.frames.table_rows import TableRows
from pllm_notebook.store import LabelFile, current_directory

__all__ = ["CheckedField", "accept_row", "checked_fields", "label_field", "unlabel_field"]

# A person who watches a live run does not draw a sample. Such labels have no draw probability: no interval uses them.
_DRAWN_BY = "view"


@dataclass(frozen=True, slots=True)
class CheckedField:
    """A field of one answer, and its label.

    Attributes:
        name: Name of the field, without the run's prefix.
        column: The result column.
        value: The answer, as JSON data.
        label: The right value as text, None if the field has no label.
        is_right: Whether the label equals the answer.
    """

    name: str
    column: Column
    value: Any
    label: str | None
    is_right: bool

    @property
    def choices(self) -> list[str]:
        """The field's possible values as text, [] if its type does not list them."""
        return [value_text(choice) for choice in choices_of(self.column)]


def checked_fields(run: LiveRun, row: int) -> list[CheckedField]:
    """Return the fields of a row's answer that can be labelled; [] without an answer, or if the run has no frame."""
    columns, values = _columns(run), _values(run, row)
    if not columns or values is None:
        return []
    asked, cells = _cells(run, row)
    known = labels_of_cells(asked, cells, current_user())
    found = []
    for column, value in zip(columns, values, strict=True):
        name = column.name.removeprefix(run.spec.options.prefix)
        answer, label = plain_data(value), known.get(name)
        said = None if label is None else value_text(label.value)
        found.append(CheckedField(name, column, answer, said, said == value_text(answer)))
    return found


def accept_row(run: LiveRun, row: int) -> None:
    """Store the whole answer of a row as right."""
    fields = checked_fields(run, row)
    if fields:
        _store(run, row, {field.name: field.value for field in fields})


def label_field(run: LiveRun, row: int, name: str, given: str | None) -> None:
    """Store the right value of one field of a row.

    Args:
        run: A run in memory.
        row: Position of the row in the run.
        name: Name of the field.
        given: The right value as text. None if the answer is right.

    Raises:
        UsageError: If the field cannot have the value, or there is no such field. Nothing was stored.
    """
    field = _field(run, row, name)
    _store(run, row, {name: field.value if given is None else value_of(field.column, given)})


def unlabel_field(run: LiveRun, row: int, name: str) -> None:
    """Delete the current user's latest label for one field of a row."""
    asked, cells = _cells(run, row)
    label = labels_of_cells(asked, cells, current_user()).get(name)
    if label is not None:
        LabelFile(current_directory()).remove([label.id])


def _field(run: LiveRun, row: int, name: str) -> CheckedField:
    fields = {field.name: field for field in checked_fields(run, row)}
    if name not in fields:
        raise UsageError(f"There is no field {name!r} among {list(fields)}.{guess(name, list(fields))}")
    return fields[name]


def _store(run: LiveRun, row: int, values: dict[str, Any]) -> None:
    asked, cells = _cells(run, row)
    label_cells(asked, cells, values, LabelNote(current_user(), _DRAWN_BY, None, None, run.id))


def _columns(run: LiveRun) -> Sequence[Column]:
    """Return the columns of a run's answers; () if a row's answer is not one line of a frame."""
    rows = run.rows
    if not isinstance(rows, TableRows) or rows.shape.explode or rows.described(run)["answers"] != "values":
        return ()
    return rows.shape.columns


def _values(run: LiveRun, row: int) -> Sequence[Any] | None:
    outcome = run.table.outcome(row)
    if outcome is None or run.table.failure(row) is not None or not isinstance(run.rows, TableRows):
        return None
    return run.rows.shape.values_of(outcome.value)


def _cells(run: LiveRun, row: int) -> tuple[Sequence[str], Sequence[Any]]:
    rows = run.rows
    assert isinstance(rows, TableRows)
    return rows.asked, rows.cells(row)
