"""Precision, recall and F1 by class, and macro-F1 with its interval. Equal rows are one observation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from pllm_notebook.lab.paired_tests import sums_by_group

__all__ = [
    "FEWEST_OF_CLASS",
    "NO_ANSWER",
    "ClassScore",
    "MacroF1Change",
    "class_scores",
    "macro_f1_change",
    "macro_f1_interval",
]

Numbers = np.ndarray[Any, np.dtype[Any]]

FEWEST_OF_CLASS = 10
"""A class with fewer labels is shown but not included in intervals and tests."""

NO_ANSWER: Any = object()
"""The answer of a failed row. None is not that: a field that may be null has it as a value."""

_MOST_CLASSES = 30
# With more questions the bootstrap takes long, and the normal interval agrees to the digits shown.
_MANY_QUESTIONS = 3_000
_DRAWS, _CELLS = 2_000, 4_000_000


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class of a field, on labelled rows. A row without an answer is of no class.

    Attributes:
        value: The class.
        labels: Rows with this label.
        precision: Share of the answers of this class that are right. NaN without such answers.
        recall: Share of the rows with this label whose answer is this class. NaN without such labels.
        f1: Harmonic mean of both. 0 if no answer is right.
    """

    value: Any
    labels: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class MacroF1Change:
    """The mean F1 over classes on both sides, with equal weights.

    Attributes:
        classes: Classes with at least 10 labels, which are included.
        left_out: Classes with fewer.
        old: Macro-F1 of the old side.
        new: Macro-F1 of the new side.
        difference: New minus old.
        low: Lower end of the 95 % interval of the difference: percentiles of a paired bootstrap over questions, or the
            normal interval for more than 3,000 questions.
        high: Upper end.
    """

    classes: tuple[Any, ...]
    left_out: tuple[Any, ...]
    old: float
    new: float
    difference: float
    low: float
    high: float


def class_scores(truths: Sequence[Any], answers: Sequence[Any]) -> list[ClassScore]:
    """Return the figures of each class, ordered by type and then value; all but numbers are ordered as text.

    Args:
        truths: The label of each row.
        answers: Answers to the same rows. `NO_ANSWER` for a failed row.
    """
    classes = _classes_in(truths, answers)
    right, said, true = (_counts(truths, answers, classes, what).sum(axis=0) for what in ("right", "said", "true"))
    return [
        ClassScore(value, int(true[at]), _share(right[at], said[at]), _share(right[at], true[at]),
                   float(2 * right[at] / (said[at] + true[at])))
        for at, value in enumerate(classes)
    ]  # fmt: skip


def macro_f1_change(
    truths: Sequence[Any], old: Sequence[Any], new: Sequence[Any], question: Numbers
) -> MacroF1Change | None:
    """Return the difference in macro-F1 between two sides, or None if fewer than two classes have 10 labels.

    Args:
        truths: The label of each row.
        old: Answers of the old side. `NO_ANSWER` for a failed row.
        new: Answers of the new side.
        question: A number for each row, equal for equal rows, which are resampled together.
    """
    chosen, rest = _counted_classes(truths)
    if len(chosen) < 2:
        return None
    sides = [_Side.of(truths, answers, chosen, question) for answers in (old, new)]
    before, after = (float(side.macro(np.ones((1, side.questions)))[0]) for side in sides)
    if sides[0].questions > _MANY_QUESTIONS:
        half = _half_width(sides[1].influence() - sides[0].influence())
        return MacroF1Change(chosen, rest, before, after, after - before, after - before - half, after - before + half)
    drawn = _drawn(sides[0].questions)
    low, high = np.quantile(
        np.concatenate([sides[1].macro(weights) - sides[0].macro(weights) for weights in drawn]), [0.025, 0.975]
    )
    return MacroF1Change(chosen, rest, before, after, after - before, float(low), float(high))


def macro_f1_interval(
    truths: Sequence[Any], answers: Sequence[Any], question: Numbers
) -> tuple[float, float, float, tuple[Any, ...]] | None:
    """Return macro-F1, its 95 % interval's ends and the excluded classes. None for the reason in `macro_f1_change`."""
    chosen, rest = _counted_classes(truths)
    if len(chosen) < 2:
        return None
    side = _Side.of(truths, answers, chosen, question)
    mean = float(side.macro(np.ones((1, side.questions)))[0])
    if side.questions > _MANY_QUESTIONS:
        half = _half_width(side.influence())
        return mean, mean - half, mean + half, rest
    drawn = np.concatenate([side.macro(weights) for weights in _drawn(side.questions)])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return mean, float(low), float(high), rest


