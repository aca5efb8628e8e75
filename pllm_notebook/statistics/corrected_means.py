"""Publishable means and shares: a model's answers to all rows, corrected with labels of some of them.

For uniformly drawn labels this is prediction-powered inference with a tuned weight (Angelopoulos, Duchi and
Zrnic, "PPI++: Efficient Prediction-Powered Inference", 2023). For labels drawn with other known probabilities it is the
design-based correction (Egami, Hinck, Stewart and Wei, "Using Imperfect Surrogates for Downstream Inference", 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pllm_notebook.exceptions import UsageError

__all__ = ["FEWEST_LABELS", "CorrectedMean", "MeanMethod", "chances_fit", "corrected_mean"]

Floats = NDArray[np.float64]

FEWEST_LABELS = 10
"""With fewer labels there is no interval."""

# With fewer labels, a normal interval is too short.
_MANY_LABELS = 50
_Z95 = NormalDist().inv_cdf(0.975)
_MOST_DEVIATIONS, _CLOSE_ENOUGH = 4.0, 0.05

MeanMethod = Literal["labels", "ppi", "ppi-small", "strata", "strata-small", "design", "none"]


@dataclass(frozen=True, slots=True)
class CorrectedMean:
    """A mean over all rows, with its 95 % interval. Both are NaN if the labels allow none.

    Assumes that the labels are right, that rows were drawn for labelling with the stored probabilities, and that
    distinct rows are independent draws from the population. Nothing is assumed about the model's answers.

    Attributes:
        estimate: The corrected mean. NaN without an interval.
        low: Lower end.
        high: Upper end.
        uncorrected: Mean of the uncorrected answers over all rows, including equal ones.
        labels: Number of labelled questions used.
        questions: Number of distinct rows.
        rows: Number of all rows.
        method: "labels" if every row has one, "ppi" (uniform labels), "strata" (some rows for certain and a uniform
            sample of the others), "design" (other known probabilities), each with "-small" below 50 labels, or "none".
        reason: Why there is no interval. "" if there is one.
    """

    estimate: float
    low: float
    high: float
    uncorrected: float
    labels: int
    questions: int
    rows: int
    method: MeanMethod
    reason: str = ""


def corrected_mean(
    y: Any,
    guess: Any,
    labelled: Any,
    pi: Any = None,
    question: Any = None,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> CorrectedMean:
    """Return the mean of *y* over all rows, from labels of some rows and guesses for all.

    Assumes that the labels are right, and that different questions are independent draws from the population; for the
    mean of the table itself, the interval is then slightly too wide. Nothing is assumed about the guesses.

    Args:
        y: Shape (n,), the right values, read only for *labelled* rows. Booleans count as 0 or 1.
        guess: Shape (n,), the model's answer, or any other number that does not depend on the labels.
        labelled: Shape (n,), bool.
        pi: Probability with which each row was drawn for labelling, shape (n,), above 0 and at most 1, read only for
            *labelled* rows. None for a uniform draw.
        question: Shape (n,), equal for rows that share one answer, and so one label; None if each has its own.
        bounds: The smallest and largest possible value of *y*, which bound the unseen values if there are few labels.

    Raises:
        UsageError: If a probability is not above 0 and at most 1.
    """
    there, g = np.asarray(labelled, dtype=bool), np.asarray(guess, dtype=np.float64)
    true = np.where(there, np.asarray(y, dtype=np.float64), 0.0)
    chance = np.ones(len(g)) if pi is None else np.where(there, np.asarray(pi, dtype=np.float64), 1.0)
    if not ((chance > 0) & (chance <= 1)).all():
        raise UsageError("pi has the chance of each labelled row, over 0 and at most 1.")
    rows, weight = len(g), np.ones(len(g))
    if question is not None:
        true, g, there, chance, weight = _by_question(np.asarray(question), true, g, there, chance)
    uncorrected = float(weight @ g / rows) if rows else float("nan")
    sample = _Sample(true[there], g[there], weight[there], g[~there], weight[~there], bounds)
    if there.all() and rows:
        found: _Estimate | str = _labels_alone(sample, "labels")
    elif pi is None:
        found = _uniform(sample)
    else:
        found = _with_chances(sample, chance[there])
    if isinstance(found, str):
        nan = float("nan")
        return CorrectedMean(nan, nan, nan, uncorrected, int(there.sum()), len(g), rows, "none", found)
    low, high = bounds
    half = found.quantile * found.variance**0.5
    mean, lower, upper = np.clip([found.mean, found.mean - half, found.mean + half], low, high).tolist()
    return CorrectedMean(mean, lower, upper, uncorrected, int(there.sum()), len(g), rows, found.method)


def chances_fit(pi: Any, questions: int) -> bool:
    """Return whether labels with these probabilities can be a sample of this number of questions.

    The reciprocals of the probabilities add up to the number of questions, up to random variation. Otherwise rows were
    skipped, added since, or drawn in a different way than stated.

    Args:
        pi: The probability of each labelled question.
        questions: Number of all questions.
    """
    chance = np.asarray(pi, dtype=np.float64)
    counted = float((1 / chance).sum())
    deviation = float(((1 - chance) / chance**2).sum()) ** 0.5
    return bool(abs(counted - questions) <= max(_MOST_DEVIATIONS * deviation, _CLOSE_ENOUGH * questions))


@dataclass(frozen=True, slots=True)
class _Sample:
    """Labelled and unlabelled questions, with how many rows each has."""

    y: Floats
    g: Floats
    w: Floats
    other_g: Floats
    other_w: Floats
    bounds: tuple[float, float]

    def part(self, chosen: NDArray[np.bool_], *, others: bool) -> _Sample:
        """Return some of the labelled questions, with or without the unlabelled ones."""
        none = self.other_g[:0]
        rest = (self.other_g, self.other_w) if others else (none, none)
        return _Sample(self.y[chosen], self.g[chosen], self.w[chosen], *rest, self.bounds)


@dataclass(frozen=True, slots=True)
class _Estimate:
    mean: float
    variance: float
    quantile: float
    method: MeanMethod


def _by_question(
    question: NDArray[Any], y: Floats, g: Floats, there: NDArray[np.bool_], chance: Floats
) -> tuple[Floats, Floats, NDArray[np.bool_], Floats, Floats]:
    """Return a value for each question and its number of rows. The first label of a question counts."""
    _, at = np.unique(question, return_inverse=True)
    at = at.reshape(-1)
    weight = np.bincount(at).astype(np.float64)
    first = np.full(len(weight), -1)
    rows = np.flatnonzero(there)[::-1]
    first[at[rows]] = rows
    known = first >= 0
    return y[first], np.bincount(at, weights=g) / weight, known, np.where(known, chance[first], 1.0), weight


def _labels_alone(sample: _Sample, method: MeanMethod) -> _Estimate | str:
    n = len(sample.y)
    if n < FEWEST_LABELS:
        return _too_few(n)
    mean, variance = _ratio(sample.y, sample.w)
    return _Estimate(mean, variance, _quantile(n - 1), method)


def _uniform(sample: _Sample) -> _Estimate | str:
    """Correct with uniform labels (PPI++). With few labels, use four pseudo-labels at the bounds and Student's t."""
    n = len(sample.y)
    if n < FEWEST_LABELS:
        return _too_few(n)
    lam = _weight_of_guesses(sample)
    residual, w = sample.y - lam * sample.g, sample.w
    is_small = n < _MANY_LABELS
    if is_small:
        low, high = sample.bounds
        imagined = [high - lam * low, low - lam * high, low - lam * low, high - lam * high]
        residual, w = np.append(residual, imagined), np.append(w, [w.mean()] * 4)
    mean, variance = _ratio(residual, w)
    variance *= len(residual) / n  # pseudo-labels widen the interval but do not count as labels
    others, its_variance = _ratio(sample.other_g, sample.other_w)
    return _Estimate(
        lam * others + mean,
        lam**2 * its_variance + variance,
        _quantile(n - 1) if is_small else _Z95,
        "ppi-small" if is_small else "ppi",
    )


