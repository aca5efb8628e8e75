"""The runs of this process, newest last: those that are going, those that somebody holds, and the last that ended."""

from __future__ import annotations

import weakref
from collections import OrderedDict

from pllm_notebook.execution.live_run import LiveRun
from pllm_notebook.runtime import ExitStage, Locked, Slot

__all__ = ["LARGEST_BYTES", "close", "find", "forget", "forget_all", "release_ended", "remember", "runs"]

LARGEST_BYTES = 64 * 2**20
"""What runs that have ended and are not referenced elsewhere may take, the newest first.

A run whose result has not been taken yet is kept beyond that until the next one begins: `pllm.runs()[-1].to_frame()`
is how an interrupted run's answers are had.
"""

# What a run takes for each call (its key, its reply's figures, its value), and for each row: measured, and rounded up.
_BYTES_A_CALL = 1_200
_BYTES_A_ROW = 500


class _Runs(Locked):
    """The runs of this process, by id: all that exist, and those that are held here.

    `largest_bytes` bounds what those that are held may take, so that they need not be looked at each time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live: weakref.WeakValueDictionary[str, LiveRun] = weakref.WeakValueDictionary()
        self.held: OrderedDict[str, LiveRun] = OrderedDict()
        self.largest_bytes = 0

    def record(self) -> None:
        for run in runs():
            if run.done():
                run.note_rows()


_RUNS: Slot[_Runs] = Slot("runs", _Runs, close=_Runs.record, stage=ExitStage.RECORDS)


def remember(run: LiveRun) -> None:
    """Keep a run that begins, and let go of those that have ended."""
    known = _RUNS.value
    with known.lock:
        known.live[run.id] = run
        known.held[run.id] = run
        known.largest_bytes += (_BYTES_A_ROW + _BYTES_A_CALL) * run.rows.total
    run.on_taken = release_ended
    release_ended(begun=True)


def release_ended(*, begun: bool = False) -> None:
    """Release runs that have ended, the oldest first, beyond what they may take.

    Args:
        begun: Whether a run begins: a result that has not been taken is then given up as well.
    """
    known = _RUNS.value
    with known.lock:
        if known.largest_bytes <= LARGEST_BYTES:
            return
        ended = [run for run in known.held.values() if run.done()]
        room = LARGEST_BYTES
        dropped = []
        for at, run in enumerate(reversed(ended)):
            room -= _BYTES_A_ROW * run.rows.total + _BYTES_A_CALL * len(run.table.keys)
            waits = at == 0 and not begun and not run.is_taken
            if room < 0 and not waits:
                dropped.append(known.held.pop(run.id))
        known.largest_bytes = sum(
            _BYTES_A_ROW * run.rows.total + _BYTES_A_CALL * (len(run.table.keys) if run.done() else run.rows.total)
            for run in known.held.values()
        )
    for run in dropped:
        run.note_rows()


def forget(run: LiveRun) -> None:
    """Release a run that is only a piece of something larger."""
    known = _RUNS.value
    with known.lock:
        known.held.pop(run.id, None)
        known.live.pop(run.id, None)


def forget_all() -> None:
    """Release every run, as a new kernel would know of none; what was recorded stays."""
    close()
    known = _RUNS.value
    with known.lock:
        dropped = list(known.held.values())
        known.held.clear()
        known.live.clear()
        known.largest_bytes = 0
    del dropped  # outside the lock: a run that ends here lets go of its parts


def runs() -> list[LiveRun]:
    """Return the runs of this process that are still held, newest last."""
    known = _RUNS.value
    with known.lock:
        return sorted(known.live.values(), key=lambda run: run.number)


def find(run_id: object) -> LiveRun | None:
    """Return the run of this process with this id, None where there is none, or it is not referenced any more."""
    return _RUNS.value.live.get(run_id) if isinstance(run_id, str) else None


def close() -> None:
    """Write down what is known of the runs that have ended and whose result was not taken."""
    _RUNS.value.record()
