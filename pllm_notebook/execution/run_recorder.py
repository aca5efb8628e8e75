"""Write a run to the registry on disk: its question when it begins, its rows when it has ended.

A run that has something to send writes its question before sending, and the keys of its rows once they are planned, so
that a killed run can be read. A run that the cache answers completely is written once, when the caller has the result.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np
import orjson

from pllm_notebook.execution.results import UNPLANNED
from pllm_notebook.execution.row_record import STATUSES, RowRecord
from pllm_notebook.execution.spent_record import SpentRecord
from pllm_notebook.failures import FailureKind
from pllm_notebook.options import given_options
from pllm_notebook.redaction import redact
from pllm_notebook.schema import OutputType
from pllm_notebook.settings import Options
from pllm_notebook.store import RunFiles, this_process, write_later

if TYPE_CHECKING:
    from pllm_notebook.execution.call_spec import CallSpec
    from pllm_notebook.execution.results import ResultTable
    from pllm_notebook.execution.row_source import Rows
    from pllm_notebook.execution.run_state import RunState

__all__ = ["RecordableRows", "RunRecorder"]

# Number of outcomes that are examined for the names of the models that answered.
_SERVED_SAMPLE = 20
# A run that the cache answers writes its question after this time, so that a killed run is listed.
_A_WHILE_S = 1.0

logger = logging.getLogger("pllm_notebook")


class RecordableRun(Protocol):
    """The parts of a `LiveRun` that the registry reads."""

    id: str
    started_at: float
    origin: str
    rows: Rows
    spec: CallSpec
    endings: int

    @property
    def execution(self) -> RunState:
        """Its state on the engine's loop."""

    @property
    def table(self) -> ResultTable:
        """The outcomes of its rows."""

    def done(self) -> bool:
        """Return whether it has ended."""


@runtime_checkable
class RecordableRows(Protocol):
    """Rows whose run is recorded: rows of frames and lists.

    Attributes:
        asked: Names of the columns that the run read, in order; () if there is no frame.
        assembled: Number of the run's ending for which the result's values are known, 0 for none.
    """

    asked: tuple[str, ...]
    assembled: int

    def described(self, run: RecordableRun) -> Mapping[str, Any]:
        """Return the question and the result's columns, in the form of the registry's header."""

    def record(self, run: RecordableRun) -> RowRecord:
        """Return the current record of each row."""


class RunRecorder:
    """Write one run to the registry. If that fails, it is logged once, and no answer is lost.

    Args:
        directory: The run's cache directory.
        keyless: Whether the run has no cache, so that its rows have no keys and are not written.
    """

    def __init__(self, directory: str, *, keyless: bool = False) -> None:
        self._directory = directory
        self._keyless = keyless
        self._failed = False
        self._is_begun = False
        # The part of the header that does not change; None before the first write.
        self._fixed: dict[str, Any] | None = None
        # The run's ending and the result's ending when the rows were last written; None before the first time.
        self._known: tuple[int, int] | None = None
        # Whether the rows of the running run were written, or need not be.
        self._is_planned = keyless
        # The plan and the end of a run are written by different threads.
        self._lock = threading.Lock()
        if keyless:  # there is no store that would have created the directory
            with suppress(OSError):  # reported when something is written into it
                RunFiles(directory).make_directory()

    def begin(self, run: RecordableRun) -> None:
        """Write the question before anything is sent; do nothing if it is already written."""
        with self._lock:
            if not self._is_begun:
                self._is_begun = True
                self._write(run, None)

    def look(self, run: RecordableRun, workers: Executor) -> None:
        """Write the rows, in a worker, once all of them are planned and some are sent. On the engine's loop.

        A run that the cache answers sends nothing: its rows are written once, when it has ended. If it takes longer
        than `_A_WHILE_S`, its question is written earlier.
        """
        execution = run.execution
        if not self._is_begun and not run.done() and time.time() - run.started_at > _A_WHILE_S:
            with suppress(RuntimeError):
                workers.submit(self.begin, run)
        is_sent = execution.queues.in_flight or (run.spec.options.mode == "batch" and execution.submitted)
        if self._is_planned or not is_sent or run.done():
            return
        calls = run.table.call_of_row
        if len(calls) and calls[-1] != UNPLANNED and UNPLANNED not in np.array(calls):
            self._is_planned = True
            with suppress(RuntimeError):  # the engine is ending, and the run with it
                workers.submit(self._plan, run)

    def _plan(self, run: RecordableRun) -> None:
        with self._lock:
            if not run.done():
                self._write(run, _rows_of(run))

    def finish(self, run: RecordableRun, *, may_wait: bool = True) -> None:
        """Write the rows of an ended run soon, on another thread, unless nothing has changed since the last write.

        Readers of the registry in this process wait for the write, and so does the end of the process.

        Args:
            run: The run.
            may_wait: Whether the caller may wait if much is queued; the engine's loop may not.
        """
        write_later(partial(self._finish, run), may_wait=may_wait)

    def _finish(self, run: RecordableRun) -> None:
        rows = _rows_of(run)
        with self._lock:
            state = (run.endings, rows.assembled)
            if state != self._known:
                self._is_begun = True
                self._write(run, None if self._keyless else rows)
                self._known = state

    def _write(self, run: RecordableRun, rows: RecordableRows | None) -> None:
        try:
            arrays = None if rows is None else _arrays(run, rows)
            if self._fixed is None:
                self._fixed = _fixed(run)
            header = _redacted(self._fixed | _changing(run))
            RunFiles(self._directory).write(header, arrays)
        except Exception as error:
            # Not logged if the caller has deleted the directory, such as a temporary one, with the record in it.
            if not self._failed and not RunFiles(self._directory).is_gone():
                logger.warning("The run %s could not be written to the registry of runs: %s", run.id, error)
            self._failed = True


