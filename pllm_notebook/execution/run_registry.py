"""The runs of this process, newest last: running ones, referenced ones, and the last ones that ended."""

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
"""Maximum memory of ended runs that are kept only here, newest first.

The last run is kept beyond that until the next one begins if its result has not been taken: the user gets the answers
of an interrupted run by `pllm.runs()[-1].to_frame()`.
"""

# Memory of a run for each call (its key, the metadata of its reply, its value) and for each row: measured, rounded up.
_BYTES_A_CALL = 1_200
_BYTES_A_ROW = 500
# Maximum number of runs whose payments are kept separately; beyond it, the oldest ones that no longer exist are summed.
_MAX_APART = 10_000


class PaidRuns(NamedTuple):
    """The summed rows, tokens and cost of some runs.

    Attributes:
        runs: Number of runs.
        rows: Number of their rows.
        answered: Number of rows with an answer, from a call or the cache.
        from_cache: Number of these that the cache answered.
        failed: Number of rows that failed.
        not_sent: Number of rows that were not sent because of the cost limit.
        input_tokens: Input tokens of the calls.
        output_tokens: Output tokens of the calls.
        cost_usd: Cost of the calls in US dollars, None for an unknown price. A call that runs share counts once.
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
        """Return the sum of both."""
        cost = None if self.cost_usd is None or other.cost_usd is None else self.cost_usd + other.cost_usd
        counts = {name: getattr(self, name) + getattr(other, name) for name in PaidRuns._fields if name != "cost_usd"}
        return PaidRuns(**counts, cost_usd=cost)


class _Runs(Locked):
    """The runs of this process by id: `live` has all that exist, `held` those that are kept alive here.

    `largest_bytes` is an upper bound on the memory of the held runs, so that they need not be examined each time.
    `paid` has the payments of ended runs that are not held; `older` is the sum of those no longer kept separately.
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
    """Keep a run that begins, and release ended runs if needed."""
    known = _RUNS.value
    with known.lock:
        known.live[run.id] = run
        known.held[run.id] = run
        known.largest_bytes += (_BYTES_A_ROW + _BYTES_A_CALL) * run.rows.total
    run.on_taken = release_ended
    release_ended(begun=True)


def release_ended(*, begun: bool = False) -> None:
    """Release ended runs, oldest first, until the rest take at most `LARGEST_BYTES`.

    Args:
        begun: Whether a run begins, so that even a last result that has not been taken may be released.
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
    """Release a run that is only a part of something larger, and no longer list it."""
    known = _RUNS.value
    with known.lock:
        known.held.pop(run.id, None)
        known.live.pop(run.id, None)
    _note_paid_by(run)


def forget_all() -> None:
    """Release every run, as if in a new kernel. Records on disk stay."""
    close()
    known = _RUNS.value
    with known.lock:
        dropped = list(known.held.values())
        known.held.clear()
        known.live.clear()
        known.paid.clear()
        known.older = PaidRuns()
        known.largest_bytes = 0
    del dropped  # outside the lock, since deleting a run releases its parts


def unlisted() -> PaidRuns:
    """Return the sum of the ended runs of this process that `runs` does not list."""
    known = _RUNS.value
    with known.lock:
        total = known.older
        for run_id, paid in known.paid.items():
            if run_id not in known.live:
                total = total.plus(paid)
    return total


def _note_paid_by(run: LiveRun) -> None:
    """Record the payments of a released run, now if it has ended, and each time it ends later."""
    run.on_over = _settle
    if run.done():
        _settle(run)


def _settle(run: LiveRun) -> None:
    """Record what a run has paid. From any thread."""
    p = run.progress()
    if not (p.input_tokens or p.output_tokens or p.cost_usd):
        return  # nothing was paid, so the run is not counted
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
    """Return the runs of this process that still exist and are listed, newest last."""
    known = _RUNS.value
    with known.lock:
        return sorted(known.live.values(), key=lambda run: run.number)


def find(run_id: object) -> LiveRun | None:
    """Return the run of this process with this id, None if there is none or it is no longer referenced."""
    return _RUNS.value.live.get(run_id) if isinstance(run_id, str) else None


def close() -> None:
    """Write the records of all ended runs to the registry on disk."""
    _RUNS.value.record()
