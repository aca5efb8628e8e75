"""The run that made each row of a frame, found by the row's content and its result values.

The run id in a frame's metadata is only the first run to try. Libraries copy the id to frames of other rows and lose it
in a merge, so a row is only attributed to a run if its own content confirms it.
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pllm_notebook.callers import caller_stack_level
from pllm_notebook.exceptions import NameClashError, PllmError
from pllm_notebook.execution import LiveRun, RecordableRows, RowRecord, find, runs
from pllm_notebook.formatting import counted
from pllm_notebook.frames.dtypes import Column
from pllm_notebook.frames.hashing import content_hashes
from pllm_notebook.frames.recorded_answers import columns_in
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.table import Flags, Table

__all__ = ["Provenance", "Source", "asked_rows", "named_run", "provenance_of", "replaceable"]

MAX_CANDIDATES = 20
"""Number of runs tried for a frame without a run id: the newest that fit its columns."""

_ONCE_MORE = "Or run the cell that made it again: answers in the cache cost nothing."

Rows = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class Source:
    """A run that may have made a table's rows.

    Attributes:
        run: A handle: live, or from the registry on disk.
        asked: Names of the columns that its question used.
        made: The columns of its result.
        explode: Whether an answer has a line for each of its items.
        part_of: The process that the run was a step of, such as "race". A user's frame is never made by a step. "" if
            it was not a step.
    """

    run: LiveRun | RegisteredRun
    asked: tuple[str, ...]
    made: tuple[Column, ...]
    explode: bool
    part_of: str = ""

    @classmethod
    def of(cls, run: LiveRun | RegisteredRun) -> Source | None:
        """Return the source for a handle, None if its run has no dataframe."""
        if isinstance(run, RegisteredRun):
            asked = tuple(run.header["asked"])
            part_of = run.header.get("part_of", "")
            return cls(run, asked, run.columns, run.header["explode"], part_of) if asked else None
        # A frame may have no columns; a list never has any.
        if not isinstance(run.rows, RecordableRows) or not (run.rows.asked or hasattr(run.rows, "table")):
            return None
        header = run.rows.described(run)
        return cls(run, run.rows.asked, columns_in(header["made"]), header["explode"], header.get("part_of", ""))

    @cached_property
    def record(self) -> RowRecord | None:
        """The record of its rows, None if the run ended before it was written."""
        if isinstance(self.run, RegisteredRun):
            return self.run.record
        rows: Any = self.run.rows
        record: RowRecord = rows.record(self.run, whole=True)
        return record

    @property
    def statuses(self) -> np.ndarray[Any, Any]:
        """The status of each of its rows as an index into `STATUSES`, shape (n_rows,), int8."""
        if isinstance(self.run, RegisteredRun):
            return self.run.statuses
        assert self.record is not None
        return self.record.status

    def fits(self, names: Sequence[str]) -> bool:
        """Return whether a table with these columns has each column of this run's question exactly once."""
        return all(names.count(name) == 1 for name in self.asked)

    def rows_of(self, table: Table) -> Rows:
        """Return, for each row of *table*, the run's first row with its content; -1 if there is none. Shape (n,)."""
        record = self.record
        if record is None:
            return np.full(table.total, -1, dtype=np.int64)
        return record.find(content_hashes([table.column_data(self.asked)], table.total))

    def has(self, table: Table, name: str, rows: Rows) -> Flags | None:
        """Return, for each row, whether column *name* has the run's value; None if the run did not record it."""
        record = self.record
        if record is None or name not in record.answers:
            return None
        return record.has_answer(name, rows, table.hashes(name))


@dataclass
class Provenance:
    """The run whose answers each row of a table has.

    Attributes:
        sources: The runs.
        source: The index into `sources` of each row's run, -1 for a row that no run made; shape (n,).
        row: The position of each row in its run; shape (n,).
        changed: Whether a result value of each row differs from its run's; shape (n,).
    """

    sources: list[Source]
    source: Rows
    row: Rows
    changed: Flags

    @cached_property
    def examples(self) -> Flags:
        """Whether each row, or a near-duplicate of it, was an example of the run that made it; shape (n,)."""
        shown = np.zeros(len(self.source), dtype=np.bool_)
        for at, source in enumerate(self.sources):
            if source.record is not None and source.record.example is not None:
                here = self.source == at
                shown[here] = source.record.example[self.row[here]]
        return shown

    def places(self) -> Iterator[tuple[int, Source, int]]:
        """Yield (position in the table, run, row of the run) for each row that a run made, in the table's order."""
        for position, (at, row) in enumerate(zip(self.source.tolist(), self.row.tolist(), strict=True)):
            if at >= 0:
                yield position, self.sources[at], row