def _arrays(run: RecordableRun, rows: RecordableRows) -> Mapping[str, Any]:
    record = rows.record(run)
    if run.done():
        # Every other row took one reply, which is in the cache with its usage.
        odd = record.several | (record.failure != 0) | (record.status == STATUSES.index("not_sent"))
        record.spent = SpentRecord.of(run.table, np.flatnonzero(odd))
    return record.arrays()


def _rows_of(run: RecordableRun) -> RecordableRows:
    """Return the rows of a recorded run. The protocol is not checked again: that would take as long as a small file."""
    return cast(RecordableRows, run.rows)


def _fixed(run: RecordableRun) -> dict[str, Any]:
    rows, spec = _rows_of(run), run.spec
    options = _options(spec.options)
    return {
        "id": run.id,
        "started_at": run.started_at,
        "process": this_process(),
        "origin": run.origin,
        "label": run.rows.label,
        "options": options,
        "system": spec.system,
        "schema": None if spec.output is None else spec.output.json_schema,
        "source": None if spec.output is None else _source(spec.output),
        "asked": list(rows.asked),
        "failure_kinds": [str(kind) for kind in FailureKind],
        **rows.described(run),
    }


def _changing(run: RecordableRun) -> dict[str, Any]:
    execution = run.execution
    counts, spent, decider = execution.counts, execution.queues.spent, execution.decider
    return {
        **({} if decider is None else decider.noted()),
        "duration_s": counts.elapsed_s(time.monotonic()),
        "state": execution.state,
        "model": execution.model,
        "served": _served(run),
        "simulated": execution.simulated,
        "total": run.rows.total,
        "answered": counts.done,
        "cached": counts.cached,
        "failed": counts.failed,
        "not_sent": counts.not_sent,
        "skipped": counts.skipped,
        "cost_usd": spent.cost_usd,
        "input_tokens": spent.input_tokens,
        "output_tokens": spent.output_tokens,
    }


def _redacted(header: dict[str, Any]) -> dict[str, Any]:
    try:
        written = orjson.dumps(header, default=repr, option=_JSON_OPTIONS).decode()
    except TypeError:  # a bound or a default has more than 64 bits; it is read back as a float
        import json

        written = json.dumps(header, default=repr)
    redacted: dict[str, Any] = orjson.loads(redact(written))
    return redacted


_JSON_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def _options(options: Options) -> dict[str, Any]:
    """Return the options that differ from the defaults, with the names of functions and types."""
    # The registry contains no text of rows. For examples, the description of the run has a digest.
    given = {name: value for name, value in given_options(options).items() if name != "examples"}
    context = given.get("validation_context")
    if isinstance(context, Mapping):
        given["validation_context"] = f"a mapping of {', '.join(map(str, context))}"
    return {name: _as_json_value(value) for name, value in given.items()}


def _as_json_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _as_json_value(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_as_json_value(inner) for inner in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return getattr(value, "__name__", None) or type(value).__name__


@lru_cache(maxsize=64)
def _source(output: OutputType) -> str:
    """Return the source code of a type, or its repr if the source is not available."""
    kind = output.kind
    try:
        return inspect.getsource(kind)
    except (TypeError, OSError, SyntaxError, IndexError):
        return repr(kind)


def _served(run: RecordableRun) -> list[str]:
    """Return the model names that the provider reported in the first outcomes."""
    found: dict[str, None] = {}
    for outcome in run.table.outcomes[:_SERVED_SAMPLE]:
        if outcome is not None and outcome.metas:
            model = orjson.loads(outcome.metas[-1]).get("model")
            if model:
                found[str(model)] = None
    return list(found)