@dataclass(frozen=True, slots=True)
class _Side:
    """Counts for each question and class: right answers, all answers and all labels of the class."""

    right: Numbers
    either: Numbers

    @classmethod
    def of(cls, truths: Sequence[Any], answers: Sequence[Any], classes: Sequence[Any], question: Numbers) -> _Side:
        """Build the counts."""
        right, said, true = (_counts(truths, answers, classes, what) for what in ("right", "said", "true"))
        sums = [np.array([sums_by_group(column, question) for column in counts.T]).T for counts in (right, said + true)]
        return cls(*sums)

    @property
    def questions(self) -> int:
        """Number of distinct rows."""
        return len(self.right)

    def macro(self, weights: Numbers) -> Numbers:
        """Return macro-F1 for each line of *weights*, which has a weight for each question."""
        either = weights @ self.either
        f1 = np.divide(2 * (weights @ self.right), either, out=np.zeros_like(either), where=either > 0)
        return np.asarray(f1.mean(axis=1))

    def influence(self) -> Numbers:
        """Return the first-order influence of each question on macro-F1."""
        either, right = self.either.sum(axis=0), self.right.sum(axis=0)
        f1 = np.divide(2 * right, either, out=np.zeros_like(either), where=either > 0)
        moved = np.divide(2 * self.right - f1 * self.either, either, out=np.zeros_like(self.either), where=either > 0)
        return np.asarray(moved.mean(axis=1))


def _half_width(influence: Numbers) -> float:
    """Return half of a 95 % interval from the influence of many questions."""
    return float(1.959964 * np.sqrt(np.sum((influence - influence.mean()) ** 2)))


def _drawn(questions: int) -> list[Numbers]:
    """Draw how often each question counts in each resample, in blocks that fit into memory."""
    block = max(1, _CELLS // questions)
    rng, made = np.random.default_rng(questions), []
    for start in range(0, _DRAWS, block):
        picked = rng.integers(0, questions, (min(block, _DRAWS - start), questions))
        line = np.arange(len(picked))[:, None] * questions
        made.append(np.bincount((picked + line).ravel(), minlength=picked.size).reshape(picked.shape).astype(float))
    return made


def _counts(truths: Sequence[Any], answers: Sequence[Any], classes: Sequence[Any], what: str) -> Numbers:
    """Return for each row and class whether the row is counted, shape (n_rows, n_classes)."""
    place = {_key(value): at for at, value in enumerate(classes)}
    true, said = (np.array([place.get(_key(cell), -1) for cell in cells]) for cells in (truths, answers))
    at = np.arange(len(classes))
    is_true, is_said = true[:, None] == at, said[:, None] == at
    counted = {"right": is_true & is_said, "said": is_said, "true": is_true}[what]
    return np.asarray(counted, dtype=np.float64)


def _counted_classes(truths: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the classes with enough labels and those with too few. Too many classes count as none."""
    classes = _classes_in(truths, ())
    if len(classes) > _MOST_CLASSES:
        return (), tuple(classes)
    times = {_key(value): 0 for value in classes}
    for truth in truths:
        times[_key(truth)] += 1
    enough = [times[_key(value)] >= FEWEST_OF_CLASS for value in classes]
    return (
        tuple(value for value, is_enough in zip(classes, enough, strict=True) if is_enough),
        tuple(value for value, is_enough in zip(classes, enough, strict=True) if not is_enough),
    )


def _classes_in(truths: Sequence[Any], answers: Sequence[Any]) -> list[Any]:
    seen = {_key(value): value for value in [*truths, *(one for one in answers if one is not NO_ANSWER)]}
    numbers = (int, float, Decimal)
    return sorted(
        seen.values(), key=lambda value: (str(type(value)), value if isinstance(value, numbers) else str(value))
    )


def _key(value: Any) -> Any:
    # As dictionary keys True equals 1, but they are different answers.
    return (type(value) is bool, value)


def _share(count: float, total: float) -> float:
    return float(count / total) if total else float("nan")
