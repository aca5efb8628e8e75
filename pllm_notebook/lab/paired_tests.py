"""Tests and intervals for two answers to the same rows. Equal rows share one call, so a question is one observation.

Plain arrays in, numbers out. It uses only numpy and no random numbers, so the same data give the same figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

__all__ = [
    "binomial_tail",
    "detectable_difference",
    "difference_interval",
    "effective_count",
    "holm",
    "marginal_p",
    "share_interval",
    "sign_flip_p",
    "sums_by_group",
]

Array = np.ndarray[Any, np.dtype[Any]]

_Z95 = NormalDist().inv_cdf(0.975)
_Z80 = NormalDist().inv_cdf(0.80)
_EXACT_UP_TO = 100_000
"""Sum of absolute differences up to which the exact distribution is computed. Beyond it, the normal one is used."""


def sums_by_group(values: Array, group: Array) -> Array:
    """Return the sum of *values* in each group, shape (n_groups,), in the order of the sorted groups."""
    _, at = np.unique(group, return_inverse=True)
    return np.bincount(at.reshape(-1), weights=values)


def sign_flip_p(sums: Array) -> float:
    """Return the two-sided p of the hypothesis that neither direction of change is favoured.

    If two runs are equally good, each question's sum is as likely to have the other sign. If every question is one
    row, this is McNemar's exact test ("Note on the sampling error of the difference between correlated proportions",
    1947). The only assumption is that questions are independent.

    Args:
        sums: For each question, rows that became right minus rows that became wrong. Integers.
    """
    sizes = np.abs(np.asarray(sums, dtype=np.float64)).round().astype(np.int64)
    sizes = sizes[sizes > 0]
    if not len(sizes):
        return 1.0
    seen, total = abs(int(np.sum(np.round(sums)))), int(sizes.sum())
    if total > _EXACT_UP_TO:
        spread = float(np.sqrt(np.sum(sizes.astype(np.float64) ** 2)))
        return min(1.0, 2 * NormalDist().cdf(-max(seen - float(sizes.min()), 0.0) / spread))
    # The distribution of a sum of signs is the inverse transform of a product of cosines.
    length = 2 * total + 1
    angles = 2 * np.pi * np.arange(length) / length
    wave = np.ones(length)
    for size, times in zip(*np.unique(sizes, return_counts=True), strict=True):
        wave *= np.cos(angles * float(size)) ** int(times)
    chances = np.fft.ifft(wave).real  # of the sums 0, 1, … total, -total, … -1
    reached = np.minimum(np.arange(length), length - np.arange(length)) >= seen
    return float(np.clip(chances[reached].sum(), 0.0, 1.0))


def binomial_tail(count: int, trials: int, chance: float) -> float:
    """Return the probability of at least *count* successes in *trials*, each with probability *chance*."""
    if count <= 0:
        return 1.0
    if count > trials:
        return 0.0
    steps = np.log(np.arange(trials, 0, -1)) - np.log(np.arange(1, trials + 1))
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    heads = np.arange(trials + 1)
    logs = logs + heads * np.log(chance) + (trials - heads) * np.log1p(-chance)
    return min(1.0, float(np.exp(logs[count:]).sum()))


def share_interval(count: float, total: float) -> tuple[float, float]:
    """Return a share's 95 % interval (Wilson, "Probable inference, the law of succession", 1927); NaN without rows."""
    if total <= 0:
        return float("nan"), float("nan")
    share, z2 = count / total, _Z95**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z95 / (1 + z2 / total) * float(np.sqrt(share * (1 - share) / total + z2 / (4 * total**2)))
    return max(0.0, middle - half), min(1.0, middle + half)


