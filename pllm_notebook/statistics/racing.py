"""Find which of several arms is right most often, without asking every arm about every row.

Sequential halving ("Almost optimal exploration in multi-armed bandits", Karnin, Koren and Somekh, 2013) chooses: each
round asks twice as many questions of half as many arms. The certainty of the choice comes from paired lower bounds,
which hold for all rounds together (Bonferroni). Only pairs with the truly best arm can go wrong, so the correction is
for K - 1 comparisons, not K (K - 1).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

__all__ = ["RaceRule", "RaceStanding", "race_looks"]

Array = np.ndarray[Any, np.dtype[Any]]

RaceRule = Literal["halving", "proof"]

_PROOF_LOOKS = 4
# With fewer questions, a round is decided by chance.
_LEAST_QUESTIONS = 20


def race_looks(arms: int, questions: int, rule: RaceRule) -> list[int]:
    """Return the numbers of questions after which the arms are compared, ascending, the last with all questions.

    Args:
        arms: Number of arms, at least 2.
        questions: Number of distinct labelled rows.
        rule: "halving": enough rounds to halve *arms* to one, each with twice the questions of the one before.
            "proof": four rounds, with the same doubling.
    """
    rounds = _PROOF_LOOKS if rule == "proof" else max(1, (arms - 1).bit_length())
    sizes = [-(-questions // 2**back) for back in reversed(range(rounds))]
    return sorted({size for size in sizes if size >= _LEAST_QUESTIONS} | {questions})


def bound_z(arms: int, looks: int, alpha: float = 0.05) -> float:
    """Return the number of standard errors for bounds that all hold together with probability 1 - *alpha*."""
    return NormalDist().inv_cdf(1 - alpha / (looks * max(arms - 1, 1)))


def lower_bounds(correct: Array, sizes: Array, z: float) -> Array:
    """Return lower bounds of the difference in accuracy for each pair of arms.

    The differences are paired, the variance is that between questions, and half a question is added in both directions
    so that a bound does not vanish if hardly any row differs.

    Args:
        correct: Number of rows of each question that an arm got right, shape (…, arms, questions).
        sizes: Rows of each question, shape (questions,).
        z: See `bound_z`.

    Returns:
        Shape (…, arms, arms): the bound of the first arm's accuracy minus the second's, as a share.
    """
    weights = np.asarray(sizes, dtype=np.float64)
    total, questions = float(weights.sum()), len(weights)
    right = np.asarray(correct, dtype=np.float64)
    accuracy = right.sum(axis=-1) / total
    rest = right - accuracy[..., None] * weights
    # The squared difference of each pair of arms, from the products of all arms.
    products = rest @ np.swapaxes(rest, -1, -2)
    own = np.einsum("...ii->...i", products)
    squares = np.maximum(own[..., :, None] + own[..., None, :] - 2 * products, 0.0) + float(np.mean(weights**2))
    error = np.sqrt(squares * questions / max(questions - 1, 1)) / total
    return np.asarray(accuracy[..., :, None] - accuracy[..., None, :] - z * error)


class RaceStanding:
    """The results of a race's comparisons so far.

    Args:
        arms: Number of arms, at least 2.
        looks: Maximum number of comparisons.
        rule: As for `race_looks`.

    Attributes:
        active: The arms still in the race.
        bounds: Lower bounds (95 % for all pairs and comparisons together) of how much more accurate the first arm (row)
            is than the second (column), as a share; shape (arms, arms), -inf for a pair that was not compared.
    """

    def __init__(self, arms: int, looks: int, rule: RaceRule) -> None:
        self.active = list(range(arms))
        self.bounds: Array = np.full((arms, arms), -np.inf)
        self._z = bound_z(arms, looks)
        self._rule = rule

    def compare(self, correct: Array, sizes: Array) -> None:
        """Compare the active arms.

        Args:
            correct: Number of rows of each question that each active arm got right, shape (active arms, questions).
            sizes: Rows of each question, shape (questions,).
        """
        pairs = np.ix_(self.active, self.active)
        self.bounds[pairs] = np.maximum(self.bounds[pairs], lower_bounds(correct, sizes, self._z))

    def drop(self, accuracy: Sequence[float], prices: Sequence[float]) -> list[int]:
        """Drop the arms that are proven worse and, with halving, the less accurate half except two. Return them.

        Args:
            accuracy: Accuracy of each active arm, on the same questions.
            prices: Price of a question for each arm. Of two equally accurate arms, the cheaper one stays.
        """
        going = [arm for arm in self.active if not self.is_worse(arm, self.active)]
        if self._rule == "halving":
            rank = {arm: (-accuracy[at], prices[at], arm) for at, arm in enumerate(self.active)}
            going = sorted(sorted(going, key=rank.__getitem__)[: max(2, -(-len(self.active) // 2))])
        dropped = [arm for arm in self.active if arm not in going]
        self.active = going
        return dropped

    def is_worse(self, arm: int, others: Collection[int]) -> bool:
        """Return whether an arm is proven worse than another one."""
        return any(self.bounds[other, arm] > 0 for other in others if other != arm)

    def gap(self, leader: int, arms: Collection[int]) -> float:
        """Return the most by which another arm may be more accurate than the leader (95 %), as a share."""
        most = max((-self.bounds[leader, arm] for arm in arms if arm != leader), default=0.0)
        return float(np.clip(most, 0.0, 1.0))

    def proven_within(self, share: float, arms: Collection[int]) -> list[int]:
        """Return the arms that are at most *share* less accurate (95 %) than every arm that is not proven worse."""
        rivals = [arm for arm in arms if not self.is_worse(arm, arms)]
        return [arm for arm in arms if all(self.bounds[arm, rival] >= -share for rival in rivals if rival != arm)]
