"""Join a bundled run's answers to other rows, also if a row has several lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pllm_notebook.execution import RowRecord, SampleRecord
from pllm_notebook.frames.dtypes import Column, Kind
from pllm_notebook.frames.hashing import content_hashes
from pllm_notebook.frames.libraries import default_library, table_to_join
from pllm_notebook.frames.provenance import Source, asked_rows
from pllm_notebook.frames.recorded_run import RecordedRun
from pllm_notebook.frames.samples import NOT_ENDED
from pllm_notebook.frames.table import Table

__all__ = ["exploded_record", "rebuilt_frame", "rebuilt_lines", "record_of_lines"]

_SKIPPED = 3

Numbers = np.ndarray[Any, np.dtype[Any]]


def rebuilt_frame(run: RecordedRun, df: Any, lines: Sequence[int] | None) -> Any:
    """Return a frame with the answers of a run, read from its replies. Sends nothing.

    Args:
        run: The bundle's run.
        df: The input rows, or the rows of the bundled frame line by line if *lines* is given. None for only the
            answers.
        lines: For a run with a line for each item: the line of the run's result for each line of the frame, -1 for
            none. None for other runs.
    """
    if lines is None and run.header["answers"] != "decision":
        return run.to_frame(df)
    table = None if df is None else table_to_join(df)
    library = default_library() if table is None else table.frame_library
    if lines is not None:
        made, count = run.columns_at(library, lines), len(lines)
    else:
        # Decided answers are not read from one reply: they are among the bundle's corrected cells.
        assert run.record is not None
        count = len(run.record) if table is None else table.total
        kinds = [
            column if column.name in run.header["fields"] else Column(column.name, Kind.TEXT) for column in run.columns
        ]
        made = {column.name: library.array(column, [None] * count) for column in kinds}
    if table is None:
        return library.columns_frame(made, run_id=run.id)
    return table.join(made, range(count), (), explode=False, run_id=run.id)


def rebuilt_lines(run: RecordedRun, df: Any) -> tuple[Any, list[int]]:
    """Return other rows with all lines of their answers, and for each line its line of the run's result, or -1."""
    table, record = table_to_join(df), run.record
    assert record is not None
    rows = asked_rows(record, run.header["asked"], table, run.id).tolist()
    of_row = _lines_of(record)
    found = [(at, line) for at, row in enumerate(rows) for line in of_row.get(row, [-1])]
    origin, lines = [at for at, _ in found], [line for _, line in found]
    made = run.columns_at(table.frame_library, lines)
    return table.join(made, origin, (), explode=True, run_id=run.id), lines


def exploded_record(table: Table, source: Source, row: Numbers) -> tuple[RowRecord, list[int]]:
    """Return the record of a frame with a line for each item, and for each line its line of the run's result.

    A line is matched by its row and values. A line that matches no item, such as a corrected one, takes the next item.

    Args:
        table: The frame. Lines may be missing or in another order.
        source: Its run.
        row: For each line its row in the run, -1 for none.
    """
    whole = source.record
    assert whole is not None  # a row was found in it
    of_row = _lines_of(whole)
    rows = [one for one in dict.fromkeys(row.tolist()) if one >= 0]
    kept = [line for one in rows for line in of_row.get(one, [])]
    place = {line: at for at, line in enumerate(kept)}
    names = [name for name in whole.answers if list(table.names).count(name) == 1]
    own, theirs = ([hashes[name] for name in names] for hashes in ({name: table.hashes(name) for name in names},
                                                                  whole.answers))  # fmt: skip
    lines, next_one = [], defaultdict[int, int](int)
    for at, one in enumerate(row.tolist()):
        items = of_row.get(one, [])
        begin = next_one[one]
        turned = [items[(begin + step) % len(items)] for step in range(len(items))]
        same = (item for item in turned if all(a[at] == b[item] for a, b in zip(own, theirs, strict=True)))
        found = next(same, turned[0] if turned else -1)
        if found >= 0:
            next_one[one] = items.index(found) + 1
        lines.append(place.get(found, -1))
    number = {one: at for at, one in enumerate(rows)}
    record = _subset(whole, np.array(rows, dtype=np.int64), whole.content[rows])
    record.answers = {name: hashes[kept] for name, hashes in whole.answers.items()}
    record.origin = np.array([number[one] for one in rows for _ in of_row.get(one, [])], dtype=np.int32)
    return record, lines


def record_of_lines(table: Table, source: Source, row: Numbers) -> RowRecord:
    """Return the record of the rows of a frame, in its order. Rows of no run have only their content."""
    whole = source.record
    assert whole is not None  # a row was found in it
    known = row >= 0
    asked = content_hashes([table.column_data(source.asked)], table.total)
    return _subset(whole, row, np.where(known, whole.content[np.where(known, row, 0)], asked))


def _subset(whole: RowRecord, row: Numbers, content: Numbers) -> RowRecord:
    """Return some rows of a record, with one line each; -1 is an unknown row."""
    known = row >= 0
    at = np.where(known, row, 0)
    later = {int(one): key for one, key in zip(whole.later_rows, whole.later_keys, strict=True)}
    places = [place for place, one in enumerate(row.tolist()) if one in later]
    samples = whole.samples
    return RowRecord(
        content=content,
        keys=np.where(known[:, None], whole.keys[at], 0).astype(np.uint8),
        status=np.where(known, whole.status[at], _SKIPPED).astype(np.uint8),
        failure=np.where(known, whole.failure[at], 0).astype(np.uint8),
        several=known & whole.several[at],
        answers={name: np.where(known, hashes[at], 0).astype(hashes.dtype) for name, hashes in whole.answers.items()}
        if whole.origin is None
        else {},
        agreement={name: np.where(known, shares[at], np.nan) for name, shares in whole.agreement.items()},
        later_rows=np.array(places, dtype=np.int32),
        later_keys=np.array([later[int(row[place])] for place in places], dtype=np.uint8).reshape(len(places), -1)
        if places
        else whole.later_keys[:0],
        samples=None
        if samples is None
        else SampleRecord(
            keys=np.where(known[:, None, None], samples.keys[at], 0).astype(np.uint8),
            failure=np.where(known[:, None], samples.failure[at], NOT_ENDED).astype(np.uint8),
            chosen=np.where(known, samples.chosen[at], -1).astype(np.int8),
            how=np.where(known, samples.how[at], 0).astype(np.uint8),
        ),
        example=None if whole.example is None else known & whole.example[at],
    )


def _lines_of(record: RowRecord) -> Mapping[int, list[int]]:
    """Return the lines of each row of a run's result, in order."""
    origin = range(len(record)) if record.origin is None else record.origin.tolist()
    found: dict[int, list[int]] = defaultdict(list)
    for line, row in enumerate(origin):
        found[row].append(line)
    return found
