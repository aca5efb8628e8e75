"""The cost of a side's answers alone, and the total cost of runs that share calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from pllm_notebook.execution import LiveRun
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.rows import usage_rows
from pllm_notebook.lab.answer_sides import AnswerSide

__all__ = ["RunCosts", "costs_of", "paid_usd"]

_MOST_ROWS = 1_000
"""Maximum number of rows whose usage is read, spread evenly over the compared ones."""


class RunCosts(NamedTuple):
    """Means over distinct answered rows, with all replies of a row together. None if unknown for all of them.

    For a run that is no longer in memory, rows with several replies (repairs, tools, samples) are left out if an
    earlier version recorded the run, or if it has more than 200,000 such rows: their usage is not recorded then, and
    the mean is too low.

    Attributes:
        rows: Number of rows read.
        cost_usd: Mean US dollars a row at the time of payment, including cached answers and calls shared with other
            runs.
        input_tokens: Mean input tokens a row.
        output_tokens: Mean output tokens a row.
        latency_s: Median seconds from sending to answer.
    """

    rows: int
    cost_usd: float | None
    input_tokens: float | None
    output_tokens: float | None
    latency_s: float | None


def costs_of(side: AnswerSide, lines: np.ndarray[Any, Any]) -> RunCosts:
    """Return the costs of some lines of a side. Equal rows share one call and count once. Sends nothing."""
    rows = side.row[lines[np.sort(np.unique(side.content[lines], return_index=True)[1])]]
    rows = np.unique(rows[rows >= 0])
    run = side.source.run
    if side.source.record is not None:
        rows = rows[side.source.statuses[rows] <= 1]
    picked = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST_ROWS)).astype(np.int64))].tolist()
    known: list[Mapping[str, Any]]
    if isinstance(run, LiveRun):
        known = list(usage_rows(run, picked))
    else:
        assert isinstance(run, RegisteredRun)
        known = list(run.usage_of(picked).values())
    return RunCosts(
        rows=len(known),
        cost_usd=_mean(known, "cost_usd"),
        input_tokens=_mean(known, "input_tokens"),
        output_tokens=_mean(known, "output_tokens"),
        latency_s=_median(known, "latency_s"),
    )


def paid_usd(runs: Iterable[LiveRun]) -> float | None:
    """Return the total that runs paid, with shared calls counted once. None for an unknown price."""
    costs = [run.execution.queues.spent.own_usd for run in runs]
    return None if None in costs else sum(cost for cost in costs if cost is not None)


def _values(known: list[Mapping[str, Any]], name: str) -> list[float]:
    return [float(one[name]) for one in known if one.get(name) is not None]


def _mean(known: list[Mapping[str, Any]], name: str) -> float | None:
    values = _values(known, name)
    return sum(values) / len(values) if values else None


def _median(known: list[Mapping[str, Any]], name: str) -> float | None:
    values = _values(known, name)
    return median(values) if values else None
