"""What a run leaves in the registry on disk: its question when it begins, and its rows when it has ended."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import orjson

from pllm_notebook.records import FailureKind
from pllm_notebook.redaction import redacted
from pllm_notebook.run.record import RowRecord
from pllm_notebook.schema import OutputType
from pllm_notebook.settings import Options

if TYPE_CHECKING:
    from pllm_notebook.run.run import Run
    from pllm_notebook.store.run_files import RunFiles

__all__ = ["Recordable", "Recorder"]

# Of the replies that are looked at for the name of the model that answered.
_LOOKED_AT = 20

logger = logging.getLogger("pllm_notebook")


@runtime_checkable
class Recordable(Protocol):
    """Rows whose run is remembered: those of a frame.

    Attributes:
        asked: Names of the columns that the run was told of, in order.
        assembled: For which of the run's endings the values of the result are known, 0 for none.
    """

    asked: tuple[str, ...]
    assembled: int

    def described(self) -> Mapping[str, Any]:
        """Return the question and the result's columns, as the header of the registry has them."""

    def record(self, run: Run) -> RowRecord:
        """Return what is to be remembered of each row, as the run stands."""


class Recorder:
    """Write one run into the registry. A registry that cannot be written costs no answer: the log says so once.

    Args:
        files: The registry of the run's cache directory.
    """

    def __init__(self, files: RunFiles) -> None:
        self._files = files
        self._failed = False
        # Of the rows that were written last; None before the first time.
        self._known: tuple[int, int] | None = None

    def begin(self, run: Run) -> None:
        """Write the question, before anything is sent."""
        self._write(run, None)

    def finish(self, run: Run) -> None:
        """Write the rows of a run that has ended, unless nothing has changed since they were written."""
        assert isinstance(run.rows, Recordable)
        state = (run.endings, run.rows.assembled)
        if state != self._known:
            self._write(run, run.rows)
            self._known = state

    def _write(self, run: Run, rows: Recordable | None) -> None:
        try:
            arrays = None if rows is None else rows.record(run).arrays()
            self._files.write(header_of(run), arrays)
        except Exception as error:
            if not self._failed:
                logger.warning("The run %s could not be written to the registry of runs: %s", run.id, error)
            self._failed = True


def header_of(run: Run) -> dict[str, Any]:
    """Return what the registry says of a run as a whole. Keys and passwords are redacted."""
    assert isinstance(run.rows, Recordable)
    progress, ask = run.progress(), run.ask
    header = {
        "id": run.id,
        "started_at": run.started_at,
        "duration_s": progress.elapsed_s,
        "state": progress.state,
        "pid": os.getpid(),
        "origin": run.origin,
        "label": progress.label,
        "model": progress.model,
        "served": _served(run),
        "simulated": progress.simulated,
        "options": _options(ask.options),
        "system": ask.system,
        "schema": None if ask.output is None else ask.output.json_schema,
        "source": None if ask.output is None else _source(ask.output),
        "asked": list(run.rows.asked),
        "total": progress.total,
        "answered": progress.done,
        "cached": progress.cached,
        "failed": progress.failed,
        "not_sent": progress.not_sent,
        "skipped": progress.skipped,
        "cost_usd": progress.cost_usd,
        "input_tokens": progress.input_tokens,
        "output_tokens": progress.output_tokens,
        "failure_kinds": [str(kind) for kind in FailureKind],
        **run.rows.described(),
    }
    told: dict[str, Any] = orjson.loads(redacted(orjson.dumps(header, default=repr, option=_ODD).decode()))
    return told


_ODD = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def _options(options: Options) -> dict[str, Any]:
    """Return the options that differ from the defaults; of functions and types, their names."""
    plain = Options()
    given = {f.name: getattr(options, f.name) for f in fields(Options)}
    return {name: _told(value) for name, value in given.items() if value != getattr(plain, name)}


def _told(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _told(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_told(inner) for inner in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return getattr(value, "__name__", None) or type(value).__name__


@lru_cache(maxsize=64)
def _source(output: OutputType) -> str:
    """Return the text that defines a type, or its repr where there is none."""
    kind = output.kind
    try:
        return inspect.getsource(kind)
    except (TypeError, OSError, SyntaxError, IndexError):
        return repr(kind)


def _served(run: Run) -> list[str]:
    """Return the names in which the provider answered."""
    found: dict[str, None] = {}
    for outcome in run.ledger.outcomes[:_LOOKED_AT]:
        if outcome is not None and outcome.metas:
            model = orjson.loads(outcome.metas[-1]).get("model")
            if model:
                found[str(model)] = None
    return list(found)
