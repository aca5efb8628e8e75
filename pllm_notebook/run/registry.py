"""The runs of this process, newest last."""

from __future__ import annotations

from collections import OrderedDict

from pllm_notebook.run.run import Run

__all__ = ["find", "forget", "remember", "runs"]

# A run holds its answers; a notebook left open for a month should not hold them all.
_MOST_RUNS = 50

_runs: OrderedDict[str, Run] = OrderedDict()


def remember(run: Run) -> None:
    """Keep a run, and let go of the oldest that have ended."""
    _runs[run.id] = run
    for old in [old for old in _runs.values() if old.done()][: max(0, len(_runs) - _MOST_RUNS)]:
        del _runs[old.id]


def forget(run: Run) -> None:
    """Let go of a run that is only a piece of something larger."""
    _runs.pop(run.id, None)


def runs() -> list[Run]:
    """Give the runs of this process, newest last; of those that have ended only the last 50."""
    return list(_runs.values())


def find(run_id: object) -> Run | None:
    """Give the run with this id, None where it is of another process or long past."""
    return _runs.get(run_id) if isinstance(run_id, str) else None