def _with_chances(sample: _Sample, chance: Floats) -> _Estimate | str:
    drawn = chance < 1
    if not len(chance):
        return _too_few(0)
    if not drawn.any():
        return "every label has the chance 1, and rows without a label had none: they are not known"
    if np.ptp(chance[drawn]) < 1e-9:
        return _strata(sample, drawn)
    if int(drawn.sum()) < _MANY_LABELS:
        return f"{int(drawn.sum())} labels were drawn with different chances, and {_MANY_LABELS} are needed"
    y, g, w = (np.concatenate(pair) for pair in ((sample.y, sample.other_g), (sample.g, sample.other_g),
                                                 (sample.w, sample.other_w)))  # fmt: skip
    corrected = g + (y - g) / np.concatenate([chance, np.ones(len(sample.other_g))])
    return _Estimate(*_ratio(corrected, w), _Z95, "design")


def _strata(sample: _Sample, drawn: NDArray[np.bool_]) -> _Estimate | str:
    """Combine rows that were labelled for certain with a uniform sample of the others."""
    rest = _uniform(sample.part(drawn, others=True))
    if isinstance(rest, str) or drawn.all():
        return rest
    certain = sample.part(~drawn, others=False)
    mean, variance = _ratio(certain.y, certain.w)
    is_certain = np.concatenate([(~drawn).astype(np.float64), np.zeros(len(sample.other_w))])
    share, share_variance = _ratio(is_certain, np.concatenate([sample.w, sample.other_w]))
    return _Estimate(
        share * mean + (1 - share) * rest.mean,
        # The last term: another table of the population would have another share of rows labelled for certain.
        share**2 * variance + (1 - share) ** 2 * rest.variance + share_variance * (mean - rest.mean) ** 2,
        rest.quantile,
        "strata-small" if rest.method == "ppi-small" else "strata",
    )


def _weight_of_guesses(sample: _Sample) -> float:
    """Return the weight of the guesses, 0 to 1: lower if they agree less with the labels."""
    w, n, others = sample.w, len(sample.y), len(sample.other_g)
    every = np.concatenate([sample.g, sample.other_g])
    spread = every.var(ddof=1) if len(every) > 1 else 0.0
    if not others or spread <= 0:
        return 0.0
    covariance = np.cov(sample.y, sample.g, aweights=w)[0, 1]
    return float(np.clip(covariance / ((1 + n / others) * spread), 0, 1))


def _ratio(values: Floats, weight: Floats) -> tuple[float, float]:
    """Return a weighted mean and its variance, with each question as one observation."""
    n, total = len(values), float(weight.sum())
    if not n:
        return 0.0, 0.0
    mean = float(weight @ values) / total
    rest = weight * (values - mean)
    return mean, float(rest @ rest) / total**2 * (n / (n - 1) if n > 1 else 1.0)


def _quantile(degrees: int) -> float:
    """Return Student's t at .975, for 9 degrees of freedom or more (Abramowitz and Stegun, 26.7.5)."""
    z, v = _Z95, float(degrees)
    return float(
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def _too_few(labels: int) -> str:
    count = "no label has" if not labels else "1 label has" if labels == 1 else f"{labels} labels have"
    return f"{count} a known chance, and {FEWEST_LABELS} are needed"
