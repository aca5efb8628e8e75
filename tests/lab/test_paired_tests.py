"""The figures of a comparison against scipy, and against simulations: false alarms, power, and what copies do."""

from __future__ import annotations

import numpy as np
import pytest
import scipy  # type: ignore[import-untyped]

from pllm_notebook.lab.paired_tests import (
    binomial_tail,
    detectable_difference,
    difference_interval,
    effective_count,
    holm,
    marginal_p,
    share_interval,
    sign_flip_p,
    sums_by_group,
)

SIMULATIONS = 1_000


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (3, 9), (10, 30), (200, 150), (1, 0)])
def test_without_copies_the_test_is_mcnemars(better: int, worse: int) -> None:
    expected = scipy.stats.binomtest(better, better + worse).pvalue if better + worse else 1.0

    assert sign_flip_p(np.array([1] * better + [-1] * worse)) == pytest.approx(expected, abs=1e-12)


def test_with_copies_the_test_is_the_whole_permutation_test() -> None:
    sums = np.array([3.0, -1, 2, 2, -5, 1, 1, 0, 4])
    whole = scipy.stats.permutation_test(
        (sums[sums != 0],), lambda x, axis: x.sum(axis), permutation_type="samples", vectorized=True, n_resamples=10**6
    )

    assert sign_flip_p(sums) == pytest.approx(whole.pvalue)


def test_very_many_questions_are_tested_by_the_normal_distribution() -> None:
    rng = np.random.default_rng(0)
    sums = rng.integers(-3, 4, 100_000)

    assert sign_flip_p(sums) == pytest.approx(
        2 * scipy.stats.norm.sf(abs(sums.sum()) / np.sqrt(np.sum(sums.astype(float) ** 2))), abs=0.01
    )


def test_intervals_and_tails_are_scipys() -> None:
    expected = scipy.stats.binomtest(7, 40).proportion_ci(method="wilson")

    assert share_interval(7, 40) == pytest.approx((expected.low, expected.high))
    assert binomial_tail(7, 10, 1 / 3) == pytest.approx(scipy.stats.binom.sf(6, 10, 1 / 3))
    assert (binomial_tail(0, 10, 0.3), binomial_tail(11, 10, 0.3)) == (1.0, 0.0)
    assert holm([0.01, 0.04, float("nan"), 0.03])[:2] == pytest.approx([0.03, 0.06])


def test_the_difference_that_could_have_been_seen_is_the_published_one() -> None:
    """Points, by labels and discordance, from exact power calculations; the formula is within 0.3 of them."""
    table = {200: (4.5, 6.4, 9.1, 11.1), 500: (2.9, 4.1, 5.8, 7.1), 1_000: (2.0, 2.9, 4.1, 4.9)}

    for labels, points in table.items():
        found = [100 * detectable_difference(labels, share) for share in (0.05, 0.1, 0.2, 0.3)]
        assert found == pytest.approx(points, abs=0.35)


def copies(rng: np.random.Generator, rows: int, distinct: int) -> np.ndarray:
    """Draw which question each row is: all once, the rest by Zipf's law."""
    if distinct == rows:
        return np.arange(rows)
    weights = 1 / np.arange(1, distinct + 1)
    return np.concatenate([np.arange(distinct), rng.choice(distinct, rows - distinct, p=weights / weights.sum())])


@pytest.mark.parametrize("distinct", [500, 300, 100])
def test_false_alarms_are_at_most_five_in_a_hundred_with_copies_too(distinct: int) -> None:
    rng = np.random.default_rng(distinct)
    alarms = naive = covered = 0
    for _ in range(SIMULATIONS):
        question = copies(rng, 500, distinct)
        change = rng.choice([-1, 0, 1], distinct, p=[0.05, 0.9, 0.05])[question]
        alarms += sign_flip_p(sums_by_group(change, question)) < 0.05
        naive += sign_flip_p(change) < 0.05
        _, low, high = difference_interval(change, question)
        covered += low <= 0 <= high

    assert alarms / SIMULATIONS <= 0.05
    assert distinct == 500 or naive / SIMULATIONS > 0.15  # rows taken for observations: what must not be
    assert 0.92 <= covered / SIMULATIONS <= 0.995


@pytest.mark.parametrize(("discordance", "power"), [(0.05, 0.83), (0.08, 0.61), (0.10, 0.52), (0.20, 0.29)])
def test_three_points_on_five_hundred_labels_are_found_as_often_as_they_can_be(
    discordance: float, power: float
) -> None:
    rng = np.random.default_rng(0)
    chances = [discordance / 2 + 0.015, 1 - discordance, discordance / 2 - 0.015]
    worse, _, better = rng.multinomial(500, chances, SIMULATIONS).T

    found = [sign_flip_p(np.array([-1] * w + [1] * b)) < 0.05 for w, b in zip(worse, better, strict=True)]

    assert np.mean(found) == pytest.approx(power, abs=0.05)


def test_copies_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(1)
    change = rng.choice([-1, 0, 1], 100, p=[0.1, 0.8, 0.1])
    question = np.arange(100)
    once, often = (difference_interval(np.tile(change, n), np.tile(question, n)) for n in (1, 5))

    assert often[2] - often[1] == pytest.approx(once[2] - once[1], rel=1e-6)
    assert effective_count(np.tile(question, 5)) == pytest.approx(100)


def test_a_distribution_that_has_not_moved_is_seldom_said_to_have() -> None:
    rng = np.random.default_rng(2)
    still = moved = 0
    for _ in range(400):
        old = rng.choice(3, 200, p=[0.5, 0.3, 0.2])
        redrawn = rng.random(200) < 0.1
        new = np.where(redrawn, rng.choice(3, 200, p=[0.5, 0.3, 0.2]), old)
        still += marginal_p(old, new, np.arange(200), 3) < 0.05
        shifted = np.where(rng.random(200) < 0.15, 0, old)
        moved += marginal_p(old, shifted, np.arange(200), 3) < 0.05

    assert still / 400 <= 0.08
    assert moved / 400 >= 0.8
    assert marginal_p([0, 1, 1], [0, 1, 1], np.arange(3), 2) == 1.0


@pytest.mark.parametrize(
    ("moved", "questions", "p"), [(50, 50, 1.5e-12), (49, 50, 2.6e-12), (3, 3, 0.083), (1, 1, 0.317)]
)
def test_the_more_rows_move_the_same_way_the_smaller_is_the_p_of_the_shift(
    moved: int, questions: int, p: float
) -> None:
    new = (np.arange(questions) < moved).astype(int)

    assert marginal_p(np.zeros(questions, int), new, np.arange(questions), 2) == pytest.approx(p, rel=0.05)


@pytest.mark.parametrize("rows", [20, 30, 60])
def test_moves_in_both_directions_seldom_count_as_a_shift(rows: int) -> None:
    """Simulated: all rows move, each to the one or to the other value with the same chance."""
    rng = np.random.default_rng(rows)
    old = rng.integers(0, 2, (1_000, rows))

    found = [marginal_p(one, 1 - one, np.arange(rows), 2) < 0.05 for one in old]

    assert np.mean(found) <= 0.08