def provenance_of(table: Table) -> Provenance:
    """Find which runs made the rows of *table*.

    With a run id, only that run is considered, unless the library keeps the id when rows of other runs are appended.
    Without one, the newest 20 runs that fit the columns are compared by the content and values of the rows.

    Raises:
        PllmError: If no known run made any row.
    """
    source = named_run(table)
    if source is None:
        return _by_content(table, None)
    if not table.mixes_runs:
        return _of_one(table, source)
    try:
        first = _of_one(table, source)
    except PllmError:
        # The frame may have no rows of the named run left, only those of other runs that were appended to it.
        with contextlib.suppress(PllmError):
            return _by_content(table, None)
        raise
    return first if (first.source >= 0).all() else _by_content(table, first)


def _by_content(table: Table, found: Provenance | None) -> Provenance:
    """Find which of the newest runs made those rows of *table* that have no run in *found*."""
    names = list(table.names)
    fitting = (source for source in _candidates(names) if all(names.count(c.name) == 1 for c in source.made))
    tried = [source for source in fitting if source.record is not None and source.record.answers]
    rows = [source.rows_of(table) for source in tried]
    same = [_all_same(table, source, at) for source, at in zip(tried, rows, strict=True)]
    if found is None:
        found = Provenance([], np.full(table.total, -1), np.full(table.total, -1), np.zeros(table.total, dtype=bool))
    # Runs are grouped by their result columns. In each group, first take the rows that have a run's content and values,
    # then, for runs with such rows, the rows whose values were changed. Only the remaining rows are looked up in the
    # next group. The run with the most matching rows comes first, then the newest: two prompts agree on many rows, but
    # these rows are not always the newer run's.
    alike: dict[tuple[str, ...], list[int]] = {}
    for at, source in enumerate(tried):
        alike.setdefault(tuple(column.name for column in source.made), []).append(at)
    others = [_wholly_of_another(table, at, tried, same) for at in range(len(tried))]
    for group in alike.values():
        group.sort(key=lambda at: -int((same[at] & (found.source < 0)).sum()))
    for group, wholly in itertools.product(alike.values(), (True, False)):
        for at in group:
            taken = (found.source < 0) & (
                same[at] & ~others[at][0] if wholly else (rows[at] >= 0) & ~others[at][0] & ~others[at][1]
            )
            if not taken.any() or not same[at].any():
                continue
            if tried[at] not in found.sources:
                found.sources.append(tried[at])
            found.source[taken] = found.sources.index(tried[at])
            found.row[taken] = rows[at][taken]
            found.changed[taken] = not wholly
    if not found.sources:
        raise PllmError(_unknown(names))
    return found


def _wholly_of_another(table: Table, at: int, tried: Sequence[Source], same: Sequence[Flags]) -> tuple[Flags, Flags]:
    """Return, for each row, whether a wider run gave all its values, and whether a narrower one did; shape (n,) each.

    A wider run has all columns of this run and more. A narrower one has fewer, and the row has no value in the others.
    Such a row is not a changed row of this run: it occurs when frames of both runs were concatenated.
    """
    names = {made.name for made in tried[at].made}
    wider, narrower = np.zeros_like(same[at]), np.zeros_like(same[at])
    for other, own in zip(tried, same, strict=True):
        theirs = {made.name for made in other.made}
        if names < theirs:
            wider |= own
        elif theirs < names:
            narrower |= own & np.logical_and.reduce([table.missing(name) for name in names - theirs])
    return wider, narrower


def asked_rows(record: RowRecord, asked: Sequence[str], table: Table, run_id: str) -> Rows:
    """Return, for each row of *table*, the run's row with its content; -1 if there is none. Shape (n,).

    Warns with the number of rows that are not in the run.

    Args:
        record: The record of the run's rows.
        asked: Names of the columns that its question used.
        table: Any rows, such as the run's own in another order.
        run_id: The run's id, for messages.

    Raises:
        PllmError: If *table* lacks a column of the question, or none of its rows is in the run.
    """
    names = list(table.names)
    gone = [name for name in asked if names.count(name) != 1]
    if gone or not asked:
        what = f"it was asked about {list(asked)!r}, and {gone!r} is not in this frame (or twice)"
        what = what if asked else "it has no dataframe"
        raise PllmError(f"The answers of the run {run_id!r} cannot be joined to these rows: {what}.")
    rows = record.find(content_hashes([table.column_data(asked)], table.total))
    unknown = int((rows < 0).sum())
    if unknown == table.total:
        raise PllmError(
            f"No row of this frame has the content that the run {run_id!r} was asked about. Without a frame, "
            f"to_frame() returns its answers in the order in which they were asked."
        )
    if unknown:
        warnings.warn(
            f"The run {run_id} was not asked about {counted(unknown, 'row')} of this frame: NA in its columns.",
            stacklevel=caller_stack_level(),
        )
    return rows


