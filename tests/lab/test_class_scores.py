"""Macro-F1: scikit-learn's figure, and an interval that holds the true difference as often as it says."""

from __future__ import annotations

import numpy as np
import pytest

from pllm_notebook.lab import class_scores
from pllm_notebook.lab.class_scores import NO_ANSWER, macro_f1_change, macro_f1_interval

SHARES = [0.4, 0.3, 0.2, 0.1]


def drawn(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw labels and the answers of two sides, the second worse for the rarest class."""
    truth = rng.choice(4, rows, p=SHARES)
    shared = rng.random(rows) < 0.15
    other = (truth + rng.integers(1, 4, rows)) % 4
    old = np.where(shared, other, truth)
    return truth, old, np.where(shared | ((truth == 3) & (rng.random(rows) < 0.3)), other, truth)


def theirs(truth: np.ndarray, answers: np.ndarray) -> float:
    # Here, and not above: each process that collects the tests would import it, for a second.
    from sklearn.metrics import f1_score

    return float(f1_score(truth, answers, average="macro"))


def test_the_figure_is_scikit_learns() -> None:
    truth, old, new = drawn(np.random.default_rng(1), 300)

    found = macro_f1_change(truth.tolist(), old.tolist(), new.tolist(), np.arange(300))

    assert found is not None
    assert found.old == pytest.approx(theirs(truth, old))
    assert found.new == pytest.approx(theirs(truth, new))


@pytest.mark.parametrize("many", [3_000, 0], ids=["bootstrap", "normal"])
def test_its_interval_holds_the_true_difference(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_scores, "_MANY_QUESTIONS", many)
    monkeypatch.setattr(class_scores, "_DRAWS", 400)
    rng = np.random.default_rng(2)
    truth, old, new = drawn(rng, 200_000)
    alone = theirs(truth, old)
    difference = theirs(truth, new) - alone

    held = []
    for _ in range(150):
        sides = [side.tolist() for side in drawn(rng, 300)]
        found, own = macro_f1_change(*sides, np.arange(300)), macro_f1_interval(*sides[:2], np.arange(300))
        assert found is not None
        assert own is not None
        held.append((found.low <= difference <= found.high, own[1] <= alone <= own[2]))

    of_the_difference, of_one_side = np.mean(held, axis=0)
    assert 0.9 <= of_the_difference <= 0.99
    assert 0.9 <= of_one_side <= 0.99


def test_copies_of_a_question_are_drawn_together() -> None:
    truth, old, _ = drawn(np.random.default_rng(3), 200)
    alone = macro_f1_interval(truth.tolist(), old.tolist(), np.arange(200))
    copied = macro_f1_interval(np.tile(truth, 5).tolist(), np.tile(old, 5).tolist(), np.tile(np.arange(200), 5))

    assert alone == copied


def test_classes_that_are_numbers_are_ordered_as_numbers() -> None:
    found = class_scores.class_scores([10, 2, 1, 10], [1, 2, 1, 10])

    assert [(one.value, one.labels) for one in found] == [(1, 1), (2, 1), (10, 2)]


def test_a_failed_row_is_not_the_answer_none() -> None:
    """A field that may be null has None as a class of its own."""
    truths = [None, None, "a", "a"]

    found = class_scores.class_scores(truths, [None, NO_ANSWER, "a", NO_ANSWER])

    figures = {one.value: (one.labels, one.precision, one.recall) for one in found}
    assert figures == {"a": (2, 1.0, 0.5), None: (2, 1.0, 0.5)}
