"""The reports of `.llm` about the certainty of a frame's answers: probabilities, confidence, most doubtful rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.dtypes import CellType, Column, Kind
from pllm_notebook.frames.probabilities import least_sure, probabilities_of
from pllm_notebook.frames.probability_types import Numbers, RowProbabilities
from pllm_notebook.frames.provenance import Provenance, provenance_of
from pllm_notebook.frames.table import Table
from pllm_notebook.options import is_number

__all__ = ["confidence", "doubtful", "probabilities", "row_confidence"]


class _Found(NamedTuple):
    """The probabilities of the rows of one run in a frame.

    Attributes:
        positions: Positions of the rows in the frame.
        known: The probabilities of these rows.
    """

    positions: np.ndarray[Any, np.dtype[np.int64]]
    known: RowProbabilities


def probabilities(table: Table) -> Any:
    """Return a line for each row, field, model and option (see `df.llm.probabilities`)."""
    _, runs = _found(table)
    texts: dict[str, list[Any]] = {"field": [], "option": [], "source": [], "model": []}
    rows, order, shares, masses = [], [], [], []
    for positions, known in runs:
        for at, part in enumerate(known.parts):
            here = np.flatnonzero(~np.isnan(part.p[:, 0])) if part.p.shape[1] else np.zeros(0, dtype=np.int64)
            count = len(part.options)
            rows.append(np.repeat(positions[here], count))
            order.append(np.full(len(here) * count, at))
            shares.append(part.p[here].ravel())
            mass = np.full(len(part.p), np.nan) if part.mass is None else part.mass
            masses.append(np.repeat(mass[here], count))
            texts["field"] += [part.field] * (len(here) * count)
            texts["option"] += [None if option is None else str(option) for option in part.options] * len(here)
            texts["source"] += [part.source] * (len(here) * count)
            texts["model"] += [part.model] * (len(here) * count)
    row = np.concatenate([np.zeros(0, dtype=np.int64), *rows])
    # Sorted by row, then by field. The sort is stable, so options stay in order.
    by_row = np.lexsort((np.concatenate([np.zeros(0), *order]), row))
    p, covered = (np.concatenate([np.zeros(0), *numbers])[by_row] for numbers in (shares, masses))
    library = table.frame_library
    made = {"row": library.array(Column("row", Kind.INTEGER), row[by_row].tolist())}
    for name, values in texts.items():
        made[name] = library.array(Column(name, Kind.TEXT), [values[at] for at in by_row.tolist()])
        if name == "option":
            made["p"] = library.array(Column("p", Kind.REAL), p.tolist())
    made["mass"] = library.array(Column("mass", Kind.REAL), [None if one != one else one for one in covered.tolist()])
    return library.columns_frame(made)


def confidence(table: Table) -> Any:
    """Return the confidence of each cell (see `df.llm.confidence`)."""
    columns = row_confidence(table)
    lines = zip(*(column.tolist() for column in columns.values()), strict=True)
    records = [{name: None if p != p else p for name, p in zip(columns, line, strict=True)} for line in lines]
    return table.frame_library.report(dict.fromkeys(columns, CellType.REAL), records, table)


def doubtful(table: Table, rows: int) -> Any:
    """Return the rows with the lowest confidence (see `df.llm.doubtful`)."""
    if not is_number(rows, whole=True) or rows < 1:
        raise UsageError(f"doubtful takes a whole number of rows, at least 1, not {rows!r}. Nothing was sent.")
    found, runs = _found(table)
    least, fields = np.full(table.total, np.nan), np.full(table.total, None, dtype=object)
    for positions, known in runs:
        least[positions], fields[positions] = least_sure(known, len(positions))
    least[found.changed] = np.nan
    order = np.argsort(least, kind="stable")[: min(rows, int((~np.isnan(least)).sum()))].tolist()
    build, taken = table.frame_library.array, list(table.names)
    made: dict[str, Any] = {}
    for name, kind, values in (("confidence", Kind.REAL, least), ("least_sure", Kind.TEXT, fields)):
        free = name
        while free in taken:
            free += "_"
        made[free] = build(Column(free, kind), values[order].tolist())
    run_id = table.run_id if isinstance(table.run_id, str) else None
    if run_id is None and len(found.sources) == 1:
        run_id = found.sources[0].run.id
    return table.join(made, order, (), explode=True, run_id=run_id)


def row_confidence(table: Table) -> dict[str, Numbers]:
    """Return the confidence of each row's value by result column, NaN if it has none (see `df.llm.confidence`).

    A row that was corrected by hand has no confidence, because its value is not the model's.

    Raises:
        PllmError: If no known run made a row of the frame, or one has no probabilities.
    """
    found, runs = _found(table)
    columns: dict[str, Numbers] = {}
    for positions, known in runs:
        for name, p in known.confidence.items():
            columns.setdefault(name, np.full(table.total, np.nan))[positions] = p
    for column in columns.values():
        column[found.changed] = np.nan
    return columns


def _found(table: Table) -> tuple[Provenance, list[_Found]]:
    found = provenance_of(table)
    runs = []
    for at, source in enumerate(found.sources):
        positions = np.flatnonzero(found.source == at)
        runs.append(_Found(positions, probabilities_of(source.run, found.row[positions].tolist())))
    return found, runs
