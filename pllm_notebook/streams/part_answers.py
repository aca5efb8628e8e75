"""The rows and answers of a part as its file stores them, and the counts of one call's parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from pllm_notebook.callers import Caller
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import LiveRun
from pllm_notebook.streams.batches import answered
from pllm_notebook.streams.table_window import Answered, TablePiece, TableWindow

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ERROR", "STATUS", "PartCounts", "check_columns", "part_table", "row_of_line", "write_parts"]

STATUS, ERROR = "_pllm_status", "_pllm_error"
"""Columns of a part: the status of each row, and the message of a failure."""


class PartCounts(NamedTuple):
    """The counts of one call for the parts of a dataset.

    Attributes:
        written: Number of parts written.
        rows: Number of rows asked about in them.
        answered: Rows with an answer.
        failed: Rows that failed.
        skipped: Rows with a missing value.
        unwritten: Number of parts that were not written because a row has no outcome.
        cost_usd: Cost in US dollars. None if unknown.
    """

    written: int
    rows: int
    answered: int
    failed: int
    skipped: int
    unwritten: int
    cost_usd: float | None


def write_parts(
    window: TableWindow, pieces: Iterator[TablePiece], called_by: Caller, write: Callable[[Answered], None]
) -> PartCounts:
    """Ask about the rows of some parts, and write each part once all its rows have an outcome."""
    done: Counter[str] = Counter()
    costs: list[float | None] = []
    with closing(answered(window, pieces, called_by)) as each:
        for one in each:
            counts = one.run.progress()
            costs.append(counts.cost_usd)
            if counts.not_sent or counts.pending:
                done["unwritten"] += 1  # only complete parts are written: a later call writes this one
                continue
            write(one)
            done.update(
                written=1,
                rows=counts.total,
                answered=counts.done + counts.cached,
                failed=counts.failed,
                skipped=counts.skipped,
            )
            del one
    numbers = {name: done[name] for name in PartCounts._fields if name != "cost_usd"}
    return PartCounts(**numbers, cost_usd=None if None in costs else sum(cost for cost in costs if cost is not None))


def part_table(run: LiveRun, *, status: bool) -> pa.Table:
    """Return the rows of a run with their answers and, with *status*, their status columns."""
    import pyarrow as pa

    frame = run.to_frame()
    if not status:
        return frame
    rows: Any = run.rows
    states = [run.table.status(row) for row in range(rows.total)]
    messages = rows.shape.messages(run.table)
    origin = row_of_line(run)
    if origin is not None:
        states, messages = [states[row] for row in origin], [messages[row] for row in origin]
    frame = frame.append_column(STATUS, pa.array(states, pa.string()))
    return frame.append_column(ERROR, pa.array(messages, pa.string()))


def row_of_line(run: LiveRun) -> list[int] | None:
    """Return the row of each line of a run's result, or None if each row has one line."""
    rows: Any = run.rows
    return rows.shape.table(run.table)[1] if rows.shape.explode else None


def check_columns(names: list[str], *, status: bool) -> None:
    """Check that no column has the name of a status column.

    Raises:
        UsageError: If one has. Nothing was sent.
    """
    for name in (STATUS, ERROR):
        if status and name in names:
            raise UsageError(
                f"The rows or their answers have a column {name!r}, which the parts have too. Rename it, or pass "
                f"status=False. Nothing was sent."
            )
