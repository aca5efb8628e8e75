"""The result columns of a model's tool calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import CallSpec, ResultTable, build_spec
from pllm_notebook.frames.dtypes import Column, Kind
from pllm_notebook.frames.result_columns import ColumnGroup, ResultColumns, answers_of, unchanged
from pllm_notebook.settings import Options
from pllm_notebook.tools import CalledTool

__all__ = ["ToolCallColumns", "tool_calls_for"]


class ToolCallColumns(ResultColumns):
    """The columns of tool calls: `tool` and `arguments` of the first call, and `calls` with all calls of a row.

    With `explode`, each call has its own line, and there is no `calls`.

    Args:
        options: `prefix`, `explode`, `error_column`.
    """

    def __init__(self, options: Options) -> None:
        super().__init__(None, options)

    def _made(self, options: Options) -> tuple[ColumnGroup, ...]:
        prefix = options.prefix
        one = [Column(prefix + "tool", Kind.TEXT), Column(prefix + "arguments", Kind.OBJECT)]
        made = one if options.explode else [*one, Column(prefix + "calls", Kind.OBJECT)]
        return tuple(ColumnGroup((column,), unchanged) for column in made)

    def table(self, results: ResultTable, rows: Sequence[int] | None = None) -> tuple[list[list[Any]], list[int]]:
        """Return the values column by column, and the row of each line (see `ResultColumns.table`).

        A row without tool calls has one line, with None for tool and arguments.
        """
        answers = answers_of(results, rows)
        calls: list[Sequence[CalledTool] | None] = [None if answer is None else answer.calls for answer in answers]
        lines: list[tuple[int, CalledTool | None]] = []
        for row, made in enumerate(calls):
            shown: Sequence[CalledTool | None] = (made or ()) if self.explode else (made or ())[:1]
            lines += [(row, call) for call in shown or (None,)]
        columns: list[list[Any]] = [
            [None if call is None else call.name for _, call in lines],
            [None if call is None else call.arguments for _, call in lines],
        ]
        if not self.explode:
            columns.append([None if made is None else list(made) for made in calls])
        return columns, [row for row, _ in lines]


def tool_calls_for(options: Options, *, instruct: bool) -> CallSpec:
    """Return the spec of a question whose answer is the model's tool calls.

    Args:
        options: The resolved options.
        instruct: Whether there is no prompt.

    Raises:
        UsageError: If several answers per row are requested, or a tool cannot be offered. Nothing was sent.
    """
    if options.samples > 1 or len(options.models or ()) > 1:
        raise UsageError(
            "call_tools makes one answer per row; samples= or several models cannot be combined with it. "
            "Nothing was sent."
        )
    return build_spec(options, None, instruct=instruct, calls=True)
