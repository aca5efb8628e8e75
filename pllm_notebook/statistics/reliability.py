"""Reliability of stated probabilities: calibration error and its excess over chance, Brier score, log loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pllm_notebook.statistics.evaluate_extra import scikit_learn

__all__ = ["Floats", "Reliability", "ReliabilityBin", "clipped", "edge_of", "log_loss_of", "measure"]

Floats = NDArray[np.float64]

_BINS = 5
_DRAWS = 400
_INTERVAL_DRAWS = 2_000
_CELLS = 2_000_000  # of one block of draws, 16 MB
# A probability of 0 or 1 has no logit. Probabilities rounded to two decimals move to the middle of the last step.
_FINE_EDGE, _ROUNDED_EDGE = 1e-6, 0.005


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The rows of one bin of a reliability diagram.

    Attributes:
        count: Number of rows.
        stated: Mean of their stated probabilities.
        observed: Share of right rows.
    """

    count: int
    stated: float
    observed: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """The agreement of stated probabilities with outcomes.

    Attributes:
        count: Number of rows.
        accuracy: Share of right rows.
        stated: Mean of the stated probabilities.
        ece: Expected calibration error: mean distance of stated and observed over 5 bins of equal mass. It is above 0
            even for perfect probabilities, and more so with fewer rows.
        excess: `ece` minus its mean for perfect probabilities on these rows. About 0 for good calibration.
        excess_low: Lower end of the 95 % interval of `excess`.
        excess_high: Upper end of it.
        brier: Mean squared distance of probability and outcome (0 or 1).
        log_loss: Mean negative logarithm of the probability of the outcome, in nats.
        bins: The 5 bins, fewer if many rows have the same probability.
    """

    count: int
    accuracy: float
    stated: float
    ece: float
    excess: float
    excess_low: float
    excess_high: float
    brier: float
    log_loss: float
    bins: tuple[ReliabilityBin, ...]


def measure(p: Sequence[float] | Floats, right: Sequence[bool] | Any, groups: Any = None) -> Reliability:
    """Measure stated probabilities against outcomes.

    Assumes that the rows are a uniform sample of the population of interest, and that different groups are
    independent. Equal probabilities share a bin, so that figures do not depend on the order of the rows.

    Args:
        p: Shape (n,), stated probabilities that the row is right, 0 to 1; at least one.
        right: Shape (n,), whether it is.
        groups: Shape (n,), equal for rows that share one question and so one answer; None if each has its own.

    Raises:
        MissingPackageError: If scikit-learn is not installed.
    """
    brier_score_loss = scikit_learn("sklearn.metrics", "calibrate").brier_score_loss
    stated, true = np.asarray(p, dtype=np.float64), np.asarray(right, dtype=bool)
    bin_of = _bins_of(stated)
    group_of = np.arange(len(stated)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    sums = np.zeros((int(group_of.max()) + 1, _BINS))
    np.add.at(sums, (group_of, bin_of), true - stated)
    ece = np.abs(sums.sum(axis=0)).sum() / len(stated)
    excess = ece - _chance(stated, bin_of, group_of)
    low, high = _spread(sums, len(stated))
    bins = [bin_of == at for at in range(_BINS)]
    return Reliability(
        count=len(stated),
        accuracy=float(true.mean()),
        stated=float(stated.mean()),
        ece=float(ece),
        excess=float(excess),
        excess_low=float(excess + low),
        excess_high=float(excess + high),
        brier=float(brier_score_loss(true, stated, pos_label=True)),
        log_loss=log_loss_of(stated, true),
        bins=tuple(
            ReliabilityBin(int(here.sum()), float(stated[here].mean()), float(true[here].mean()))
            for here in bins
            if here.any()
        ),
    )


def edge_of(p: Floats) -> float:
    """Return the minimum distance of probabilities from 0 and 1, which is larger if all are rounded to two decimals."""
    return _ROUNDED_EDGE if np.allclose(p * 100, np.round(p * 100), rtol=0, atol=1e-9) else _FINE_EDGE


def clipped(p: Floats, edge: float) -> Floats:
    """Return probabilities from *edge* to 1 - *edge*."""
    return np.clip(p, edge, 1 - edge)


def log_loss_of(p: Floats, right: NDArray[np.bool_]) -> float:
    """Return the mean log loss in nats, with probabilities clipped away from 0 and 1."""
    from sklearn.metrics import log_loss

    return float(log_loss(right, clipped(p, edge_of(p)), labels=[False, True]))


def _bins_of(p: Floats) -> NDArray[np.intp]:
    """Return the bin of each row: by the middle rank of its probability, so that equal probabilities share a bin."""
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    return np.minimum((middle * _BINS / len(p)).astype(np.intp), _BINS - 1)[inverse]


def _chance(p: Floats, bin_of: NDArray[np.intp], group_of: NDArray[np.intp]) -> float:
    """Return the mean calibration error of outcomes drawn from *p* itself."""
    rng, groups, hot = np.random.default_rng(0), int(group_of.max()) + 1, np.eye(_BINS)[bin_of]
    block = max(1, min(_DRAWS, _CELLS // len(p)))
    total = 0.0
    for start in range(0, _DRAWS, block):
        drawn = rng.random((min(block, _DRAWS - start), groups))[:, group_of] < p
        total += np.abs((drawn - p) @ hot).sum()
    return float(total / _DRAWS / len(p))


def _spread(sums: Floats, count: int) -> tuple[float, float]:
    """Return the ends of the 95 % interval of the calibration error, relative to its estimate.

    The sums of the bins, over independent groups, are treated as normal. Draws around them have their own random error,
    which would shift the interval upwards, so only their spread is used.

    Args:
        sums: Shape (groups, bins), sums of outcome minus probability.
        count: Number of rows.
    """
    noise = (
        np.random.default_rng(1).multivariate_normal(
            np.zeros(_BINS), len(sums) * np.cov(sums, rowvar=False, ddof=0), _INTERVAL_DRAWS, method="eigh"
        )
        if len(sums) > 1
        else np.zeros((1, _BINS))
    )
    drawn = np.abs(sums.sum(axis=0) + noise).sum(axis=1) / count
    low, high = np.quantile(drawn, [0.025, 0.975]) - drawn.mean()
    return float(low), float(high)