def _unknown(names: Sequence[str]) -> str:
    """Return the message that no known run made a frame with these columns, with the probable reason."""
    for source in itertools.islice(_known(), MAX_CANDIDATES):
        if source.made and not source.fits(names) and all(names.count(made.name) == 1 for made in source.made):
            return _gone(source, names, "may have made")
    return (
        "No known run made this frame as it is: none of the newest 20 that fit its columns has its rows and "
        f"values. pllm.runs() lists the runs, pllm.run('id') opens one. {_ONCE_MORE}"
    )


def _gone(source: Source, names: Sequence[str], made: str) -> str:
    gone = [name for name in source.asked if names.count(name) != 1]
    return (
        f"The run {source.run.id!r} {made} this frame from columns {list(source.asked)!r}, and {gone!r} is no longer "
        f"in it (or twice), so its rows cannot be identified. pllm.run({source.run.id!r}) has the whole run."
    )


def named_run(table: Table) -> Source | None:
    """Return the run whose id the table has, None for a table without one.

    Raises:
        PllmError: If that run is no longer known.
    """
    run_id = table.run_id
    if not isinstance(run_id, str):
        return None
    run = find(run_id) or RegisteredRun.find(run_id)
    source = None if run is None else Source.of(run)
    if source is None:
        raise PllmError(
            f"The run {run_id!r}, which made this frame, is no longer in the registry of runs. pllm.runs() lists those "
            f"that are. {_ONCE_MORE}"
        )
    return source


def replaceable(table: Table, names: Sequence[str], asked: bool) -> tuple[str, ...]:
    """Return the columns of *table* that a result with columns *names* replaces.

    Args:
        table: The rows to send.
        names: Names of the result's columns.
        asked: Whether `replace=True` was given.

    Raises:
        NameClashError: If one of them has a value that is not the unchanged answer of an earlier run to the same row.
    """
    columns = list(table.names)
    clash = [name for name in names if name in columns]
    if not clash or asked:
        return tuple(clash)
    if any(columns.count(name) > 1 for name in clash):
        raise NameClashError([name for name in clash if columns.count(name) > 1])
    # A cell without a value may be replaced.
    known = {name: table.missing(name) for name in clash}
    for source in _tried(table, columns):
        open_names = [name for name in clash if not known[name].all()]
        theirs = {made.name for made in source.made}.intersection(open_names)
        if not open_names:
            break
        if theirs:
            rows = source.rows_of(table)
            for name in theirs:
                same = source.has(table, name, rows)
                if same is not None:
                    known[name] |= same
    changed = [name for name in clash if not known[name].all()]
    if changed:
        raise NameClashError(changed)
    return tuple(clash)


def _tried(table: Table, columns: list[str]) -> Iterator[Source]:
    """Yield the run whose id the table has, then the newest runs that fit its columns."""
    first = table.run_id
    run = (find(first) or RegisteredRun.find(first)) if isinstance(first, str) else None
    source = None if run is None else Source.of(run)
    if source is not None and source.fits(columns):
        yield source
    yield from _candidates(columns)


def _candidates(names: list[str]) -> Iterator[Source]:
    """Yield the newest 20 runs whose question used columns with these names, newest first."""
    return itertools.islice((source for source in _known() if source.fits(names)), MAX_CANDIDATES)


def _known() -> Iterator[Source]:
    """Yield all known runs over frames except steps, newest first; runs of this process as live handles."""
    seen = set()
    for run in reversed(runs()):
        seen.add(run.id)
        source = Source.of(run)
        if source is not None and not source.part_of:
            yield source
    for recorded in RegisteredRun.newest_first():
        if recorded.id not in seen:
            source = Source.of(recorded)
            if source is not None and not source.part_of:
                yield source


def _of_one(table: Table, source: Source) -> Provenance:
    names = list(table.names)
    if not source.fits(names):
        raise PllmError(_gone(source, names, "made"))
    if source.record is None:
        raise PllmError(f"The run {source.run.id!r} ended before its rows were recorded. {_ONCE_MORE}")
    rows = source.rows_of(table)
    if table.total and not (rows >= 0).any():
        raise PllmError(
            f"No row of this frame has the content that the run {source.run.id!r} was asked about. "
            f"pllm.run({source.run.id!r}) has the whole run."
        )
    same = _all_same(table, source, rows)
    return Provenance([source], np.where(rows >= 0, 0, -1), rows, np.asarray((rows >= 0) & ~same))


def _all_same(table: Table, source: Source, rows: Rows) -> Flags:
    """Return, for each row, whether all result columns that exist have the run's values."""
    names = list(table.names)
    same = np.asarray(rows >= 0)
    for made in source.made:
        if names.count(made.name) == 1:
            equal = source.has(table, made.name, rows)
            if equal is not None:
                same = same & equal
    return same
