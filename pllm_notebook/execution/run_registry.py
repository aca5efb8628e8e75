"""The runs of this process, newest last: those that are going, those that somebody holds, and the last that ended."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import NamedTuple

from pllm_notebook.execution.live_run import LiveRun
from pllm_notebook.runtime import ExitStage, Locked, Slot

__all__ = [
    "LARGEST_BYTES",
    "PaidRuns",
    "close",
    "find",
    "forget",
    "forget_all",
    "release_ended",
    "remember",
    "runs",
    "unlisted",
]

LARGEST_BYTES = 64 * 2**20
"""What runs that have ended and are not referenced elsewhere may take, the newest first.

A run whose result has not been taken yet is kept beyond that until the next one begins: `pllm.runs()[-1].to_frame()`
is how an interrupted run's answers are had.
"""

# What a run takes for each call (its key, its reply's figures, its value), and for each row: measured, and rounded up.
_BYTES_A_CALL = 1_200
_BYTES_A_ROW = 500
# Runs whose payment is kept apart; beyond it, the payments of the oldest runs that are not held are added up.
_MAX_APART = 10_000


class PaidRuns(NamedTuple):
    """What some runs asked and paid.

    Attributes:
        runs: Number of runs.
        rows: Their rows.
        answered: Rows with an answer, of a call or of the cache.
        from_cache: Of these, those of the cache.
        failed: Rows that failed.
        not_sent: Rows that a ceiling kept back.
        input_tokens: Of the calls.
        output_tokens: Of the calls.
        cost_usd: What these calls cost, None for an unknown price. A call that runs share counts once.
    """

    runs: int = 0
    rows: int = 0
    answered: int = 0
    from_cache: int = 0
    failed: int = 0
    not_sent: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0

    def plus(self, other: PaidRuns) -> PaidRuns:
        """Return both together."""
        cost = None if self.cost_usd is None or other.cost_usd is None else self.cost_usd + other.cost_usd
        counts = {name: getattr(self, name) + getattr(other, name) for name in PaidRuns._fields if name != "cost_usd"}
        return PaidRuns(**counts, cost_usd=cost)


class _Runs(Locked):
    """The runs of this process, by id: all that exist, and those that are held here.

    `largest_bytes` bounds what those that are held may take, so that they need not be looked at each time.
    `paid` has what each run paid that has ended and is not held, and `older` the sum of those that are no longer
    kept apart.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live: weakref.WeakValueDictionary[str, LiveRun] = weakref.WeakValueDictionary()
        self.held: OrderedDict[str, LiveRun] = OrderedDict()
        self.largest_bytes = 0
        self.paid: OrderedDict[str, PaidRuns] = OrderedDict()
        self.older = PaidRuns()

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
        _note_paid_by(run)


def forget(run: LiveRun) -> None:
    """Release a run that is only a piece of something larger."""
    known = _RUNS.value
    with known.lock:
        known.held.pop(run.id, None)
        known.live.pop(run.id, None)
    _note_paid_by(run)


def forget_all() -> None:
    """Release every run, as a new kernel would know of none; what was recorded stays."""
    close()
    known = _RUNS.value
    with known.lock:
        dropped = list(known.held.values())
        known.held.clear()
        known.live.clear()
        known.paid.clear()
        known.older = PaidRuns()
        known.largest_bytes = 0
    del dropped  # outside the lock: a run that ends here lets go of its parts


def unlisted() -> PaidRuns:
    """Return what the runs of this process paid that have ended and that `runs` does not list."""
    known = _RUNS.value
    with known.lock:
        total = known.older
        for run_id, paid in known.paid.items():
            if run_id not in known.live:
                total = total.plus(paid)
    return total


def _note_paid_by(run: LiveRun) -> None:
    """Keep what a run that is let go of has paid: now, if it has ended, and each time that it ends."""
    run.on_over = _settle
    if run.done():
        _settle(run)


def _settle(run: LiveRun) -> None:
    """Note what a run has paid. From any thread."""
    p = run.progress()
    if not (p.input_tokens or p.output_tokens or p.cost_usd):
        return  # nothing was paid, and its rows are those of other runs
    spent = run.execution.queues.spent
    paid = PaidRuns(
        1, p.total, p.done + p.cached, p.cached, p.failed, p.not_sent, p.input_tokens, p.output_tokens, spent.own_usd
    )
    known = _RUNS.value
    with known.lock:
        known.paid[run.id] = paid
        if len(known.paid) > _MAX_APART:
            oldest = next((run_id for run_id in known.paid if run_id not in known.live), None)
            if oldest is not None:
                known.older = known.older.plus(known.paid.pop(oldest))


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
