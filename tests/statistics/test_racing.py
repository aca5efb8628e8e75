"""The racing rule: what it promises holds in simulated races, and it saves what it is meant to save."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import scipy  # type: ignore[import-untyped]

from pllm_notebook.lab.paired_tests import difference_interval
from pllm_notebook.statistics import RaceRule, RaceStanding, race_looks
from pllm_notebook.statistics.racing import bound_z, lower_bounds

RACES = 1_000


class Raced(NamedTuple):
    """What became of one simulated race."""

    lost: float
    gap: float
    calls: float
    within: bool | None


def raced(rng: np.random.Generator, arms: int, questions: int, rule: RaceRule, copies: int = 1) -> Raced:
    """Race arms of accuracies 0.70 to 0.92 whose rows are alike hard for all, and whose prices are 100 times apart."""
    truth = rng.uniform(0.70, 0.92, arms)
    hard = np.sqrt(0.5) * rng.standard_normal((1, questions)) + np.sqrt(0.5) * rng.standard_normal((arms, questions))
    sizes = rng.integers(1, copies + 1, questions).astype(float)
    right = (hard < scipy.stats.norm.ppf(truth)[:, None]) * sizes
    price = 10.0 ** rng.uniform(-1, 1, arms)
    looks = race_looks(arms, questions, rule)
    standing, asked, calls = RaceStanding(arms, len(looks), rule), 0, 0
    for look in looks:
        calls += len(standing.active) * (look - asked)
        asked = look
        standing.compare(right[standing.active][:, :asked], sizes[:asked])
        accuracy = right[:, :asked].sum(axis=1) / sizes[:asked].sum()
        if look < questions:
            standing.drop(accuracy[standing.active].tolist(), price[standing.active].tolist())
        if len(standing.active) < 2:
            break
    leader = min(standing.active, key=lambda arm: (-accuracy[arm], price[arm]))
    proven = standing.proven_within(0.05, range(arms))
    cheapest = min(proven, key=lambda arm: price[arm], default=None)
    return Raced(
        lost=float(truth.max() - truth[leader]),
        gap=standing.gap(leader, range(arms)),
        calls=calls / (arms * questions),
        within=None if cheapest is None else bool(truth.max() - truth[cheapest] <= 0.05),
    )


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("arms", "questions", "rule", "calls"),
    [(12, 300, "halving", 0.34), (6, 300, "proof", 0.75), (12, 300, "proof", 0.75), (12, 1_000, "halving", 0.34)],
)
def test_no_arm_is_better_than_the_leader_by_more_than_is_said(
    arms: int, questions: int, rule: RaceRule, calls: float
) -> None:
    rng = np.random.default_rng(1)

    races = [raced(rng, arms, questions, rule) for _ in range(RACES)]

    assert np.mean([one.lost <= one.gap for one in races]) >= 0.95
    proven = [one.within for one in races if one.within is not None]
    assert sum(proven) >= 0.95 * len(proven)
    assert np.mean([one.calls for one in races]) <= calls
    # The labels limit the choice: the full grid finds an arm within two points in 93 of 100 such races.
    assert np.mean([one.lost <= 0.02 for one in races]) >= 0.85


def test_the_promise_holds_where_rows_are_copies() -> None:
    rng = np.random.default_rng(2)

    races = [raced(rng, 6, 200, "proof", copies=8) for _ in range(300)]

    assert np.mean([one.lost <= one.gap for one in races]) >= 0.95


def test_copies_do_not_narrow_a_bound() -> None:
    rng = np.random.default_rng(3)
    right = (rng.random((2, 100)) < [[0.9], [0.8]]).astype(float)

    alone = lower_bounds(right, np.ones(100), 2.0)
    copied = lower_bounds(right * 5, np.full(100, 5.0), 2.0)

    assert copied == pytest.approx(alone)


def test_a_bound_is_that_of_the_paired_interval() -> None:
    rng = np.random.default_rng(4)
    group = rng.integers(0, 60, 150)
    right = rng.random((2, 150)) < 0.8
    of_question = np.array([np.bincount(group, weights=one, minlength=60) for one in right])
    sizes = np.bincount(group, minlength=60)

    bounds = lower_bounds(of_question[:, sizes > 0], sizes[sizes > 0], scipy.stats.norm.ppf(0.975))

    _, low, high = difference_interval(right[0].astype(int) - right[1], group)
    assert (bounds[0, 1], -bounds[1, 0]) == pytest.approx((low, high))


def test_rounds_double_and_end_with_all_rows() -> None:
    assert race_looks(12, 300, "halving") == [38, 75, 150, 300]
    assert race_looks(24, 500, "halving") == [32, 63, 125, 250, 500]
    assert race_looks(2, 300, "halving") == [300]
    assert race_looks(12, 30, "halving") == [30]  # a round of four rows would decide by luck
    assert race_looks(3, 1_000, "proof") == [125, 250, 500, 1_000]
    assert bound_z(12, 4) == pytest.approx(scipy.stats.norm.ppf(1 - 0.05 / 44))


def test_of_equal_arms_the_cheaper_stays() -> None:
    standing = RaceStanding(4, 2, "halving")
    standing.compare(np.ones((4, 40)), np.ones(40))

    dropped = standing.drop([1.0] * 4, [3.0, 1.0, 2.0, 4.0])

    assert (dropped, standing.active) == ([0, 3], [1, 2])


def test_an_arm_that_is_proven_worse_leaves() -> None:
    standing = RaceStanding(2, 4, "proof")
    right = np.ones((2, 100))
    right[1, :40] = 0
    standing.compare(right, np.ones(100))

    assert standing.drop([1.0, 0.6], [1.0, 1.0]) == [1]
    assert standing.gap(0, range(2)) == 0.0
    assert standing.proven_within(0.01, range(2)) == [0]
