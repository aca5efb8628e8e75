"""What the answers of a side cost and took when they were paid for, for its comparison with another's."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from pllm_notebook.execution import LiveRun
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.frames.rows import usage_rows
from pllm_notebook.lab.answer_sides import AnswerSide

__all__ = ["RunCosts", "costs_of"]

_MOST_ROWS = 1_000
"""Rows whose usage is read, evenly over the compared ones."""


class RunCosts(NamedTuple):
    """Means over rows that one reply answered; None for unknown.

    Attributes:
        rows: How many rows were read.
        cost_usd: US dollars a row, mean, when it was paid for; answers out of the cache too.
        input_tokens: Tokens a row, mean.
        output_tokens: Tokens a row, mean.
        latency_s: Seconds from sending to answer, median.
    """

    rows: int
    cost_usd: float | None
    input_tokens: float | None
    output_tokens: float | None
    latency_s: float | None


def costs_of(side: AnswerSide, lines: np.ndarray[Any, Any]) -> RunCosts:
    """Return the costs of some lines of a side. Sends nothing."""
    rows = side.row[lines]
    rows = np.unique(rows[rows >= 0])
    if (record := side.source.record) is not None:
        rows = rows[(side.source.statuses[rows] <= 1) & ~record.several[rows]]
    picked = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST_ROWS)).astype(np.int64))].tolist()
    run = side.source.run
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


def _values(known: list[Mapping[str, Any]], name: str) -> list[float]:
    return [float(one[name]) for one in known if one.get(name) is not None]


def _mean(known: list[Mapping[str, Any]], name: str) -> float | None:
    values = _values(known, name)
    return sum(values) / len(values) if values else None


def _median(known: list[Mapping[str, Any]], name: str) -> float | None:
    values = _values(known, name)
    return median(values) if values else None
