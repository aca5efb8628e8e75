"""A row of the live sample: its columns, answer, cost and latency, as short texts and numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import orjson

from pllm_notebook.cell_text import as_text, is_missing
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution.live_run import LiveRun
from pllm_notebook.execution.row_source import NamedCells, Rows
from pllm_notebook.failures import Failure, truncate
from pllm_notebook.formatting import strip_control_chars
from pllm_notebook.prompts import prompt_as_text

__all__ = ["NO_COLUMNS", "SampleRows", "field_values_of", "row_name", "shown_value"]

NO_COLUMNS: dict[str, Any] = {"input": [], "output": [], "confidence": False, "more_input": 0, "more_output": 0}
"""The columns of a view that shows no rows."""

_MOST_CHARS = 160
_MOST_COLUMNS = 6
_MOST_FIELDS = 12
_MOST_EXACT = 2**53  # larger integers are not exact in a browser


class SampleRows:
    """The rows of one run in readable form. Holds no reference to the run, so that it can be released.

    Args:
        run: The run.

    Attributes:
        columns: Names of the input columns and answer fields that a row shows, the numbers of those that it does not
            show, and whether it has a confidence.
    """

    def __init__(self, run: LiveRun) -> None:
        self._output, self._simulated = run.spec.output, run.execution.simulated
        named = run.rows.asked if isinstance(run.rows, NamedCells) else ("prompt",)
        fields = None if self._output is None else self._output.fields
        names = ["answer"] if fields is None else [field.name for field in fields]
        self.columns: dict[str, Any] = {
            "input": [shown_text(name) for name in named[:_MOST_COLUMNS]],
            "output": [shown_text(name) for name in names[:_MOST_FIELDS]],
            "confidence": bool(run.spec.options.probabilities) and hasattr(run.rows, "confidence"),
            "more_input": max(0, len(named) - _MOST_COLUMNS),
            "more_output": max(0, len(names) - _MOST_FIELDS),
        }

    def row(self, run: LiveRun, row: int) -> dict[str, Any]:
        """Return one row in any state (see `RunViewModel`)."""
        table = run.table
        outcome, failure = table.outcome(row), table.failure(row)
        value = None if outcome is None else outcome.value
        replies = [] if outcome is None else outcome.replies()
        values: list[Any] = [None] * len(self.columns["output"])
        if outcome is not None and failure is None:
            values = [shown_value(one) for one in field_values_of(self._output, value)[:_MOST_FIELDS]]
        return {
            "row": row,
            "label": row_name(run.rows, row),
            "status": table.status(row),
            "input": _cells(run.rows, row),
            "values": values,
            "message": "" if failure is None else shown_text(f"{failure.kind}: {failure.message}"),
            "cost_usd": None if outcome is None or not replies else outcome.cost_usd,
            "latency_s": replies[-1]["latency_s"] if replies else None,
            "confidence": self._confidence(run, row) if outcome is not None and failure is None else None,
            "simulated": self._simulated,
        }

    def _confidence(self, run: LiveRun, row: int) -> float | None:
        if not self.columns["confidence"]:
            return None
        try:
            p = run.rows.confidence(run, row)  # type: ignore[attr-defined]  # frame rows, defined above this layer
        except PllmError:  # its replies, or the calibration that the run uses, no longer exist
            return None
        return None if p is None else round(p, 4)


def row_name(rows: Rows, row: int) -> str:
    """Return the label of a row, cut to the length of a link; its position if the rows have no labels."""
    name_of = getattr(rows, "name_of", str)
    return truncate(strip_control_chars(name_of(row)), 40)


def _cells(rows: Rows, row: int) -> list[Any]:
    if isinstance(rows, NamedCells):
        return [shown_value(cell) for cell in rows.cells(row)[:_MOST_COLUMNS]]
    (prompt,) = rows.prompts(range(row, row + 1))
    return [None if prompt is None or isinstance(prompt, Failure) else shown_text(prompt_as_text(prompt))]


def field_values_of(output: Any, value: Any) -> Sequence[Any]:
    """Return the values of an answer's fields, or only the answer if it has no fields."""
    if output is None or output.fields is None or value is None:
        return (value,)
    values: Sequence[Any] = output.field_values(value)
    return values


def shown_value(value: Any) -> Any:
    """Return a cell as a number, a bool, None or a short text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return shown_value(value.value)
    if isinstance(value, str):
        return shown_text(value)
    if isinstance(value, int):
        return int(value) if abs(value) <= _MOST_EXACT else shown_text(str(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{len(value):,} bytes"
    try:
        if is_missing(value):
            return None
        if isinstance(value, (list, tuple, Mapping)) or hasattr(value, "model_dump"):
            plain = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
            return shown_text(orjson.dumps(plain, default=str).decode())
        return shown_text(as_text(value))
    except Exception:  # an object of a caller's class: its repr is enough
        return shown_text(repr(value))


def shown_text(text: str) -> str:
    """Return the beginning of a text, without control characters."""
    # Cut first as well: the search for control characters must not scan a very long text.
    return truncate(strip_control_chars(truncate(text, _MOST_CHARS * 2)), _MOST_CHARS)
