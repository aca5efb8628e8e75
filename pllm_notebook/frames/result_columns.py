"""The result columns of a type, and values column by column, for any dataframe library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pllm_notebook.exceptions import NameClashError, UsageError, guess
from pllm_notebook.execution import ResultTable
from pllm_notebook.frames.dtypes import Column, Kind, column_of, core
from pllm_notebook.schema import OutputType
from pllm_notebook.settings import Options

__all__ = ["ColumnGroup", "ResultColumns", "answers_of", "check_column", "is_column_read", "unchanged"]


class ColumnGroup(NamedTuple):
    """One or more adjacent columns, and a function that takes their values from an answer's value."""

    columns: tuple[Column, ...]
    take: Callable[[Any], Sequence[Any]]


class ResultColumns:
    """The result columns of a type.

    Args:
        output: The type, None for plain text.
        options: `prefix`, `column`, `explode`, `nested`, `flatten`, `error_column`, `agreement_column`,
            `confidence_column`.

    Attributes:
        columns: The columns of the values, in order.
        explode: Whether a row may become several lines.
        single: Whether there is exactly one column, for a value without fields.

    Raises:
        UsageError: If `explode=` is not for a list, or a column has no name. Nothing was sent.
    """

    def __init__(self, output: OutputType | None, options: Options) -> None:
        self.explode = bool(options.explode)
        self._by_field: int | None = None
        self._output = output
        self._nested, self._flatten = options.nested, options.flatten
        self._parts = self._made(options)
        self.columns = tuple(column for part in self._parts for column in part.columns)
        prefix = options.prefix
        self.error_column = None if options.error_column is None else prefix + options.error_column
        self.agreement_column = None if options.agreement_column is None else prefix + options.agreement_column
        self.confidence_column = None if options.confidence_column is None else prefix + options.confidence_column
        named = (self.agreement_column, self.confidence_column, self.error_column)
        beside = [name for name in named if name is not None]
        self.names = (*(column.name for column in self.columns), *beside)
        if "" in self.names:
            raise UsageError("A new column needs a name, and one of column, error_column, agreement_column and "
                             "confidence_column is empty. Nothing was sent.")  # fmt: skip
        self.single = not beside and (self._output is None or self._output.fields is None)
        if len(set(self.names)) != len(self.names):
            raise NameClashError([name for name in self.names if self.names.count(name) > 1], twice=True)

    def _made(self, options: Options) -> tuple[ColumnGroup, ...]:
        """Return the columns of the values themselves."""
        output, prefix = self._output, options.prefix
        if options.explode is True:
            if output is None or output.item is None:
                raise UsageError(
                    f"explode=True needs a list type such as list[Item], not "
                    f"{'plain text' if output is None else output.name}. For a list among the fields, pass its name: "
                    f"explode='lines'. Nothing was sent."
                )
            self._output = output = output.item
        elif options.explode:
            self._by_field, items = _list_field(output, options.explode)
        if output is None:
            return (ColumnGroup((Column(prefix + options.column, Kind.TEXT),), unchanged),)
        if output.fields is None:
            return (ColumnGroup((column_of(prefix + options.column, output.left, self._nested),), unchanged),)
        parts = []
        for at, field in enumerate(output.fields):
            of: Any = field.left if at != self._by_field else items.kind
            parts.append(self._part(prefix + field.name, of, (output.kind,)))
        return tuple(parts)

    def _part(self, name: str, of: Any, inside: tuple[Any, ...]) -> ColumnGroup:
        """Return the column of one field; with `flatten`, a column `name.field` for each field of a nested model."""
        kind = core(of)
        output = OutputType.of(kind) if self._flatten and isinstance(kind, type) and kind not in inside else None
        if output is None or not output.fields:
            return ColumnGroup((column_of(name, of, self._nested),), unchanged)
        parts = [self._part(f"{name}.{field.name}", field.left, (*inside, kind)) for field in output.fields]
        columns = tuple(column for part in parts for column in part.columns)
        fields = output.field_values

        def take(value: Any) -> Sequence[Any]:
            values = (None,) * len(parts) if value is None else fields(value)
            return [one for part, own in zip(parts, values, strict=True) for one in part.take(own)]

        return ColumnGroup(columns, take)

    def values_of(self, value: Any) -> Sequence[Any]:
        """Return the values of one answer in the order of `columns`; for an exploded list, the list itself."""
        output = self._output
        if output is None or output.fields is None:
            return (value,)
        fields = output.field_values(value)
        return [one for part, own in zip(self._parts, fields, strict=True) for one in part.take(own)]

    def table(self, results: ResultTable, rows: Sequence[int] | None = None) -> tuple[list[list[Any]], list[int]]:
        """Return the values column by column, and the row of each line of the result.

        A row without a value has None in every column. With `explode`, a list becomes one line per item; an empty list
        becomes one line of None, like a row without a value.

        Args:
            results: The results of the run.
            rows: The rows to return, -1 for a row that is not in the run. None for all, in order.
        """
        return self.table_of(answers_of(results, rows))

    def table_of(self, values: Sequence[Any]) -> tuple[list[list[Any]], list[int]]:
        """Return the same as `table`, from the value of each row; None for a row without a value."""
        origin: Sequence[int] = range(len(values))
        if self.explode and self._by_field is None:
            lines = [(row, item) for row, value in enumerate(values) for item in _items(value)]
            origin, values = [row for row, _ in lines], [item for _, item in lines]
        fields = None if self._output is None else self._output.fields
        if fields is None:
            return [list(values)], list(origin)
        empty = (None,) * len(fields)
        assert self._output is not None
        take = self._output.field_values
        rows: list[tuple[Any, ...]] = [empty if value is None else take(value) for value in values]
        if self._by_field is not None:
            at = self._by_field
            opened = [(row, item) for row, own in enumerate(rows) for item in _items(own[at])]
            origin = [row for row, _ in opened]
            rows = [(*rows[row][:at], item, *rows[row][at + 1 :]) for row, item in opened]
        by_field = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in fields]
        return [column for part, own in zip(self._parts, by_field, strict=True) for column in _spread(part, own)], list(
            origin
        )

    def messages(self, results: ResultTable) -> list[str | None]:
        """Return each row's failure as text, None for a row without a failure."""
        failures = (results.failure(row) for row in range(len(results.call_of_row)))
        return [None if failure is None else f"{failure.kind}: {failure.message}" for failure in failures]


