"""One side of a comparison: the answers of a run or a frame, found by the content of the rows that are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution import LiveRun
from pllm_notebook.failures import FailureKind
from pllm_notebook.frames.dtypes import Column
from pllm_notebook.frames.hashing import content_hashes
from pllm_notebook.frames.labels import plain_values
from pllm_notebook.frames.libraries import table_of
from pllm_notebook.frames.provenance import Provenance, Source, provenance_of
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.stored_labels import answer_columns
from pllm_notebook.frames.table import Table

__all__ = ["AnswerSide", "frame_side", "question_of", "run_side", "served_of"]

Numbers = np.ndarray[Any, np.dtype[Any]]

CHANGED_BY_HAND = 100
"""Status code of an answer that was corrected by hand, so that it is not the run's."""


@dataclass
class AnswerSide:
    """The answers of one side, line by line.

    Attributes:
        source: The run that made them, or the first of several.
        row: For each line its row in that run, -1 if another run made it.
        content: The hash of what was asked about each line, shape (n,), uint64.
        status: An index into `execution.STATUSES`, -1 for a line that no run made, `CHANGED_BY_HAND` for a corrected
            one; shape (n,).
        columns: Field (its column's name without the run's prefix) to column.
        values: Field to values. A missing value is None.
        failures: For each line the kind of its failure, "" for none.
        examples: Whether each line, or a near-duplicate, was an example of the run that made it; shape (n,), bool.
        twice: Result columns that the frame has more than once. They are not among the fields.
    """

    source: Source
    row: Numbers
    content: Numbers
    status: Numbers
    columns: Mapping[str, Column]
    values: Mapping[str, Sequence[Any]]
    failures: Sequence[str]
    examples: Numbers
    twice: Sequence[str] = ()

    @property
    def is_simulated(self) -> bool:
        """Whether the answers are simulated."""
        run = self.source.run
        return bool(run.progress().simulated if isinstance(run, LiveRun) else run.header["simulated"])

    @property
    def answered(self) -> Numbers:
        """Whether each line has an answer, shape (n,), bool."""
        return np.asarray(((self.status >= 0) & (self.status <= 1)) | (self.status == CHANGED_BY_HAND))


def frame_side(table: Table, *, takes_items: bool = False, named: str = "this frame") -> AnswerSide:
    """Return the answers of a frame in their current state.

    Args:
        table: The frame.
        takes_items: Whether answers may have several lines a row.
        named: A description of the frame for errors.

    Raises:
        PllmError: If no known run made any of its rows, or if several did that asked about different columns.
        UsageError: If it has no rows, or its answers have several lines a row.
    """
    if not table.total:
        raise UsageError(
            f"{named.capitalize()} has no rows: nothing is left of the selection that made it (its columns are "
            f"{list(table.names)}). Nothing was sent or written."
        )
    found = provenance_of(table)
    first = found.sources[0]
    for source in found.sources:
        if not takes_items:
            _check_single_lines(source)
        if source.asked != first.asked:
            raise PllmError(
                f"The rows of this frame were made by runs that asked about different columns: {list(first.asked)!r} "
                f"(run {first.run.id}) and {list(source.asked)!r} (run {source.run.id}). Compare a part of it."
            )
    names = list(table.names)
    columns = {field: column for field, column in answer_columns(first).items() if names.count(column.name) == 1}
    data = table.column_data([column.name for column in columns.values()])
    values = {field: _present(data.values[at], data.missing[at]) for at, field in enumerate(columns)}
    return AnswerSide(
        source=first,
        row=np.where(found.source == 0, found.row, -1),
        content=content_hashes([table.column_data(first.asked)], table.total),
        status=_status_of(found, table.total, list(values.values())),
        columns=columns,
        values=values,
        failures=_failures_of(found, table.total),
        examples=found.examples,
        twice=[column.name for column in first.made if names.count(column.name) > 1],
    )


