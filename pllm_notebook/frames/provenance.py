"""Which run made a frame, and which of its rows: by the content of each row and the values beside it.

What stands in `attrs` is only where to look first. pandas copies it to frames of other rows and forgets it at a
merge, so nothing is said of a row that its own content does not say.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pllm_notebook.exceptions import NameClashError, PllmError
from pllm_notebook.execution import Run, find, runs
from pllm_notebook.execution.row_record import RowRecord
from pllm_notebook.execution.run_recorder import RecordableRows
from pllm_notebook.frames.dtypes import Column
from pllm_notebook.frames.hashing import short_hashes
from pllm_notebook.frames.pandas.cells import column_data, column_names
from pllm_notebook.frames.recorded_answers import columns_in
from pllm_notebook.frames.recorded_run import RUN_ATTR, RecordedRun, recorded_runs
from pllm_notebook.frames.row_content import column, content_hashes

__all__ = ["RUN_ATTR", "Provenance", "Source", "provenance_of", "replaceable"]

MAX_CANDIDATES = 20
"""Runs that are tried on a frame without a run id, the newest of those that fit its columns."""

_ONCE_MORE = "Or run the cell that made it once more: what is in the cache costs nothing."

Rows = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass
class Source:
    """A run that a frame's rows may be of.

    Attributes:
        run: A handle: live, or of the registry on disk.
        asked: Names of the columns that it was told of.
        made: The columns of its result.
        explode: Whether an answer has a line for each of its items.
    """

    run: Run | RecordedRun
    asked: tuple[str, ...]
    made: tuple[Column, ...]
    explode: bool

    @classmethod
    def of(cls, run: Run | RecordedRun) -> Source | None:
        """Make one of a handle, None of a run that was not asked of a frame."""
        if isinstance(run, RecordedRun):
            asked = tuple(run.header["asked"])
            return cls(run, asked, run.columns, run.header["explode"]) if asked else None
        # A frame may have no columns; what is no frame has none to be told of.
        if not isinstance(run.rows, RecordableRows) or not (run.rows.asked or hasattr(run.rows, "frame")):
            return None
        told = run.rows.described(run)
        return cls(run, run.rows.asked, columns_in(told["made"]), told["explode"])

    @cached_property
    def record(self) -> RowRecord | None:
        """What is known of its rows, None where it ended before anything was."""
        if isinstance(self.run, RecordedRun):
            return self.run.record
        rows: Any = self.run.rows
        record: RowRecord = rows.record(self.run, whole=True)
        return record

    def fits(self, names: Sequence[str]) -> bool:
        """Return whether a frame with these columns has all that this run was told of."""
        return all(names.count(name) == 1 for name in self.asked)

    def rows_of(self, frame: pd.DataFrame) -> Rows:
        """Return for each row of *frame* the first row of the run that has its content, -1 for none; shape (n,)."""
        record = self.record
        if record is None:
            return np.full(len(frame), -1, dtype=np.int64)
        return record.find(content_hashes([column_data(frame, self.asked)], len(frame)))

    def has(self, frame: pd.DataFrame, name: str, rows: Rows) -> Flags | None:
        """Return for each row whether column *name* has the value that the run gave it; None for unknown."""
        record = self.record
        if record is None or name not in record.answers:
            return None
        return record.has_answer(name, rows, short_hashes(column(frame, name)))


@dataclass
class Provenance:
    """Whose answers the rows of a frame hold.

    Attributes:
        sources: The runs.
        source: For each row an index into them, -1 for a row that is of none; shape (n,).
        row: For each row its row in that run; shape (n,).
        changed: Whether a result's value beside it is not the run's; shape (n,).
    """

    sources: list[Source]
    source: Rows
    row: Rows
    changed: Flags

    def places(self) -> Iterator[tuple[int, Source, int]]:
        """Yield (position in the frame, run, row of the run) for each row that is of a run, in the frame's order."""
        for position, (at, row) in enumerate(zip(self.source.tolist(), self.row.tolist(), strict=True)):
            if at >= 0:
                yield position, self.sources[at], row


def provenance_of(frame: pd.DataFrame) -> Provenance:
    """Find out which runs the rows of *frame* are of.

    With a run id, that run's; without, those of the newest 20 runs that fit whose content and values its rows have.

    Raises:
        PllmError: When no row is of a run that is known.
    """
    source = named_run(frame)
    if source is not None:
        return _of_one(frame, source)
    names = column_names(frame)
    fitting = (source for source in _candidates(names) if all(names.count(c.name) == 1 for c in source.made))
    tried = [source for source in fitting if source.record is not None and source.record.answers]
    rows = [source.rows_of(frame) for source in tried]
    same = [_all_same(frame, source, at) for source, at in zip(tried, rows, strict=True)]
    found = Provenance([], np.full(len(frame), -1), np.full(len(frame), -1), np.zeros(len(frame), dtype=bool))
    # Of runs with the same columns, the newest first: the rows whose values are a run's too, then, of runs that have
    # such, those whose values were changed. Only what is left is looked for among runs with other columns.
    alike: dict[tuple[str, ...], list[int]] = {}
    for at, source in enumerate(tried):
        alike.setdefault(tuple(column.name for column in source.made), []).append(at)
    for group, wholly in itertools.product(alike.values(), (True, False)):
        for at in group:
            taken = (found.source < 0) & (same[at] if wholly else rows[at] >= 0)
            if not taken.any() or not same[at].any():
                continue
            if tried[at] not in found.sources:
                found.sources.append(tried[at])
            found.source[taken] = found.sources.index(tried[at])
            found.row[taken] = rows[at][taken]
            found.changed[taken] = not wholly
    if not found.sources:
        raise PllmError(
            "No run is known that made this frame as it is: none of the newest 20 that fit its columns has its rows "
            f"and values. pllm.runs() lists the runs, pllm.run('id') opens one. {_ONCE_MORE}"
        )
    return found


