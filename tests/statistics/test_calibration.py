"""Stated probabilities with a known fault are mended on rows that were not seen, and what cannot be is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pllm_notebook.exceptions import UsageError
from pllm_notebook.statistics import Calibrator, calibrate, measure
from pllm_notebook.statistics.calibrators import fit
from pllm_notebook.statistics.reliability import Floats

LABELS, HELD_OUT, SEEDS = 1_000, 500, 200


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def logit(p: Floats) -> Floats:
    return np.log(p / (1 - p))


# From the stated probability to the true one, and the excess ECE that a calibrator reaches on 500 held-out rows in 95 %
# of tables. The plateau is no line on the logit: the isotonic fit that it needs has more freedom, and 1,000 labels.
FAULTS: dict[str, tuple[Callable[[Floats], Floats], float]] = {
    "temperature": (lambda p: sigmoid(logit(p) / 2.5), 0.03),
    "slope and shift": (lambda p: sigmoid(0.5 * logit(p) - 0.6), 0.03),
    "plateau": (lambda p: np.where(p < 0.5, p, np.where(p < 0.95, 0.55, 0.85)), 0.055),
}


def rows(fault: Callable[[Floats], Floats], count: int, rng: np.random.Generator) -> tuple[Floats, np.ndarray]:
    stated = np.clip(rng.beta(3, 0.9, count), 0.02, 0.99)
    return stated, rng.random(count) < fault(stated)


def excesses(name: str, seed: int) -> tuple[float, float]:
    """Return the excess ECE on held-out rows as they are stated and calibrated."""
    rng = np.random.default_rng(seed)
    found = calibrate(*rows(FAULTS[name][0], LABELS, rng))
    stated, right = rows(FAULTS[name][0], HELD_OUT, rng)
    return measure(stated, right).excess, measure(found.calibrator(stated), right).excess


@pytest.mark.parametrize("seeds", [6, pytest.param(SEEDS, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
@pytest.mark.parametrize("name", FAULTS)
def test_a_known_fault_is_mended_on_rows_that_were_not_seen(name: str, seeds: int) -> None:
    bar = FAULTS[name][1]

    found = np.array([excesses(name, seed) for seed in range(seeds)])

    stated, calibrated = (found <= bar).mean(axis=0)
    assert calibrated >= (0.95 if seeds == SEEDS else 0.8)
    assert stated == 0  # the same test fails without calibration


def test_what_needs_no_calibration_is_mostly_left_alone_and_never_made_worse() -> None:
    found = [calibrate(*rows(lambda p: p, 500, np.random.default_rng(seed))) for seed in range(6)]

    assert all(each.after.log_loss <= each.before.log_loss for each in found)
    assert "raw" in {each.method for each in found}


def test_fewer_than_fifty_labels_are_refused_before_anything_is_fitted() -> None:
    stated, right = rows(FAULTS["temperature"][0], 40, np.random.default_rng(0))

    with pytest.raises(UsageError, match=r"40 rows have a label and a confidence. Calibration needs at least 50"):
        calibrate(stated, right)


def test_copies_of_a_question_are_one_label() -> None:
    stated, right = rows(FAULTS["temperature"][0], 40, np.random.default_rng(0))

    with pytest.raises(UsageError, match="40 different questions have a label and a confidence"):
        calibrate(np.tile(stated, 5), np.tile(right, 5), np.tile(np.arange(40), 5))


def test_copies_of_a_question_are_not_taken_for_evidence() -> None:
    """Of perfect probabilities, the error of 60 questions is chance, however often each of them is in the table."""
    widths = []
    for seed in range(10):
        stated, right = rows(lambda p: p, 60, np.random.default_rng(seed))
        once = measure(stated, right)
        copied = measure(np.repeat(stated, 8), np.repeat(right, 8), np.repeat(np.arange(60), 8))
        assert copied.ece == pytest.approx(once.ece, abs=0.02)
        widths.append(copied.excess - once.excess)

    assert np.mean(widths) == pytest.approx(0, abs=0.01)


def test_excess_is_about_zero_for_perfect_probabilities_of_which_the_error_is_chance() -> None:
    found = [measure(*rows(lambda p: p, 200, np.random.default_rng(seed))) for seed in range(40)]

    assert np.mean([each.ece for each in found]) > 0.03
    assert np.mean([each.excess for each in found]) == pytest.approx(0, abs=0.006)
    assert np.mean([each.excess_low <= 0 <= each.excess_high for each in found]) >= 0.85


def test_equal_probabilities_share_a_bin_so_that_the_order_of_rows_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    stated, right = np.round(rng.beta(3, 0.9, 300), 1), rng.random(300) < 0.7
    order = rng.permutation(300)

    found = measure(stated, right)

    assert measure(stated[order], right[order]).ece == pytest.approx(found.ece)
    assert sum(each.count for each in found.bins) == 300


def test_a_temperature_is_found_again() -> None:
    rng = np.random.default_rng(0)
    stated = rng.uniform(0.05, 0.95, 50_000)

    found = fit("temperature", stated, rng.random(50_000) < sigmoid(logit(stated) / 2.5))

    assert 1 / found.slope == pytest.approx(2.5, rel=0.03)
    assert found.shift == 0


def test_a_line_on_the_logit_is_found_again() -> None:
    rng = np.random.default_rng(0)
    stated = rng.uniform(0.05, 0.95, 50_000)

    found = fit("platt", stated, rng.random(50_000) < sigmoid(0.5 * logit(stated) - 0.6))

    assert (found.slope, found.shift) == pytest.approx((0.5, -0.6), abs=0.03)


def test_the_isotonic_fit_is_scikit_learns_within_what_can_be_said_of_so_many_rows() -> None:
    # Here, and not above: each process that collects the tests would import it, for a second.
    from sklearn.isotonic import IsotonicRegression

    stated, right = rows(FAULTS["plateau"][0], 2_000, np.random.default_rng(1))
    theirs = IsotonicRegression(out_of_bounds="clip").fit(stated, right).predict(stated)

    ours = fit("isotonic", stated, right)(stated)

    assert np.allclose(ours, np.clip(theirs, 1 / 2_002, 1 - 1 / 2_002))


@pytest.mark.parametrize("right", [True, False])
def test_labels_that_are_all_alike_give_a_finite_fit(right: bool) -> None:
    stated = np.linspace(0.3, 0.97, 80)

    found = calibrate(stated, np.full(80, right))

    assert np.all((found.calibrator(stated) > 0) & (found.calibrator(stated) < 1))


def test_a_confidence_that_is_higher_where_the_answer_is_wrong_is_replaced_by_the_share_of_right_ones() -> None:
    stated = np.linspace(0.1, 0.9, 400)

    found = fit("platt", stated, np.random.default_rng(0).random(400) < 1 - stated)

    assert found.slope == 0
    assert found(np.array([0.1, 0.9])) == pytest.approx([0.5, 0.5], abs=0.06)


def test_probabilities_that_are_rounded_to_one_are_read_as_what_was_rounded() -> None:
    stated = np.repeat([1.0, 0.9, 0.6], 100)

    found = fit("platt", stated, np.random.default_rng(0).random(300) < 0.8 * stated)

    assert found.edge == 0.005
    assert 0 < found(np.array([1.0]))[0] < 1


@pytest.mark.parametrize("method", ["raw", "temperature", "platt", "isotonic"])
def test_a_calibrator_is_kept_as_plain_data(method: str) -> None:
    stated, right = rows(FAULTS["plateau"][0], 300, np.random.default_rng(2))
    found = fit(method, stated, right)  # type: ignore[arg-type]

    again = Calibrator.of_json(found.as_json())

    assert again == found
    assert np.array_equal(again(stated), found(stated))


def test_a_missing_probability_stays_missing() -> None:
    stated, right = rows(FAULTS["plateau"][0], 300, np.random.default_rng(2))

    for method in ("raw", "temperature", "platt", "isotonic"):
        assert np.isnan(fit(method, stated, right)(np.array([np.nan])))[0]  # type: ignore[arg-type]


def test_the_diagram_shows_the_rows_of_each_bin() -> None:
    found = calibrate(*rows(FAULTS["temperature"][0], 300, np.random.default_rng(0)))

    axes = found.plot(title="sentiment")

    counts = [each.get_text() for each in axes.texts]
    assert sum(int(text.replace(",", "")) for text in counts) == 600  # before, and after
    assert axes.get_title() == "sentiment"