def run_side(source: Source, like: Table) -> AnswerSide:
    """Return the answers of a run, in its own order, read from memory or from the cache. Sends nothing.

    Args:
        source: The run.
        like: The table to compare with, whose library is used for the values.

    Raises:
        PllmError: If its rows or answers are unknown.
        UsageError: If its answers have several lines a row.
    """
    _check_single_lines(source)
    record = source.record
    if record is None:
        raise PllmError(f"The run {source.run.id!r} ended before its rows were recorded. Run its cell again.")
    columns = answer_columns(source)
    result, lost = _result_of(source, like)
    data = result.column_data([column.name for column in columns.values()])
    rows = np.arange(len(record))
    every = Provenance([source], np.zeros(len(record), dtype=np.int64), rows, np.zeros(len(record), dtype=bool))
    status = source.statuses.astype(np.int16)
    status[lost & (status <= 1)] = -1
    values = {field: _present(data.values[at], data.missing[at]) for at, field in enumerate(columns)}
    failures = _failures_of(every, len(record))
    return AnswerSide(source, rows, record.content, status, columns, values, failures, every.examples)


def question_of(source: Source) -> dict[str, Any]:
    """Return prompt, system, model, schema and label of a run's question."""
    run = source.run
    if isinstance(run, RegisteredRun):
        return {name: run.header[name] for name in ("prompt", "system", "model", "schema", "label", "options")}
    rows: Any = run.rows
    template = getattr(rows, "template", None)
    return {
        "prompt": None if template is None else template.source,
        "system": run.spec.system,
        "model": run.progress().model,
        "schema": None if run.spec.output is None else run.spec.output.json_schema,
        "label": rows.label,
        "options": {},
    }


def served_of(source: Source) -> Sequence[str]:
    """Return the model names that the provider reported for a run, from the registry. () for none."""
    run = source.run if isinstance(source.run, RegisteredRun) else RegisteredRun.find(source.run.id)
    return () if run is None else tuple(run.header["served"])


def _result_of(source: Source, like: Table) -> tuple[Table, Numbers]:
    """Return the columns of a run's result, and for each row whether its answer is gone from the cache."""
    run, library = source.run, like.frame_library
    if isinstance(run, LiveRun):
        rows: Any = run.rows
        made = rows.assemble(run)
        lost = np.zeros(run.rows.total, dtype=bool)
    else:
        answers = run.read_answers()
        found = answers.values()
        columns, _ = answers.table(found)
        made = library.columns_frame(
            {column.name: library.array(column, own) for column, own in zip(answers.columns, columns, strict=True)}
        )
        lost = np.array([one is None for one in found], dtype=bool)
    result = table_of(made)
    assert result is not None
    return result, lost


def _check_single_lines(source: Source) -> None:
    if source.explode:
        raise UsageError(
            f"The run {source.run.id!r} made a line for each item (explode=), and this needs one answer per row. "
            f"Nothing was sent."
        )


def _present(values: Sequence[Any], missing: Sequence[bool]) -> list[Any]:
    kinds = set(map(type, values))
    plain = values if kinds <= {str, int, float, bool, dict, list} else plain_values(values)
    return [None if gap else value for value, gap in zip(plain, missing, strict=True)] if any(missing) else list(plain)


def _without_any(values: Sequence[Sequence[Any]], total: int) -> Numbers:
    gone = np.ones(total, dtype=bool)
    for own in values:
        if None not in own:
            return np.zeros(total, dtype=bool)
        gone &= np.array([value is None for value in own])
    return gone


def _status_of(found: Provenance, total: int, values: Sequence[Sequence[Any]]) -> Numbers:
    status = np.full(total, -1, dtype=np.int16)
    for at, source in enumerate(found.sources):
        here = found.source == at
        assert source.record is not None  # a row was found in it
        status[here] = source.statuses[found.row[here]]
    if found.changed.any():
        there = ~_without_any(values, total)
        status[found.changed & there] = CHANGED_BY_HAND
    return status


def _failures_of(found: Provenance, total: int) -> list[str]:
    """Return the kind of each line's failure, "" for none."""
    kinds = [""] * total
    for at, source in enumerate(found.sources):
        record = source.record
        assert record is not None  # a row was found in it
        here = np.flatnonzero(found.source == at)
        failed = here[record.failure[found.row[here]] > 0]
        names = failure_names(source)
        for line in failed.tolist():
            kinds[line] = names[int(record.failure[found.row[line]]) - 1]
    return kinds


def failure_names(source: Source) -> Sequence[str]:
    """Return the names of the failure kinds that a run's numbers refer to."""
    from_header: Sequence[str] | None = None
    if isinstance(source.run, RegisteredRun):
        from_header = source.run.header["failure_kinds"]
    return _KINDS if from_header is None else from_header


_KINDS = tuple(str(kind) for kind in FailureKind)
