"""The promise about a whole table holds as often as it says; where nothing can be promised, nothing is."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from benchmarks.guarantees import table
from pllm_notebook.exceptions import UsageError
from pllm_notebook.statistics import (
    Certificate,
    Guarantee,
    certify,
    draw_order,
    planned_looks,
)

USUAL = Guarantee(0.95, 0.95)


def test_the_share_of_the_sample_that_is_bad_is_no_promise() -> None:
    """The rule that suggests itself, broken far more often by the same tables: what the promise is worth."""
    rng, broken = np.random.default_rng(0), 0
    for seed in range(60):
        _, confidence, bad, *_ = table(rng, 2_000, 3, 1, "medium")
        sampled = np.zeros(2_000, dtype=bool)
        sampled[draw_order(2_000, seed)[:200]] = True
        steps = np.unique(np.round(confidence, 2))
        fine = [t for t in steps if (bad & sampled & (confidence >= t)).sum() <= 0.05 * 200]
        broken += (bad & (confidence >= min(fine))).sum() > 0.05 * 2_000

    assert broken > 15


def test_the_chance_of_a_false_promise_is_exactly_bounded_for_the_worst_table() -> None:
    """One threshold, one bad row too many: the sum over all samples of a table of 400."""
    rows, size = 400, 100
    confidence = np.ones(rows)
    bad = np.arange(rows) < USUAL.allowed(rows) + 1
    passes = []
    for found in range(size + 1):  # how many of the bad ones are drawn
        sampled = np.zeros(rows, dtype=bool)
        sampled[: min(found, bad.sum())] = True
        sampled[rows - (size - sampled.sum()) :] = True
        passes.append(certify(confidence, sampled, bad, USUAL).proved)

    chance = sum(scipy.stats.hypergeom.pmf(k, rows, bad.sum(), size) for k in range(int(bad.sum()) + 1) if passes[k])

    assert 0 < chance <= USUAL.error_per_look(rows)


def test_a_lower_threshold_is_not_tried_after_one_has_failed() -> None:
    confidence = np.repeat([0.9, 0.8, 0.7], [1_000, 1_000, 1_000])
    bad = np.zeros(3_000, dtype=bool)
    sampled = np.zeros(3_000, dtype=bool)
    sampled[::10] = True
    bad[1_000:1_900] = True

    found = certify(confidence, sampled, bad, USUAL)

    assert (found.threshold, found.sampled, found.bad) == (0.9, 300, 0)
    assert found.kept == 900


def test_a_row_without_a_cheap_answer_is_never_kept() -> None:
    confidence = np.concatenate([np.full(500, 0.9), np.full(500, -np.inf)])
    sampled = np.arange(1_000) % 5 == 0

    found = certify(confidence, sampled, np.zeros(1_000, dtype=bool), USUAL)

    assert found.kept == 400


def test_nothing_is_proved_where_the_cheap_answers_are_wrong() -> None:
    found = certify(np.ones(2_000), np.arange(2_000) < 200, np.ones(2_000, dtype=bool), USUAL)

    assert found == Certificate(np.inf, 0, 200, 0)


@pytest.mark.parametrize(
    ("rows", "share", "looks"),
    [
        (5_000, 0.95, (100, 200, 400)),
        (19_999, 0.95, (100, 200, 400)),
        (20_000, 0.95, (104, 208, 416, 832)),
        (10_000_000, 0.95, (113, 226, 452, 904, 1808, 3616)),
        (300, 0.95, (100, 200)),
        (5_000, 0.99, (461, 922, 1_844)),
        (60, 0.95, (38,)),
        (20, 0.95, (17,)),
        (10, 0.95, ()),
    ],
)
def test_the_first_look_is_at_enough_rows_to_prove_something(rows: int, share: float, looks: tuple[int, ...]) -> None:
    guarantee = Guarantee(share, 0.95)

    assert planned_looks(rows, guarantee) == looks
    for size in looks:
        sampled = np.zeros(rows, dtype=bool)
        sampled[:size] = True
        assert certify(np.ones(rows), sampled, np.zeros(rows, dtype=bool), guarantee).proved


def test_the_draw_depends_on_the_number_of_rows_and_the_seed_alone() -> None:
    assert draw_order(50, 1).tolist() == draw_order(50, 1).tolist()
    assert draw_order(50, 1).tolist() != draw_order(50, 2).tolist()
    assert sorted(draw_order(50, 1).tolist()) == list(range(50))


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1])
def test_a_promise_is_a_share_of_rows(share: float) -> None:
    with pytest.raises(UsageError, match="must be above 0 and below 1"):
        Guarantee(share, 0.95)
    with pytest.raises(UsageError, match="confidence_level is"):
        Guarantee(0.95, share)
