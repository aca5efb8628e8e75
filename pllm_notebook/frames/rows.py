"""The parts of a frame's run that do not depend on a dataframe library: prompts from rows, records of failures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

import orjson

from pllm_notebook.cell_text import as_text
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import LiveRun
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.formatting import counted
from pllm_notebook.frames.dtypes import CellType
from pllm_notebook.messages_types import Prompt
from pllm_notebook.prompts import as_labelled_json, prompt_as_text
from pllm_notebook.templates import Template

__all__ = [
    "ERROR_COLUMNS",
    "USAGE_COLUMNS",
    "ColumnData",
    "LazyPrompts",
    "RowPrompts",
    "error_rows",
    "prompts_of",
    "usage_rows",
]

ERROR_COLUMNS = {
    "position": CellType.COUNT,
    "label": CellType.LABEL,
    "kind": CellType.TEXT,
    "message": CellType.TEXT,
    "attempts": CellType.COUNT,
    "raw": CellType.TEXT,
    "cost_usd": CellType.REAL,
    "status": CellType.INTEGER,
    "field": CellType.TEXT,
    "request_id": CellType.TEXT,
    "prompt": CellType.TEXT,
}

USAGE_COLUMNS = {
    "input_tokens": CellType.INTEGER,
    "output_tokens": CellType.INTEGER,
    "cache_read_tokens": CellType.INTEGER,
    "cache_write_tokens": CellType.INTEGER,
    "reasoning_tokens": CellType.INTEGER,
    "cost_usd": CellType.REAL,
    "latency_s": CellType.REAL,
    "attempts": CellType.INTEGER,
    "cached": CellType.BOOLEAN,
}

# Number of characters shown of an error raised by a cell's class, since its message may quote the cell.
_REASON = 200

_PROMPT = 100
"""Number of characters shown of a failed row's prompt."""


@dataclass(frozen=True, slots=True)
class ColumnData:
    """The columns that go into the prompts, by position.

    Attributes:
        names: Column names, in order.
        values: For each name, the whole column as Python values. Shared and never changed.
        missing: For each name, whether each cell is missing.
        total: Number of rows.
    """

    names: tuple[str, ...]
    values: tuple[Sequence[Any], ...]
    missing: tuple[Sequence[bool], ...]
    total: int


class LazyPrompts(Sequence["Prompt | Failure | None"]):
    """Prompts made on access from other prompts and an addition to each.

    This avoids having the images of thousands of rows in memory at once.

    Args:
        prompts: The prompts of the rows, which may also be made on access.
        beside: The addition to each prompt.
    """

    def __init__(self, prompts: Sequence[Prompt | Failure | None], beside: Sequence[Any]) -> None:
        self._prompts = prompts
        self._beside = beside

    def __len__(self) -> int:
        return len(self._prompts)

    @overload
    def __getitem__(self, at: int) -> Prompt | Failure | None: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Prompt | Failure | None]: ...
    def __getitem__(self, at: int | slice) -> Any:
        if isinstance(at, slice):
            return type(self)(self._prompts[at], self._beside[at])
        return self._made(at)

    @abstractmethod
    def _made(self, at: int) -> Prompt | Failure | None:
        """Return one prompt."""


def prompts_of(given: ColumnData, template: Template | None, na: str, *, needs_all: bool = False) -> _Prompts:
    """Return the prompts of a run.

    Args:
        given: The columns that the template names, in its order. Without a template, the columns sent as data.
        template: The compiled prompt, None to send each row as labelled data.
        na: As in `Options`.
        needs_all: Whether a row of labelled data with any missing value is skipped, as with a template. Otherwise the
            value is null, and only rows without any value are skipped.

    Raises:
        UsageError: With na="raise", if a cell is missing. Nothing was sent.
    """
    if na == "raise":
        for name, missing in zip(given.names, given.missing, strict=True):
            count = sum(missing)
            if count:
                first = next(row for row, is_missing in enumerate(missing) if is_missing)
                raise UsageError(
                    f"Column {name!r} has {counted(count, 'missing value')}, the first in row {first:,}, and "
                    f"na='raise'. Fill or drop them, or pass na='skip'. Nothing was sent."
                )
    skipped = None if na == "send" else any if needs_all or template is not None else all
    return _Prompts(given, template, skipped)


class RowPrompts(Protocol):
    """The prompts of a run's rows: those of `prompts_of`, or prompts that add something to them."""

    def __call__(self, rows: range) -> Sequence[Prompt | Failure | None]:
        """Return the prompts of some rows; None for a row to skip."""

    @property
    def source(self) -> str:
        """The template shared by all rows, "" without a template (see `execution.Rows`)."""

    def items(self, rows: range) -> Sequence[bytes]:
        """Return the content in a pack of each row that has a prompt."""


