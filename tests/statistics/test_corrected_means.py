"""Intervals of corrected means hold the truth as often as they say, and there is none where labels are no sample."""

from __future__ import annotations

import numpy as np
import pytest
import scipy  # type: ignore[import-untyped]

from benchmarks import coverage as simulated
from pllm_notebook.exceptions import UsageError
from pllm_notebook.statistics import chances_fit, corrected_mean
from pllm_notebook.statistics.corrected_means import _quantile


def covered(draw: simulated.Draw, labels: int, times: int = 1_000) -> float:
    return simulated.coverage(draw, labels, times, rows=2_000)[0]


@pytest.mark.parametrize("draw", [simulated.uniform, simulated.doubtful_and_uniform, simulated.unequal])
def test_intervals_hold_the_truth_where_the_draw_is_known(draw: simulated.Draw) -> None:
    assert 0.925 <= covered(draw, 200) <= 0.975


@pytest.mark.parametrize("draw", [simulated.naive, simulated.doubtful_as_uniform])
def test_intervals_that_ignore_errors_or_the_draw_fail(draw: simulated.Draw) -> None:
    """The simulation tells a valid interval from another."""
    assert covered(draw, 200, 200) < 0.6


@pytest.mark.parametrize("labels", [10, 20])
def test_a_small_groups_interval_is_wide_enough(labels: int) -> None:
    assert 0.97 <= covered(simulated.of_group, labels, 500) <= 1


def test_copies_of_a_question_are_one_observation() -> None:
    assert 0.92 <= simulated.copied_coverage(200, 250, clustered=True) <= 0.98
    assert simulated.copied_coverage(200, 100, clustered=False) < 0.7


@pytest.mark.parametrize("labels", [30, 60])
def test_an_interval_covers_the_populations_mean_if_the_rows_labelled_for_certain_differ_most(labels: int) -> None:
    """The extreme case: all of them are yes, and all others no, so that only their share varies between tables."""
    rng = np.random.default_rng(labels)
    held = []
    for _ in range(400):
        y = rng.random(1_000) < 0.5
        rest = simulated.drawn(rng, ~y, labels)
        found = corrected_mean(y, np.zeros(1_000), y | rest, np.where(y, 1.0, labels / (~y).sum()))
        held.append(found.low <= 0.5 <= found.high)

    assert 0.92 <= np.mean(held) <= 1


def test_a_uniform_draw_is_corrected_as_published() -> None:
    rng = np.random.default_rng(5)
    one = simulated.world(rng)
    chosen = simulated.drawn(rng, np.ones(5_000, bool), 300)
    y, g, other = one.y[chosen], one.guess[chosen], one.guess[~chosen]
    lam = np.cov(y, g)[0, 1] / ((1 + 300 / 4_700) * one.guess.var(ddof=1))
    half = scipy.stats.norm.ppf(0.975) * np.sqrt(lam**2 * other.var(ddof=1) / 4_700 + (y - lam * g).var(ddof=1) / 300)

    found = corrected_mean(one.y, one.guess, chosen)

    assert found.method == "ppi"
    assert found.estimate == pytest.approx(lam * other.mean() + (y - lam * g).mean())
    assert (found.low, found.high) == pytest.approx((found.estimate - half, found.estimate + half))


def test_other_known_chances_are_corrected_as_published() -> None:
    rng = np.random.default_rng(6)
    one = simulated.world(rng)
    pi = rng.uniform(0.02, 0.2, 5_000)
    chosen = rng.random(5_000) < pi
    corrected = one.guess + np.where(chosen, (one.y - one.guess) / pi, 0)

    found = corrected_mean(one.y, one.guess, chosen, pi)

    assert found.method == "design"
    assert found.estimate == pytest.approx(corrected.mean())
    assert found.high - found.low == pytest.approx(2 * scipy.stats.norm.ppf(0.975) * corrected.std(ddof=1) / 5_000**0.5)


@pytest.mark.parametrize("degrees", [9, 13, 30, 48])
def test_the_quantile_is_students(degrees: int) -> None:
    assert _quantile(degrees) == pytest.approx(scipy.stats.t.ppf(0.975, degrees), rel=2e-4)


@pytest.mark.parametrize(
    ("labels", "method", "why"),
    [(0, "none", "no label has"), (9, "none", "9 labels have"), (10, "ppi-small", ""), (49, "ppi-small", ""),
     (50, "ppi", "")],
)  # fmt: skip
def test_the_form_follows_from_the_number_of_labels(labels: int, method: str, why: str) -> None:
    chosen = np.arange(400) < labels
    y = np.arange(400) % 2

    found = corrected_mean(y, y, chosen)

    assert (found.method, found.labels, found.rows) == (method, labels, 400)
    assert why in found.reason
    assert (found.estimate != found.estimate) == (method == "none")
    assert found.uncorrected == 0.5


def test_a_table_that_is_labelled_throughout_needs_no_answers() -> None:
    y = np.arange(100) % 4 == 0

    found = corrected_mean(y, ~y, np.ones(100, bool), np.ones(100))

    assert (found.method, found.estimate, found.uncorrected) == ("labels", 0.25, 0.75)


def test_rows_that_had_no_chance_leave_no_interval() -> None:
    chosen = np.arange(300) < 100

    found = corrected_mean(np.zeros(300), np.zeros(300), chosen, np.ones(300))

    assert (found.method, found.reason[:24]) == ("none", "every label has the chan")
    few = corrected_mean(np.zeros(300), np.zeros(300), np.arange(300) < 40, np.linspace(0.1, 0.2, 300))
    assert "40 labels were drawn with different chances, and 50 are needed" in few.reason
    with pytest.raises(UsageError, match="over 0 and at most 1"):
        corrected_mean(np.zeros(3), np.zeros(3), np.ones(3, bool), np.array([0.5, 0.0, 1.0]))


def test_equal_labels_do_not_make_a_share_of_a_small_group_certain() -> None:
    found = corrected_mean(np.ones(200), np.ones(200), np.arange(200) < 12)

    assert found.high - found.low > 0.2
    assert 0 <= found.low < found.estimate <= found.high <= 1


def test_chances_that_do_not_fit_the_number_of_rows_are_noticed() -> None:
    assert chances_fit([0.1] * 100, 1_000)
    assert chances_fit([1.0] * 50 + [0.1] * 95, 1_000)
    assert not chances_fit([0.1] * 40, 1_000)  # rows were skipped
    assert not chances_fit([1.0] * 3, 1_000)