def named_run(frame: pd.DataFrame) -> Source | None:
    """Return the run whose id the frame has, None for a frame without one.

    Raises:
        PllmError: When that run is not known any more.
    """
    run_id = frame.attrs.get(RUN_ATTR)
    if not isinstance(run_id, str):
        return None
    run = find(run_id) or RecordedRun.find(run_id)
    source = None if run is None else Source.of(run)
    if source is None:
        raise PllmError(
            f"The run {run_id!r}, which made this frame, is not in the registry of runs any more. pllm.runs() lists "
            f"those that are. {_ONCE_MORE}"
        )
    return source


def replaceable(frame: pd.DataFrame, names: Sequence[str], asked: bool) -> tuple[str, ...]:
    """Return which columns of *frame* a result with columns *names* takes the place of.

    Args:
        frame: What is to be asked.
        names: Of the result's columns.
        asked: Whether `replace=True` was given.

    Raises:
        NameClashError: When one holds anything else than, row by row, the unchanged answers of earlier runs.
    """
    columns = column_names(frame)
    clash = [name for name in names if name in columns]
    if not clash or asked:
        return tuple(clash)
    if any(columns.count(name) > 1 for name in clash):
        raise NameClashError([name for name in clash if columns.count(name) > 1])
    # A cell without a value loses nothing.
    known = {name: column(frame, name).isna().to_numpy(dtype=bool, copy=True) for name in clash}
    for source in _tried(frame, columns):
        open_names = [name for name in clash if not known[name].all()]
        theirs = {made.name for made in source.made}.intersection(open_names)
        if not open_names:
            break
        if theirs:
            rows = source.rows_of(frame)
            for name in theirs:
                same = source.has(frame, name, rows)
                if same is not None:
                    known[name] |= same
    changed = [name for name in clash if not known[name].all()]
    if changed:
        raise NameClashError(changed)
    return tuple(clash)


def _tried(frame: pd.DataFrame, columns: list[str]) -> Iterator[Source]:
    """Yield the run that the frame names, and the newest that fit."""
    first = frame.attrs.get(RUN_ATTR)
    run = (find(first) or RecordedRun.find(first)) if isinstance(first, str) else None
    source = None if run is None else Source.of(run)
    if source is not None and source.fits(columns):
        yield source
    yield from _candidates(columns)


def _candidates(names: list[str]) -> Iterator[Source]:
    """Yield the newest 20 runs that were told of columns with these names, newest first."""
    return itertools.islice((source for source in _known() if source.fits(names)), MAX_CANDIDATES)


def _known() -> Iterator[Source]:
    """Yield all runs of frames that are known, newest first; one of this process by its live handle."""
    seen = set()
    for run in reversed(runs()):
        seen.add(run.id)
        source = Source.of(run)
        if source is not None:
            yield source
    for recorded in recorded_runs():
        if recorded.id not in seen:
            source = Source.of(recorded)
            if source is not None:
                yield source


def _of_one(frame: pd.DataFrame, source: Source) -> Provenance:
    names = column_names(frame)
    gone = [name for name in source.asked if names.count(name) != 1]
    if gone:
        raise PllmError(
            f"The run {source.run.id!r} made this frame from columns {list(source.asked)!r}, and {gone!r} is not in it "
            f"any more (or twice), so its rows cannot be told apart. pllm.run({source.run.id!r}) has the whole run."
        )
    if source.record is None:
        raise PllmError(f"The run {source.run.id!r} ended before anything of its rows was written down. {_ONCE_MORE}")
    rows = source.rows_of(frame)
    if len(frame) and not (rows >= 0).any():
        raise PllmError(
            f"No row of this frame has the content that the run {source.run.id!r} was asked about. "
            f"pllm.run({source.run.id!r}) has the whole run."
        )
    same = _all_same(frame, source, rows)
    return Provenance([source], np.where(rows >= 0, 0, -1), rows, np.asarray((rows >= 0) & ~same))


def _all_same(frame: pd.DataFrame, source: Source, rows: Rows) -> Flags:
    """Return for each row whether all columns of the result that are there have the values that the run gave it."""
    names = column_names(frame)
    same = np.asarray(rows >= 0)
    for made in source.made:
        if names.count(made.name) == 1:
            equal = source.has(frame, made.name, rows)
            if equal is not None:
                same = same & equal
    return same