class _Prompts:
    """A run's prompts. Calling it with rows returns their full texts; `source` and `items` are for packs.

    Args:
        given: The columns.
        template: The compiled prompt, None for labelled data.
        skipped: Returns whether to skip a row, given whether each of its values is missing. None to skip no row.
    """

    def __init__(
        self, given: ColumnData, template: Template | None, skipped: Callable[[Iterable[bool]], bool] | None
    ) -> None:
        self._given = given
        self._template = template
        self._skipped = skipped
        self._plain = [bool(values) and all(type(v) is str for v in values) for values in given.values]
        self.source = "" if template is None else template.source

    def __call__(self, rows: range) -> list[str | Failure | None]:
        try:
            return self._made(rows)
        except Exception:  # any error raised by a cell's class, or a list that contains itself
            return [self._made_alone(row) for row in rows]

    def _made(self, rows: range) -> list[str | Failure | None]:
        return self._labelled(rows) if self._template is None else self._filled(self._template, rows)

    def _made_alone(self, row: int) -> str | Failure | None:
        """Return one row's prompt, or a failure if a cell cannot be written as text."""
        try:
            return self._made(range(row, row + 1))[0]
        except Exception as error:
            return Failure(FailureKind.INPUT, self._unwritable(row, error))

    def _unwritable(self, row: int, error: Exception) -> str:
        reason = f"{type(error).__name__}: {error}"[:_REASON]
        for name, values, missing in zip(self._given.names, self._given.values, self._given.missing, strict=True):
            try:
                if not missing[row]:
                    as_text(values[row])
            except Exception:
                kind = type(values[row]).__name__
                return (
                    f"The cell of column {name!r}, a value of type {kind}, cannot be written as text: {reason}. Put a "
                    f"text of it into the column. Nothing was sent for this row."
                )
        return f"The row cannot be written as text: {reason}. Nothing was sent for this row."

    def _filled(self, template: Template, rows: range) -> list[str | Failure | None]:
        filled: list[str | Failure | None] = list(template.fill(self._cells(rows), range(len(rows))))
        if self._skipped is not None:
            for missing in self._given.missing:
                for at, row in enumerate(rows):
                    if missing[row]:
                        filled[at] = None
        return filled

    def items(self, rows: range) -> list[bytes]:
        """Return the content in a pack of each row that has a prompt (see `execution.Rows`)."""
        if self._template is None:
            return [text.encode() for text in self._labelled(rows) if isinstance(text, str)]
        names, cells = self._given.names, self._cells(rows)
        return [
            orjson.dumps({name: column[at] for name, column in zip(names, cells, strict=True)})
            for at in range(len(rows))
        ]

    def _cells(self, rows: range) -> list[list[str]]:
        """Return the texts of each column that the template inserts."""
        given = self._given
        cells = []
        for values, missing, is_plain in zip(given.values, given.missing, self._plain, strict=True):
            if is_plain:
                cells.append([values[row] for row in rows])
            else:
                cells.append(["" if missing[row] else as_text(values[row]) for row in rows])
        return cells

    def _labelled(self, rows: range) -> list[str | Failure | None]:
        given, skipped = self._given, self._skipped
        made: list[str | Failure | None] = []
        for row in rows:
            cells = [
                None if missing[row] else values[row]
                for values, missing in zip(given.values, given.missing, strict=True)
            ]
            if skipped is not None and skipped(cell is None for cell in cells):
                made.append(None)
                continue
            try:
                made.append(as_labelled_json(given.names, cells))
            except UsageError as error:
                made.append(Failure(FailureKind.INPUT, str(error)))
        return made


def error_rows(run: LiveRun, rows: Iterable[int] | None = None) -> Iterator[dict[str, Any]]:
    """Yield one record for each failed row among *rows* (None for all), in order, with the beginning of its prompt.

    A row that was not sent because of `max_cost_usd` does not count as failed.
    """
    results = run.table
    for row in range(len(results.call_of_row)) if rows is None else rows:
        failure, outcome = results.failure(row), results.outcome(row)
        if failure is not None and not (outcome is not None and outcome.not_sent):
            paid = failure.cost_usd if outcome is None or not outcome.replies() else outcome.cost_usd
            yield {
                "position": row,
                "kind": str(failure.kind),
                "message": _storable(failure.message),
                "attempts": failure.attempts,
                "raw": _storable(failure.raw),
                "cost_usd": paid,
                "status": failure.status,
                "field": failure.field,
                "request_id": failure.request_id,
                "prompt": _beginning(run, row),
            }


def _beginning(run: LiveRun, row: int) -> str:
    (prompt,) = run.rows.prompts(range(row, row + 1))
    if prompt is None or isinstance(prompt, Failure):
        return ""
    return _storable(prompt_as_text(prompt)[:_PROMPT]) or ""


def _storable(text: str | None) -> str | None:
    """Return *text* with lone surrogates escaped, because Arrow text columns do not accept them."""
    return text if text is None else text.encode("utf-8", "backslashreplace").decode()


def usage_rows(run: LiveRun, rows: Iterable[int]) -> Iterator[Mapping[str, Any]]:
    """Yield one record of tokens, cost and latency for each of *rows*, with None for unknown values."""
    results = run.table
    for row in rows:
        outcome, ended = results.paid(row), results.outcome(row)
        replies = [] if outcome is None else outcome.replies()
        usage = outcome.usage if outcome is not None and replies else None
        yield {
            "input_tokens": None if usage is None else usage.input_tokens,
            "output_tokens": None if usage is None else usage.output_tokens,
            "cache_read_tokens": None if usage is None else usage.cache_read_tokens,
            "cache_write_tokens": None if usage is None else usage.cache_write_tokens,
            "reasoning_tokens": None if usage is None else usage.reasoning_tokens,
            "cost_usd": outcome.cost_usd if outcome is not None and replies else None,
            "latency_s": replies[-1]["latency_s"] if replies else None,
            "attempts": sum(about["attempts"] for about in replies) if replies else None,
            "cached": None if ended is None else ended.cached,
        }
