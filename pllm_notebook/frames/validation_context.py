"""The validation context of each row, which validators of the answer's type read as Pydantic's `info.context`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from pllm_notebook.exceptions import UnknownColumnError, UsageError
from pllm_notebook.execution import ContextFailed
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.frames.hashing import content_hashes
from pllm_notebook.frames.rows import ColumnData
from pllm_notebook.frames.table import Table

__all__ = ["RowContexts", "context_of_cells", "contexts_for"]


class RowContexts:
    """The context of each row: its cells, the result of a function of them, or the same for all rows.

    Args:
        columns: Names of the columns in the table, () if all rows have the same context.
        given: Their cells, by their names in the context; None if all rows have the same context.
        make: Builds the context from a row's cells.
        is_function: Whether *make* is the caller's function.

    Attributes:
        columns: As given.
    """

    def __init__(
        self,
        columns: Sequence[str],
        given: ColumnData | None,
        make: Callable[[dict[str, Any]], Any],
        *,
        is_function: bool = False,
    ) -> None:
        self.columns = tuple(columns)
        self._given = given
        self._make = make
        self._is_function = is_function
        self._hashes: Any = None

    def of(self, row: int) -> Any:
        """Return the context of a row. Calls the caller's function, if there is one.

        Raises:
            ContextFailed: If the function raises.
        """
        try:
            return self._make(self._cells(row))
        except Exception as error:
            raise ContextFailed(_failure(error)) from error

    def ids(self, rows: Sequence[int]) -> list[str | Failure]:
        """Return an id of each row's context: "" if all rows have the same, a failure if it cannot be built."""
        if self._given is None:
            return [""] * len(rows)
        if self._is_function:
            return [self._id_of(row) for row in rows]
        if self._hashes is None:
            self._hashes = content_hashes([self._given], self._given.total)
        return [f"{int(self._hashes[row]):x}" for row in rows]

    def _id_of(self, row: int) -> str | Failure:
        try:
            made = self.of(row)
        except ContextFailed as failed:
            return failed.failure
        return to_json(made, serialize_unknown=True, inf_nan_mode="constants").hex()

    def _cells(self, row: int) -> dict[str, Any]:
        given = self._given
        if given is None:
            return {}
        columns = zip(given.names, given.values, given.missing, strict=True)
        return {name: None if missing[row] else values[row] for name, values, missing in columns}


def _failure(error: Exception) -> Failure:
    message = f"validation_context= raised {type(error).__name__} for this row: {error}"
    return Failure(FailureKind.INPUT, f"{message[:300]}. Nothing was sent for this row.")


def contexts_for(given: Any, table: Table) -> RowContexts:
    """Return the contexts for `validation_context=`.

    Args:
        given: A column, several columns, a mapping, or a function of a row's cells by column.
        table: The rows.

    Raises:
        UnknownColumnError: If a column does not exist. Nothing was sent.
        UsageError: If *given* is an empty list of columns. Nothing was sent.
    """
    if isinstance(given, Mapping):
        return RowContexts((), None, lambda _: given)
    if callable(given):
        data = table.column_data(list(dict.fromkeys(table.names)))
        return RowContexts(data.names, _named(data, table), given, is_function=True)
    names = [given] if isinstance(given, str) else list(given)
    if not names:
        raise UsageError("validation_context= names no column. Nothing was sent.")
    own = {"value": table.names[0]} if table.is_column else {}
    for name in names:
        if own.get(name, name) not in table.names:
            raise UnknownColumnError(name, table.names, "validation_context=")
    data = table.column_data([own.get(name, name) for name in names])
    return RowContexts(data.names, ColumnData(tuple(names), data.values, data.missing, data.total), dict)


def context_of_cells(given: Any, cells: Mapping[str, Any]) -> Any:
    """Return the context for `validation_context=` of a row that is not in a table, from its cells by column."""
    if given is None or isinstance(given, Mapping):
        return given
    if callable(given):
        return given(dict(cells))
    return {name: cells.get(name) for name in ([given] if isinstance(given, str) else given)}


def _named(data: ColumnData, table: Table) -> ColumnData:
    """Return the cells by their names in a prompt: a single column is `value`."""
    return ColumnData(("value",), data.values, data.missing, data.total) if table.is_column else data
