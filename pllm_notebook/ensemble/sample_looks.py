"""Looks at a growing sample of a table's rows, until a confidence threshold is certified or none can be."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pllm_notebook.ensemble.guarantee_figures import GuaranteeState
from pllm_notebook.failures import Failure
from pllm_notebook.statistics import Certificate, Guarantee, certify, draw_order, forecast, planned_looks

__all__ = ["NOTHING_PROVED", "Look", "look_at"]

Numbers = np.ndarray[Any, np.dtype[Any]]

_SEED = 20_261_130
"""Seed of the draw. The same for every table, so that a resumed run, or another run, draws the same rows."""

NOTHING_PROVED = Certificate(np.inf, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Look:
    """The result of a look at the sample.

    Attributes:
        ask: Groups of equal rows that the strong model should answer.
        state: None while the sample grows.
        best: The best certificate so far.
        number: Number of the look, from 0.
        unsent: Why the sample cannot be completed. None if it can, or if that is unknown.
    """

    ask: Sequence[int] = ()
    state: GuaranteeState | None = None
    best: Certificate = NOTHING_PROVED
    number: int = 0
    unsent: Failure | None = None


def look_at(
    last: Look,
    guarantee: Guarantee,
    groups: Numbers,
    confidence: Numbers,
    asked: Container[int],
    cut: Callable[[Sequence[int]], Look | None],
    is_bad: Callable[[int, int], bool],
    needs: Callable[[int, int], bool] | None = None,
) -> Look:
    """Look at the sample, and draw a larger one while that is likely to keep more low-cost answers.

    Args:
        last: The previous look.
        guarantee: The guarantee to prove.
        groups: Shape (n_rows,), the group of equal rows that each row belongs to.
        confidence: Shape (n_rows,), the confidence of each row's low-cost answer; -inf without one.
        asked: Groups that the strong model has already been asked about.
        cut: Returns a look that ends the run if the strong answer to one of the given groups is missing, else None.
        is_bad: Returns whether a row, given with its group, would be bad if it kept its low-cost answer.
        needs: Returns whether the strong answer is needed to tell if a row, given with its group, is bad. Labels may
            confirm the low-cost answer without it. None if every row needs it.

    Returns:
        The groups to ask next, or how the sampling ended.
    """
    rows = len(groups)
    looks = planned_looks(rows, guarantee)
    if not looks:
        return Look(state="too_few")
    order = draw_order(rows, _SEED)
    sampled, bad = np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool)
    best, number = last.best, last.number
    while True:
        sampled[order[: looks[number]]] = True
        at = np.flatnonzero(sampled)
        pairs = zip(at.tolist(), groups[at].tolist(), strict=True)
        drawn = sorted({group for row, group in pairs if needs is None or needs(row, group)})
        if ask := [group for group in drawn if group not in asked]:
            return Look(ask, None, best, number)
        if (ended := cut(drawn)) is not None:
            return ended
        bad[at] = [is_bad(row, group) for row, group in zip(at.tolist(), groups[at].tolist(), strict=True)]
        # An earlier, smaller sample may have proved more: each look has its own share of the error probability.
        best = min(certify(confidence, sampled, bad, guarantee), best, key=lambda one: one.threshold)
        kept = int((confidence[~sampled] >= best.threshold).sum())
        if not any(forecast(confidence, sampled, bad, guarantee, size) > kept for size in looks[number + 1 :]):
            return Look((), "proved" if best.proved else "unproved", best, number)
        number += 1
