"""Resolve the earlier answers of a comparison: a frame, a run, a run's id, "previous", or a point in time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np

from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution import LiveRun, Run, find, live_of, runs
from pllm_notebook.frames.libraries import table_of
from pllm_notebook.frames.provenance import Source
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.stored_labels import answer_columns
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.answer_sides import AnswerSide, frame_side, question_of, run_side

__all__ = ["old_side"]

_MOST_TRIED = 200
"""Number of runs searched for "previous" or a point in time, newest first."""


def old_side(old: Any, table: Table, new: AnswerSide) -> AnswerSide:
    """Return the side that *old* refers to (see `df.llm.compare`). Sends nothing.

    Args:
        old: As given.
        table: The new frame.
        new: Its answers.

    Raises:
        UsageError: If *old* cannot be compared.
        PllmError: If there is no such run, or its rows are unknown.
    """
    if isinstance(old, (Run, RegisteredRun)):
        return run_side(_source(live_of(old) if isinstance(old, Run) else old), table)
    if isinstance(old, str):
        return run_side(_named(old, table, new), table)
    if isinstance(old, (date, timedelta)):
        return run_side(_before(_moment(old), table, new, str(old)), table)
    other = table_of(old)
    if other is None:
        raise UsageError(
            f"compare takes a frame, a run, a run's id, 'previous', a date or a timedelta, not {type(old).__name__}. "
            f"Nothing was sent."
        )
    return frame_side(other, named="the frame to compare with")


def _named(old: str, table: Table, new: AnswerSide) -> Source:
    if old == "previous":
        began = _began(new.source.run)
        return _before(began, table, new, "previous", strictly=True)
    try:
        moment = _moment(date.fromisoformat(old) if len(old) == 10 else datetime.fromisoformat(old))
    except ValueError:
        run = find(old) or RegisteredRun.find(old)
        if run is None:
            raise PllmError(
                f"{old!r} is not a run in the registry, a date such as '2026-11-28' or 'previous'. pllm.runs() "
                f"lists the runs. Nothing was sent."
            ) from None
        return _source(run)
    return _before(moment, table, new, old)


def _source(run: LiveRun | RegisteredRun) -> Source:
    source = Source.of(run)
    if source is None:
        raise UsageError(f"The run {run.id!r} has no dataframe, so its rows cannot be compared. Nothing was sent.")
    return source


def _moment(given: date | timedelta) -> float:
    """Return seconds since 1970 for the end of a day, a datetime, or a timedelta before now. Naive times are local."""
    if isinstance(given, timedelta):
        return (datetime.now(UTC) - given).timestamp()
    if isinstance(given, datetime):
        return given.timestamp()
    return datetime.combine(given, time.max).timestamp()


def _before(moment: float, table: Table, new: AnswerSide, asked: str, *, strictly: bool = False) -> Source:
    """Return the newest run up to *moment* with rows and fields of the new side, preferring another question.

    Running a cell again creates a run of the same question, which is rarely the one meant by "previous".
    """
    names, same, tried = list(table.names), None, 0
    question = _identity(new.source)
    for source in _newest_first():
        began = _began(source.run)
        if source.run.id == new.source.run.id or began > moment or (strictly and began == moment):
            continue
        if not source.fits(names) or source.explode or not set(answer_columns(source)) & set(new.columns):
            continue
        tried += 1
        if tried > _MOST_TRIED:
            break
        if source.record is None or not np.any(source.rows_of(table) >= 0):
            continue
        if _identity(source) != question:
            return source
        same = same or source
    if same is None:
        raise PllmError(
            f"compare({asked!r}): no earlier run in the registry has rows and columns of this frame. pllm.runs() lists "
            f"the runs; compare('id') takes one of them. Nothing was sent."
        )
    return same


def _newest_first() -> Iterator[Source]:
    live = {run.id: run for run in runs()}
    every: list[LiveRun | RegisteredRun] = [*live.values()]
    every += [run for run in RegisteredRun.newest_first() if run.id not in live]
    for run in sorted(every, key=_began, reverse=True):
        source = Source.of(run)
        if source is not None and not source.part_of:
            yield source


def _began(run: LiveRun | RegisteredRun) -> float:
    return run.started_at if isinstance(run, LiveRun) else float(run.header["started_at"])


def _identity(source: Source) -> tuple[str, ...]:
    question = question_of(source)
    return tuple(repr(question[name]) for name in ("prompt", "system", "model", "schema"))
