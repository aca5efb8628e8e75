"""Test with labels which of two sides is right more often: a paired test with equal rows as one observation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pllm_notebook.exceptions import UsageError
from pllm_notebook.formatting import counted
from pllm_notebook.lab.class_scores import NO_ANSWER, MacroF1Change, macro_f1_change
from pllm_notebook.lab.paired_tests import (
    detectable_difference,
    difference_interval,
    effective_count,
    sign_flip_p,
    sums_by_group,
)

__all__ = ["LabelledChange", "labelled_change"]

Numbers = np.ndarray[Any, np.dtype[Any]]

SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class LabelledChange:
    """The accuracy of both sides on the same labelled rows, and whether it differs.

    A row that failed on a side is wrong there: leaving it out would keep only the easy rows. The test assumes that
    labels are right, that distinct rows are independent, and that rows were not chosen because of their answers.

    Attributes:
        field: The field of the answers.
        against: Name of the labels.
        labels: Number of labelled rows that both sides were asked about.
        questions: Number of distinct rows among them. Equal rows share one call and count once.
        old_accuracy: Share of the labelled rows that the old side got right, 0 to 1.
        new_accuracy: The same for the new side.
        better: Rows that became right.
        worse: Rows that became wrong.
        failed: Labelled rows without an answer on the old and on the new side, which count as wrong.
        difference: New minus old accuracy.
        low: Lower end of its 95 % interval, from the variance between distinct rows. Valid from about 50 labels on.
        high: Upper end.
        p: Two-sided p of equal accuracy (sign flips by question; McNemar's exact test if no rows are equal).
        detectable: The smallest true difference that this number of labels detects in four of five such comparisons,
            given how many rows differ here.
        examples: Labelled rows left out because a side was shown them, or near-duplicates, as examples.
        alpha: The p below which a difference is significant.
        macro_f1: Macro-F1 of both sides. None for labels with floats, or if fewer than two classes have 10 labels.
    """

    field: str
    against: str
    labels: int
    questions: int
    old_accuracy: float
    new_accuracy: float
    better: int
    worse: int
    failed: tuple[int, int]
    difference: float
    low: float
    high: float
    p: float
    detectable: float
    examples: int = 0
    alpha: float = SIGNIFICANT
    macro_f1: MacroF1Change | None = None

    @property
    def is_significant(self) -> bool:
        """Whether p is below `alpha`, which is 0.05 for `compare` and 0.01 for `improve`."""
        return self.p < self.alpha

    def lines(self) -> list[str]:
        """Return the result in sentences, plainest first."""
        points = f"{100 * self.difference:+.1f} points (95 % interval {100 * self.low:+.1f} to {100 * self.high:+.1f})"
        level = "" if self.alpha == SIGNIFICANT else f", which is not below {self.alpha:g}"
        if self.is_significant:
            said = f"The new answers are {'better' if self.difference > 0 else 'worse'}: {points}, p {_p(self.p)}."
        else:
            said = (
                f"Not significant: {points}, p {_p(self.p)}{level}. With these labels a true difference of "
                f"{100 * self.detectable:.1f} points would be found in four of five such comparisons; a smaller one is "
                f"likely to be missed."
            )
        alike = "" if self.questions == self.labels else f" ({self.questions:,} distinct: equal rows count once)"
        lines = [
            said,
            (
                f"{self.field} against {self.against}: accuracy {self.old_accuracy:.3f} → {self.new_accuracy:.3f} on "
                f"{counted(self.labels, 'labelled row')}{alike}; {self.better:,} became right, {self.worse:,} wrong."
            ),
        ]
        if (f1 := self.macro_f1) is not None:
            rest = "" if not f1.left_out else (
                f"; with fewer than 10 labels, and left out: {', '.join(map(str, f1.left_out))}"
            )  # fmt: skip
            lines.append(
                f"Macro-F1 {f1.old:.3f} → {f1.new:.3f}: {100 * f1.difference:+.1f} points (95 % interval "
                f"{100 * f1.low:+.1f} to {100 * f1.high:+.1f}) over {len(f1.classes)} classes{rest}."
            )
        if any(self.failed):
            lines.append(f"Failed and so counted as wrong: {self.failed[0]:,} old, {self.failed[1]:,} new.")
        if self.examples:
            lines.append(f"Left out since a side was shown them as examples: {counted(self.examples, 'labelled row')}.")
        return lines


def labelled_change(
    names: tuple[str, str],
    truths: Sequence[Any],
    old: tuple[Sequence[Any], Numbers],
    new: tuple[Sequence[Any], Numbers],
    question: Numbers,
    alpha: float = SIGNIFICANT,
) -> tuple[LabelledChange, Numbers]:
    """Test whether two sides are equally often right.

    Args:
        names: Names of the field and of the labels.
        truths: The label of each line, comparable with the answers.
        old: The value of each line, and whether it is an answer.
        new: As *old*.
        question: A number for each line, equal for equal rows.
        alpha: The p below which a difference is significant.

    Returns:
        The result, and for each line 1 if it became right, -1 if it became wrong, otherwise 0.

    Raises:
        UsageError: If there are no lines.
    """
    if not len(truths):
        raise UsageError(f"No row that both sides were asked about has a label in {names[1]!r}. Nothing was sent.")
    rights = []
    for values, answered in (old, new):
        same = np.array([value == truth for value, truth in zip(values, truths, strict=True)], dtype=bool)
        rights.append(same & answered)
    was, becomes = rights
    change = becomes.astype(np.int64) - was
    sums = sums_by_group(change, question)
    difference, low, high = difference_interval(change, question)
    effective = effective_count(question)
    discordant = float(np.mean(change != 0))
    made = LabelledChange(
        field=names[0],
        against=names[1],
        labels=len(truths),
        questions=len(sums),
        old_accuracy=float(was.mean()),
        new_accuracy=float(becomes.mean()),
        better=int((change > 0).sum()),
        worse=int((change < 0).sum()),
        failed=(int((~old[1]).sum()), int((~new[1]).sum())),
        difference=difference,
        low=low,
        high=high,
        p=sign_flip_p(sums),
        detectable=detectable_difference(effective, discordant, alpha),
        alpha=alpha,
        macro_f1=_macro_f1(truths, old, new, question),
    )
    return made, change


def _macro_f1(
    truths: Sequence[Any], old: tuple[Sequence[Any], Numbers], new: tuple[Sequence[Any], Numbers], question: Numbers
) -> MacroF1Change | None:
    # For a number with many values, a mean over classes is meaningless.
    if any(isinstance(truth, float) for truth in truths):
        return None
    before, after = ([value if there else NO_ANSWER for value, there in zip(values, known.tolist(), strict=True)]
                     for values, known in (old, new))  # fmt: skip
    return macro_f1_change(truths, before, after, question)


def _p(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"= {p:.4f}" if p < 0.01 else f"= {p:.2f}"
