"""Details of an opened row besides its call: confidence, evidence in the row's text, and labels."""

from __future__ import annotations

from typing import Any

from pllm_notebook.cell_text import as_text
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import LiveRun
from pllm_notebook.formatting import strip_control_chars
from pllm_notebook.frames.evidence_views import marked_pieces
from pllm_notebook.frames.label_values import value_text
from pllm_notebook.frames.probabilities import probabilities_of
from pllm_notebook.frames.row_labels import accept_row, checked_fields, label_field, unlabel_field
from pllm_notebook.frames.table_rows import TableRows

__all__ = ["mark_row", "row_checks", "row_evidence"]

_MOST_CHARS = 8_000
# Characters kept around the quotes in a long cell.
_AROUND = 300
_MOST_CHOICES = 40


def row_checks(run: LiveRun | None, row: int) -> dict[str, Any]:
    """Return the data that a browser shows for one answered row in addition to its call.

    `{"confidence": [[field, p], ...], "evidence": [[column, [[text, fields], ...]], ...],
    "checks": [{"field", "value", "choices", "label", "right"}, ...], "mark": word}`

    The pieces of evidence are the cell's text in order. Each has the names of the fields that quote it, "" for none.
    The mark is "right", "wrong", or "" for a row without labels.
    """
    if run is None:
        return {"confidence": [], "evidence": [], "checks": [], "mark": ""}
    fields = checked_fields(run, row)
    said = [field.is_right for field in fields if field.label is not None]
    return {
        "confidence": _confidence(run, row),
        "evidence": row_evidence(run, row),
        "checks": [
            {
                "field": field.name,
                "value": _cut(value_text(field.value)),
                "choices": field.choices[:_MOST_CHOICES],
                "label": None if field.label is None else _cut(field.label),
                "right": field.is_right,
            }
            for field in fields
        ],
        "mark": ("right" if all(said) else "wrong") if said else "",
    }


def mark_row(run: LiveRun, message: dict[str, Any]) -> str:
    """Store or undo a user's label of a row. Return an error message, "" if it succeeded.

    Args:
        run: A run in memory.
        message: "row", "field" (None for the whole answer), and "value": the correct value as text, None for the
            answer's own; or "undo".
    """
    row, field, value = message["row"], message.get("field"), message.get("value")
    try:
        if field is None:
            accept_row(run, row)
        elif message.get("undo"):
            unlabel_field(run, row, str(field))
        else:
            label_field(run, row, str(field), None if value is None else str(value))
    except PllmError as error:
        return str(error)
    return ""


def _confidence(run: LiveRun, row: int) -> list[list[Any]]:
    if not run.spec.options.probabilities:
        return []
    try:
        found = probabilities_of(run, [row]).confidence
    except PllmError:  # the row's replies or the run's calibration are no longer stored
        return []
    return [[name, round(float(p[0]), 4)] for name, p in found.items() if p[0] == p[0]]


def row_evidence(run: LiveRun, row: int) -> list[list[Any]]:
    """Return the quotations of a row's answer: [column, [[text, fields], ...]] for each quoted cell."""
    if not isinstance(run.rows, TableRows):
        return []
    quotations = run.rows.quotations(run, row)
    if not quotations:
        return []
    texts = {name: as_text(cell) for name, cell in zip(run.rows.asked, run.rows.cells(row), strict=True)}
    shown = [[name, marked_pieces(text, own, most=_MOST_CHARS, around=_AROUND)] for name, text in texts.items()
             if (own := [each for each in quotations if each.column == name])]  # fmt: skip
    lost = [[each.quote, each.field] for each in quotations if each.quote is not None and each.column is None]
    return [*shown, *([["not in the row", lost]] if lost else [])]


def _cut(text: str) -> str:
    return strip_control_chars(text[:_MOST_CHARS])