def difference_interval(differences: Array, question: Array) -> tuple[float, float, float]:
    """Return the mean difference over rows and its 95 % interval, with rows of one question moving together.

    The variance is that between questions (a ratio estimate), with half a question added in both directions so that
    the interval does not vanish if few rows differ.

    Args:
        differences: For each row: 1 became right, -1 became wrong, 0 neither.
        question: A number for each row, equal for equal rows.
    """
    differences = np.asarray(differences, dtype=np.float64)
    total = len(differences)
    sums, sizes = sums_by_group(differences, question), sums_by_group(np.ones(total), question)
    mean = float(differences.mean())
    rest = sums - mean * sizes
    questions = len(sums)
    variance = (float(np.sum(rest**2)) + float(np.mean(sizes**2))) / total**2
    half = _Z95 * float(np.sqrt(variance * questions / max(questions - 1, 1)))
    return mean, max(-1.0, mean - half), min(1.0, mean + half)


def effective_count(question: Array) -> float:
    """Return the effective number of independent rows if rows of one question move together (Kish, 1965)."""
    sizes = sums_by_group(np.ones(len(question)), question)
    return float(sizes.sum() ** 2 / np.sum(sizes**2))


def detectable_difference(labels: float, discordant: float, alpha: float = 0.05) -> float:
    """Return the smallest true difference of two accuracies that four of five such comparisons detect.

    Args:
        labels: Number of labelled questions.
        discordant: Share of them in which exactly one side is right.
        alpha: The two-sided p below which a difference counts as detected.
    """
    z = NormalDist().inv_cdf(1 - alpha / 2)
    if labels <= 0:
        return float("nan")
    share = max(discordant, 1.0 / labels)
    found = share
    for _ in range(50):
        rest = max(share - found**2, 0.0)
        found = (z * share**0.5 + _Z80 * rest**0.5) / labels**0.5
    return float(min(found, 1.0))


def marginal_p(old: Any, new: Any, question: Array, classes: int) -> float:
    """Return the p of the hypothesis that a field's distribution has not shifted: a score test on all shares.

    Stuart's test ("A test for homogeneity of the marginal distributions in a two-way classification", 1955), with the
    variance between questions.

    Args:
        old: Class of each row on the old side, integers from 0 to classes - 1, shape (n,).
        new: Class of the same rows on the new side.
        question: A number for each row, equal for equal rows.
        classes: Number of classes, at least 2.
    """
    was, becomes = np.asarray(old), np.asarray(new)
    used = [code for code in range(classes) if (was == code).any() or (becomes == code).any()]
    moved = [
        sums_by_group((becomes == code).astype(np.float64) - (was == code), question) for code in used[:-1]
    ]  # fmt: skip
    if not moved:
        return 1.0
    sums = np.array(moved)  # shape (classes - 1, questions)
    total = sums.sum(axis=1)
    # The variance if nothing has shifted, not that around the mean shift (Bhapkar, 1966): around its mean, a shift that
    # all questions share has the variance 0, and three equal moves would be certain.
    spread = sums @ sums.T
    rank = int(np.linalg.matrix_rank(spread))
    if not rank:
        return 1.0
    return _chi_square_tail(float(total @ np.linalg.pinv(spread) @ total), rank)


def _chi_square_tail(value: float, degrees: int) -> float:
    """Return the upper tail of a chi-square distribution (the finite sums for even and odd degrees)."""
    if value <= 0:
        return 1.0
    half = value / 2
    if degrees % 2 == 0:
        term, total = 1.0, 1.0
        for k in range(1, degrees // 2):
            term *= half / k
            total += term
        return min(1.0, float(np.exp(-half)) * total)
    tail = 2 * NormalDist().cdf(-(value**0.5))
    term = float(np.exp(-half)) * (2 * value / np.pi) ** 0.5
    for k in range(1, (degrees - 1) // 2 + 1):
        tail += term
        term *= value / (2 * k + 1)
    return min(1.0, tail)


def holm(values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number (Holm, 1979). NaN stays NaN."""
    known = sorted((p, at) for at, p in enumerate(values) if p == p)
    made = [float("nan")] * len(values)
    largest = 0.0
    for rank, (p, at) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        made[at] = largest
    return made