def check_column(shape: ResultColumns, options: Options, column: object) -> None:
    """Check that `column=` of a call names a column of the result.

    Args:
        shape: The columns of the result.
        options: The resolved options.
        column: As given, None if not given.

    Raises:
        UsageError: If the columns are named after the fields of the type. Nothing was sent.
    """
    if column is not None and not is_column_read(shape, options):
        made = [one.name for one in shape.columns]
        raise UsageError(
            f"column={column!r} names the column of an answer without fields, and this one has columns of its own: "
            f"{made!r}. Leave it out, or give prefix= to name them apart. Nothing was sent."
        )


def is_column_read(shape: ResultColumns, options: Options) -> bool:
    """Return whether the result has the column named by the option `column`."""
    return any(one.name == options.prefix + options.column for one in shape.columns)


def answers_of(results: ResultTable, rows: Sequence[int] | None) -> list[Any]:
    """Return the values of some rows (see `ResultColumns.table`), None for a row without a value."""
    calls: Sequence[int] = results.call_of_row
    if rows is not None:
        calls = [-1 if row < 0 else calls[row] for row in rows]
    outcomes = [None if call < 0 else results.outcomes[call] for call in calls]
    return [None if outcome is None else outcome.value for outcome in outcomes]


def unchanged(value: Any) -> Sequence[Any]:
    """Return a tuple of only the value, for a group of one column."""
    return (value,)


def _spread(part: ColumnGroup, values: list[Any]) -> list[list[Any]]:
    if part.take is unchanged:
        return [values]
    rows = [part.take(value) for value in values]
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in part.columns]


def _list_field(output: OutputType | None, name: str) -> tuple[int, OutputType]:
    """Return the position of the list field with this name, and the type of its items."""
    fields = () if output is None else output.fields or ()
    names = [field.name for field in fields]
    if name not in names:
        raise UsageError(
            f"explode={name!r} is not a field: {'there are none' if not names else f'the fields are {names}'}."
            f"{guess(name, names)} Nothing was sent."
        )
    at = names.index(name)
    items = OutputType.of(core(fields[at].annotation)).item
    if items is None:
        raise UsageError(f"explode={name!r} needs a field that is a list, and {name} is not. Nothing was sent.")
    return at, items


def _items(value: Any) -> Sequence[Any]:
    if value is None:
        return (None,)
    items = getattr(value, "root", value)
    return list(items) or (None,)
