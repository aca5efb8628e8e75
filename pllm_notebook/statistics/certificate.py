"""The lowest confidence at which a low-cost answer may be kept, with a guarantee for the whole table.

The table is finite, and the rows whose strong answer is examined are a uniform sample without replacement. The number
of bad rows in the sample is therefore hypergeometric, and the guarantee needs no assumption about models, calibration,
independence of rows or duplicates: only that the draw does not depend on the contents of the rows.

A lower threshold can only add bad rows. Thresholds are therefore tested from strict to lax, each at the full error
probability, until the first fails: the first threshold that breaks the guarantee passes with at most that probability.
Several looks at a growing sample divide the error probability (Bonferroni), so that the decision to stop may depend on
anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pllm_notebook.exceptions import UsageError
from pllm_notebook.statistics.evaluate_extra import scikit_learn
from pllm_notebook.statistics.reliability import Floats

__all__ = ["Certificate", "Guarantee", "certify", "draw_order", "forecast", "known_threshold", "planned_looks"]

_LOOKS, _MOST_LOOKS = 3, 6
_MORE_FROM = 20_000  # rows from which there is one look more, and once more for each four times as many (simulated)
_FIRST_LOOK = 100
_MARGIN = 1.2  # ratio of the first look to the fewest rows that can prove anything: room for an error or two
_STEPS = 50


@dataclass(frozen=True, slots=True)
class Guarantee:
    """The guarantee that with probability `confidence_level`, at most 1 - `share` of the rows are bad.

    A row is bad if it keeps a low-cost answer that differs from the strong model's, or, measured with labels, if it
    keeps a wrong answer although the strong model's is right.

    Attributes:
        share: 0 to 1, of all rows of the table.
        confidence_level: 0 to 1, over the draw of the sample.
    """

    share: float
    confidence_level: float

    def __post_init__(self) -> None:
        for name, value in (("guarantee", self.share), ("confidence_level", self.confidence_level)):
            if not 0 < value < 1:
                raise UsageError(f"{name} is {value!r}, and must be above 0 and below 1. Nothing was sent.")

    def allowed(self, rows: int) -> int:
        """Return how many bad rows a table of *rows* rows may have."""
        return int(np.floor((1 - self.share) * rows + 1e-9))

    def error_per_look(self, rows: int) -> float:
        """Return the error probability of one look at a table of *rows* rows."""
        return (1 - self.confidence_level) / _looks(rows)


@dataclass(frozen=True, slots=True)
class Certificate:
    """The result that a sample proves.

    Attributes:
        threshold: The lowest confidence at which a low-cost answer is kept. Infinite if nothing is proved.
        kept: Number of rows outside the sample that keep their low-cost answer.
        sampled: Number of rows in the sample.
        bad: How many of them would be bad at this threshold.
    """

    threshold: float
    kept: int
    sampled: int
    bad: int

    @property
    def proved(self) -> bool:
        """Whether any low-cost answer may be kept."""
        return self.threshold < np.inf


def draw_order(rows: int, seed: int) -> NDArray[np.intp]:
    """Return the positions of a table's rows in sampling order. Each look uses the first rows of this order.

    It depends only on the number of rows and the seed, never on contents or answers.
    """
    return np.random.default_rng([seed, rows]).permutation(rows)


def planned_looks(rows: int, guarantee: Guarantee) -> tuple[int, ...]:
    """Return the sizes of the growing sample at which a look takes place. () if none can prove anything.

    The first size is 100 rows, or 1.2 times the smallest sample that can prove anything if that is more. In a table
    with fewer rows than that, it is the smallest such sample. Each further look doubles the size. There are at most
    three looks, and up to six for tables of 20,000 rows and more, for which a larger sample costs less than it saves.
    """
    fewest = _fewest(rows, guarantee)
    first = max(_FIRST_LOOK, int(np.ceil(fewest * _MARGIN)))
    if first >= rows and fewest < rows:
        first = fewest
    return tuple(size for size in (first << look for look in range(_looks(rows))) if size < rows)


def certify(
    confidence: Floats, sampled: NDArray[np.bool_], bad: NDArray[np.bool_], guarantee: Guarantee
) -> Certificate:
    """Return the lowest threshold that one look at the sample proves.

    Assumes that *sampled* is the beginning of `draw_order`, or another uniform sample without replacement that does not
    depend on the contents of rows. Rows whose strong answer is known for another reason may use it, but must not count.

    Args:
        confidence: Shape (n,), of each row's low-cost answer, the lowest of several fields. -inf for a row without one.
        sampled: Shape (n,), whether the row is in the sample.
        bad: Shape (n,), whether keeping the row's low-cost answer would be bad in any field. Read only for *sampled*
            rows.
        guarantee: The guarantee to prove.

    Raises:
        MissingPackageError: If scipy is not installed.
    """
    size = int(sampled.sum())
    steps = _thresholds(confidence)
    counts = _kept_of(confidence[sampled & bad], steps)
    passed = _passed(counts, _most(len(confidence), size, guarantee))
    if passed == 0:
        return Certificate(np.inf, 0, size, 0)
    threshold = float(steps[passed - 1])
    kept = int((confidence[~sampled] >= threshold).sum())
    return Certificate(threshold, kept, size, int(counts[passed - 1]))


def forecast(
    confidence: Floats, sampled: NDArray[np.bool_], bad: NDArray[np.bool_], guarantee: Guarantee, size: int
) -> int:
    """Estimate how many low-cost answers a larger sample would keep outside itself.

    Assumes that further bad rows are as frequent at each confidence as in the sample so far.

    Args:
        confidence: See `certify`.
        sampled: The sample so far.
        bad: See `certify`.
        guarantee: The guarantee to prove.
        size: Rows of the larger sample.
    """
    rows = len(confidence)
    steps = _thresholds(confidence)
    counts = _kept_of(confidence[sampled & bad], steps) * size / sampled.sum()
    passed = _passed(np.round(counts), _most(rows, size, guarantee))
    if passed == 0:
        return 0
    kept = int((confidence >= steps[passed - 1]).sum())
    return round(kept * (rows - size) / rows)


def known_threshold(confidence: Floats, bad: NDArray[np.bool_], guarantee: Guarantee) -> float:
    """Return the lowest threshold that keeps the guarantee for a table whose strong answers are all known (an oracle).

    Args:
        confidence: See `certify`.
        bad: Shape (n,), whether keeping the row's low-cost answer would be bad.
        guarantee: The guarantee.

    Returns:
        The threshold, infinite if none keeps it.
    """
    steps = np.unique(confidence[confidence > -np.inf])[::-1]
    passed = _passed(_kept_of(confidence[bad], steps), guarantee.allowed(len(confidence)))
    return float(steps[passed - 1]) if passed else float("inf")


def _looks(rows: int) -> int:
    """Return the maximum number of looks. It depends only on the number of rows."""
    looks, more_from = _LOOKS, _MORE_FROM
    while rows >= more_from and looks < _MOST_LOOKS:
        looks, more_from = looks + 1, 4 * more_from
    return looks


def _thresholds(confidence: Floats) -> Floats:
    """Return thresholds from strict to lax. They depend only on the confidences, not on the sample."""
    given = confidence[confidence > -np.inf]
    steps = np.unique(given)[::-1]
    if len(steps) <= _STEPS:
        return steps
    # Each is an occurring confidence: a threshold between two would keep the same rows.
    return np.unique(np.quantile(given, np.linspace(0, 1, _STEPS + 1)[:-1], method="lower"))[::-1]


def _kept_of(confidence: Floats, steps: Floats) -> NDArray[np.intp]:
    """Return for each threshold how many of these rows would keep their low-cost answer."""
    return len(confidence) - np.searchsorted(np.sort(confidence), steps, side="left")


def _passed(counts: NDArray[Any], most: int) -> int:
    """Return how many thresholds, from the strictest, pass with at most *most* bad rows before the first failure."""
    failed = np.flatnonzero(counts > most)
    return int(failed[0]) if len(failed) else len(counts)


def _most(rows: int, size: int, guarantee: Guarantee) -> int:
    """Return how many of *size* sampled rows may be bad while proving the guarantee. -1 if even none proves it."""
    hypergeom = scikit_learn("scipy.stats", "guarantee").hypergeom
    too_many = guarantee.allowed(rows) + 1
    if too_many > rows:
        return size
    chance = hypergeom(rows, too_many, size)
    # One less than the smallest count whose cumulative probability reaches the bound, which is `ppf`.
    most = int(chance.ppf(guarantee.error_per_look(rows)))
    return most if chance.cdf(most) <= guarantee.error_per_look(rows) else most - 1


def _fewest(rows: int, guarantee: Guarantee) -> int:
    """Return the smallest sample that proves anything if no row is bad. More than *rows* if none does."""
    low, high = 1, rows + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _most(rows, middle, guarantee) >= 0 else (middle + 1, high)
    return low
