"""What holds after every run and every life, whatever befell it.

I1  a row's answer is one that its own prompt can have
I2  an answer that was reported is on disk, and stays what it was
I3  nothing is paid for that is at hand (see `accounts`)
I4  length, index, columns and dtypes are as documented
I5  no key in a record of the log, a message, a repr or the stored bytes
I6  once all is answered, the same again sends nothing
I7  nothing is left on the loop (see `world`)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import LiveRun, Outcome
from pllm_notebook.types import Progress
from tests.simulation.accounts import Accounts
from tests.simulation.disk import Disk, SimStore
from tests.simulation.provider import CANARY, score_of
from tests.simulation.scenario import Question

__all__ = ["Reports", "check_calm", "check_run", "check_secrets"]

_DTYPES = {
    "text": {"answer": "string"},
    "scored": {"item": "string", "score": "Int64"},
    "labelled": {"item": "string", "score": "Int64", "label": "string"},
}
_TEXT = re.compile(r"(item-\d+) scores (\d+)")
_PAID_FAILURES = frozenset({"truncated", "refusal", "content_filter", "schema", "invalid_json", "input", "bad_request"})


class Reports:
    """Answers that were reported to a person, by their keys."""

    def __init__(self, disk: Disk, accounts: Accounts) -> None:
        self._disk = disk
        self._accounts = accounts
        self._told: dict[str, Any] = {}

    def hear(self, run: LiveRun, store: SimStore, *, replaced: bool = False) -> None:
        """Take what *run* has reported by now, and hold it against the disk and what was reported before.

        Args:
            run: Whose outcomes are looked at.
            store: Of its process.
            replaced: Whether its answers may have been replaced since: then they need only be on disk.
        """
        faults, rules = self._accounts.faults, self._accounts.rules
        if run.spec.options.cache == "off":
            return
        lost = 0
        for outcome in _outcomes(run):
            if outcome.key in store.lost or outcome.key not in self._disk.answers:
                lost += 1
                if outcome.key not in store.lost:
                    faults.append(f"I2: {outcome.key} was reported and is not on disk")
                continue
            if run.execution.unsaved or replaced:
                continue  # the next run asks again for what the disk refused, or has asked by wish
            value = repr(outcome.value)
            if self._told.setdefault(outcome.key, value) != value:
                if not rules.again:
                    faults.append(f"I2: {outcome.key} was {self._told[outcome.key]} and is {value}")
                self._told[outcome.key] = value
        if lost and not run.execution.unsaved:
            faults.append(f"I2: {lost} answers are not on disk, and the run does not say so")

    def forget(self) -> None:
        """Expect nothing of any answer any more: some were damaged, or asked for again by the caller's wish."""
        self._told.clear()


def _outcomes(run: LiveRun) -> list[Outcome]:
    """Give the outcomes that rest on a stored reply; of an ensemble those of its members."""
    execution: Any = run.execution
    each = list(execution.results.outcomes)
    return [outcome for outcome in each if outcome is not None and outcome.failure is None]


def check_run(faults: list[str], run: LiveRun, frame: pd.DataFrame, question: Question, progress: Progress) -> None:
    """Check what a run that has ended gives, in the counts, in the frame and in words."""
    counted = progress.done + progress.cached + progress.failed + progress.not_sent + progress.skipped
    if progress.pending < 0 or (progress.state == "done" and progress.pending):
        faults.append(f"I4: the counts do not add up: {progress}")
    statuses = Counter(run.table.status(row) for row in range(len(frame)))
    if counted != len(frame) - statuses["pending"] - statuses["unplanned"] and run.state == "done":
        faults.append(f"I4: {statuses} are counted as {progress}")
    if progress.in_flight:
        faults.append(f"I7: {progress.in_flight} calls are in flight after the end")
    told = [repr(run), repr(run.spec), *(f"{f.message} {f.raw}" for f in _failures(run, len(frame)))]
    try:
        out = run.result()
    except PllmError as error:
        out = run.to_frame()
        told.append(f"{error} {error!r} {vars(error)}")
        if run.state == "done":
            faults.append(f"a run that is done raised {error!r}")
    wanted = {"text": frame["text"].dtype.name, **_DTYPES[question.shape]}
    found = {name: dtype.name for name, dtype in out.dtypes.items()}
    if found != wanted or len(out) != len(frame) or not out.index.equals(frame.index):
        faults.append(f"I4: columns {found} of {len(out)} rows, expected {wanted} of {len(frame)}")
    made = out[list(_DTYPES[question.shape])].astype(object).to_numpy().tolist()
    for row, (cell, values) in enumerate(zip(frame["text"].tolist(), made, strict=True)):
        _check_row(faults, row, cell, values, question, run)
    if any(CANARY in text for text in told):
        faults.append(f"I5: {next(text for text in told if CANARY in text)}")
    if run.execution.broken:
        faults.append("a fault of the package's own ended the run")


def _check_row(faults: list[str], row: int, cell: Any, values: Sequence[Any], question: Question, run: LiveRun) -> None:
    given = [value for value in values if not pd.isna(value)]
    status = run.table.status(row)
    if bool(given) != (status in ("ok", "cached")):
        faults.append(f"I4: row {row} is {status} and has {values}")
    if not given:
        return
    item, score = values[0], values[1] if len(values) > 1 else None
    if question.shape == "text":
        found = _TEXT.fullmatch(values[0])
        item, score = (found[1], int(found[2])) if found else (values[0], None)
    possible = [score_of(str(cell), f"({question.version})", variant) for variant in (0, 1)]
    if item != cell or score not in possible or (question.shape == "labelled" and values[2] != f"is {cell}"):
        faults.append(f"I1: row {row} is {cell!r} and has {values}")


def _failures(run: LiveRun, rows: int) -> list[Any]:
    return [failure for row in range(rows) if (failure := run.table.failure(row)) is not None]


def check_calm(faults: list[str], run: LiveRun, requests: int, *, again: bool) -> None:
    """Check a run that nothing befell, and the same once more."""
    if run.state != "done":
        faults.append(f"a calm run is {run.state}: {run.execution.error!r}")
    kinds = {str(failure.kind) for failure in _failures(run, run.rows.total)} - _PAID_FAILURES
    if kinds:
        faults.append(f"a calm run has failures of the kinds {kinds}")
    if again and requests:
        faults.append(f"I6: all was answered, and the same again sent {requests} requests")


def check_secrets(faults: list[str], log: Sequence[str], disk: Disk) -> None:
    """Look for the key where it must never be."""
    faults.extend(f"I5: in the log: {line}" for line in log if CANARY in line)
    if any(CANARY.encode() in stored for stored in disk.answers.values()) or CANARY in repr(disk.failures.failed):
        faults.append("I5: in the stored bytes")
