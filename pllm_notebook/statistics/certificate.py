"""How low a confidence may be for a cheap answer to be kept, with a promise for the whole table.

The table is finite, and the rows whose strong answer is looked at are a uniform draw from it without replacement. So
the number of bad ones among them is hypergeometric, and the promise needs no assumption about the models, about
calibration, about independence of rows, or about copies: only that the draw does not depend on what the rows hold.

A lower threshold only ever adds bad rows. Thresholds are therefore tested from strict to lax, each at the full error
probability, until the first fails: the first one that breaks the promise passes with that probability at most, whatever
comes after it. Several looks at a growing sample share the error probability between them (Bonferroni), so that when
to stop may depend on anything.
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
_MARGIN = 1.2  # of the first look above the fewest rows that can prove anything: room for an error or two
_STEPS = 50


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What is promised: with probability `confidence_level`, at most 1 - `share` of the rows are bad.

    Bad is a row that keeps a cheap answer that differs from the strong model's; or, measured against labels, one that
    keeps a wrong answer where the strong model's is right.

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
        """Return how many bad rows a table of so many may have."""
        return int(np.floor((1 - self.share) * rows + 1e-9))

    def error_per_look(self, rows: int) -> float:
        """Return the probability with which one look at a table of so many rows may be wrong."""
        return (1 - self.confidence_level) / _looks(rows)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a sample proves.

    Attributes:
        threshold: The lowest confidence with which a cheap answer is kept; infinite where nothing is proved.
        kept: Number of rows outside the sample that keep their cheap answer.
        sampled: Number of rows in the sample.
        bad: Of these, how many would be bad at this threshold.
    """

    threshold: float
    kept: int
    sampled: int
    bad: int

    @property
    def proved(self) -> bool:
        """Whether any cheap answer may be kept."""
        return self.threshold < np.inf


def draw_order(rows: int, seed: int) -> NDArray[np.intp]:
    """Return the positions of a table's rows in the order in which they are sampled: each look is a start of it.

    It depends on the number of rows and the seed alone, never on what the rows hold or what was answered.
    """
    return np.random.default_rng([seed, rows]).permutation(rows)


def planned_looks(rows: int, guarantee: Guarantee) -> tuple[int, ...]:
    """Return the sizes of the growing sample after which a threshold is looked for; () where none can prove anything.

    At first 100 rows, or what is needed to prove anything at all, and twice that for each further look: three looks,
    and up to six for a table of 20,000 rows and more, where a larger sample costs less than it saves.
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

    Assumes that *sampled* is a start of `draw_order`, or another uniform draw without replacement that does not depend
    on what the rows hold. Rows whose strong answer is known for another reason may use it; they may not be counted.

    Args:
        confidence: Shape (n,), of each row's cheap answer; of several fields, the least. -inf for a row that has none.
        sampled: Shape (n,), whether the row is in the sample.
        bad: Shape (n,), whether keeping the row's cheap answer would be bad; of several fields, in any. Read where
            *sampled* only.
        guarantee: What is to be proved.

    Raises:
        MissingPackageError: Without scipy.
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
    """Return how many cheap answers a larger sample would probably keep outside itself: a guess, not a promise.

    Assumes that the bad rows to come are as frequent at each confidence as in the sample so far.

    Args:
        confidence: As `certify` takes it.
        sampled: The sample so far.
        bad: As `certify` takes it.
        guarantee: What is to be proved.
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
    """Return the lowest threshold that keeps the promise for a table whose every strong answer is known: an oracle's.

    Args:
        confidence: As `certify` takes it.
        bad: Shape (n,), whether keeping the row's cheap answer would be bad.
        guarantee: What is promised.

    Returns:
        Infinite where no threshold keeps it.
    """
    steps = np.unique(confidence[confidence > -np.inf])[::-1]
    passed = _passed(_kept_of(confidence[bad], steps), guarantee.allowed(len(confidence)))
    return float(steps[passed - 1]) if passed else float("inf")


def _looks(rows: int) -> int:
    """Return at how many sizes of the sample a threshold is looked for at most. It depends on the rows alone."""
    looks, more_from = _LOOKS, _MORE_FROM
    while rows >= more_from and looks < _MOST_LOOKS:
        looks, more_from = looks + 1, 4 * more_from
    return looks


def _thresholds(confidence: Floats) -> Floats:
    """Return thresholds from strict to lax. They depend on the confidences alone, not on the sample."""
    given = confidence[confidence > -np.inf]
    steps = np.unique(given)[::-1]
    if len(steps) <= _STEPS:
        return steps
    # Each is a confidence that occurs: a threshold between two would read differently and keep the same rows.
    return np.unique(np.quantile(given, np.linspace(0, 1, _STEPS + 1)[:-1], method="lower"))[::-1]


def _kept_of(confidence: Floats, steps: Floats) -> NDArray[np.intp]:
    """Return for each threshold how many of these rows would keep their cheap answer."""
    return len(confidence) - np.searchsorted(np.sort(confidence), steps, side="left")


def _passed(counts: NDArray[Any], most: int) -> int:
    """Return how many thresholds, from the strictest, have no more than *most* bad rows before the first that has."""
    failed = np.flatnonzero(counts > most)
    return int(failed[0]) if len(failed) else len(counts)


def _most(rows: int, size: int, guarantee: Guarantee) -> int:
    """Return how many of *size* sampled rows may be bad and still prove the promise: -1 where not even none does."""
    hypergeom = scikit_learn("scipy.stats", "guarantee").hypergeom
    too_many = guarantee.allowed(rows) + 1
    if too_many > rows:
        return size
    chance = hypergeom(rows, too_many, size)
    # The first count that is not improbable, less one: `ppf` has the least whose probability reaches the bound.
    most = int(chance.ppf(guarantee.error_per_look(rows)))
    return most if chance.cdf(most) <= guarantee.error_per_look(rows) else most - 1


def _fewest(rows: int, guarantee: Guarantee) -> int:
    """Return the fewest sampled rows that prove anything, were none of them bad: above *rows* where none do."""
    low, high = 1, rows + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _most(rows, middle, guarantee) >= 0 else (middle + 1, high)
    return low
