"""Failed calls as a table: the calls of a run, and those of all kernels in the cache."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.execution import Run, runs
from pllm_notebook.failures import FailedCall, FailureKind
from pllm_notebook.frames import result_views
from pllm_notebook.frames.dtypes import CellType
from pllm_notebook.frames.libraries import default_library, table_of
from pllm_notebook.frames.recorded_run import RecordedRun
from pllm_notebook.store import ModelFilter, open_store

__all__ = ["directory_of", "errors_of", "kept_errors"]

_COLUMNS = {
    "when": CellType.MOMENT,
    "model": CellType.TEXT,
    "kind": CellType.TEXT,
    "status": CellType.INTEGER,
    "field": CellType.TEXT,
    "message": CellType.TEXT,
    "asked": CellType.TEXT,
    "position": CellType.INTEGER,
    "label": CellType.TEXT,
    "prompt": CellType.TEXT,
    "attempts": CellType.COUNT,
    "cost_usd": CellType.REAL,
    "request_id": CellType.TEXT,
    "run": CellType.TEXT,
    "raw": CellType.TEXT,
    "body": CellType.TEXT,
}


def errors_of(of: Any, *, model: str | None, kind: str | None, since: datetime | timedelta | None) -> Any:
    """Return failed rows (see `pllm.errors`)."""
    filtered = not (model is None and kind is None and since is None)
    directory = directory_of(of)
    if of is not None and directory is None:
        if filtered:
            raise UsageError("model=, kind= and since= filter stored failures; they do not apply to a run or a frame.")
        return _errors(of)
    known = runs()
    if known and not filtered and directory is None:
        return known[-1].errors
    kinds = [str(each) for each in FailureKind]
    if kind is not None and not (isinstance(kind, str) and kind in kinds):
        raise UsageError(f"There is no kind of failure {kind!r}.{guess(kind, kinds)} There are {', '.join(kinds)}.")
    if isinstance(since, timedelta):
        earliest: float | None = time.time() - since.total_seconds()
    elif since is None or isinstance(since, datetime):
        try:
            earliest = None if since is None else since.timestamp()
        except (ValueError, OverflowError, OSError):  # a year outside the range of the system clock
            earliest = None if since is None or since < datetime.now(since.tzinfo) else math.inf
    else:
        raise UsageError(f"since= is a datetime, or a timedelta back from now, not {since!r}.")
    return kept_errors(model, kind, earliest, directory)


def kept_errors(
    model: str | None = None, kind: str | None = None, since: float | None = None, cache_dir: str | None = None
) -> Any:
    """Return the failed calls of all kernels that have not been answered since then, newest first. Sends nothing.

    Args:
        model: Only calls to this model, as for `pllm.cache.clear`. None for all.
        kind: Only failures of this kind. None for all.
        since: Only failures from this time on, in seconds since the epoch. None for all.
        cache_dir: The directory to read. None for the current cache directory.
    """
    chosen = ModelFilter(model, "Nothing was read.")
    kept = open_store(cache_dir).failures(kind, since)
    return _table(call for call in kept if chosen.takes(call.model))


def _errors(of: Any) -> Any:
    if isinstance(of, (Run, RecordedRun)):
        return of.errors
    table = table_of(of)
    if table is not None:
        return result_views.errors(table)
    raise UsageError(f"pllm.errors takes a run, a frame that a run made, or a session, not {type(of).__name__}.")


def _table(calls: Iterator[FailedCall]) -> Any:
    records = [
        {
            "when": datetime.fromtimestamp(int(call.at), UTC),
            "model": call.model,
            "kind": str(call.failure.kind),
            "status": call.failure.status,
            "field": call.failure.field,
            "message": call.failure.message,
            "asked": call.asked,
            "position": call.position,
            "label": call.label,
            "prompt": call.prompt,
            "attempts": call.failure.attempts,
            "cost_usd": call.failure.cost_usd,
            "request_id": call.failure.request_id,
            "run": call.run,
            "raw": call.failure.raw,
            "body": call.body,
        }
        for call in calls
    ]
    return default_library().report(_COLUMNS, records)


def directory_of(of: Any) -> str | None:
    """Return the directory of a session, or a path as an absolute one; None for anything else.

    Raises:
        UsageError: If the path is not a directory. Reading must not create one.
    """
    if isinstance(of, (str, os.PathLike)):
        path = os.path.abspath(os.path.expanduser(os.fspath(of)))
        if not os.path.isdir(path):
            raise UsageError(f"There is no directory {path}.")
        return path
    from pllm_notebook.sessions import Session

    return of.directory if isinstance(of, Session) else None
