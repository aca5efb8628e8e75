"""The choice of a calibrator by cross-validation, and its performance on unseen rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pllm_notebook.exceptions import UsageError
from pllm_notebook.statistics.calibrators import CalibrationMethod, Calibrator, fit
from pllm_notebook.statistics.evaluate_extra import new_axes
from pllm_notebook.statistics.reliability import Floats, Reliability, log_loss_of, measure

__all__ = ["LEAST_LABELS", "Calibration", "CalibrationMethod", "calibrate", "question_folds"]

LEAST_LABELS = 50
_LEAST_FOR_ISOTONIC = 1_000
_FOLDS = 5


@dataclass(frozen=True)
class Calibration:
    """A calibrator, chosen by cross-validated log loss and fitted on all labels, and its performance.

    Attributes:
        calibrator: The function from stated to calibrated probability.
        losses: Cross-validated log loss of each method tried, in nats.
        before: Reliability of the stated probabilities.
        after: Reliability of the calibrated ones, each from a fit without the row's fold: an estimate for new rows.
        out_of_fold: Those probabilities, shape (n,), in the order of the labels.
    """

    calibrator: Calibrator
    losses: Mapping[CalibrationMethod, float]
    before: Reliability
    after: Reliability
    out_of_fold: Floats = field(repr=False)

    @property
    def method(self) -> CalibrationMethod:
        """The chosen method."""
        return self.calibrator.method

    def plot(self, *, title: str = "", ax: Any = None) -> Any:
        """Plot the reliability diagram: stated against observed, before and after, with the rows of each bin.

        Args:
            title: Title of the plot.
            ax: Axes to plot on (matplotlib), None for a new figure.

        Returns:
            The axes.

        Raises:
            MissingPackageError: If matplotlib is not installed.
        """
        axes = new_axes("calibrate's plot") if ax is None else ax
        axes.plot([0, 1], [0, 1], linestyle=":", color="gray", label="perfect")
        for name, found, marker in (("as stated", self.before, "o"), ("calibrated", self.after, "s")):
            stated, observed = [b.stated for b in found.bins], [b.observed for b in found.bins]
            axes.plot(stated, observed, marker=marker, label=f"{name}, excess ECE {found.excess:.3f}")
            for each in found.bins:
                axes.annotate(f"{each.count:,}", (each.stated, each.observed), xytext=(4, -10),
                              textcoords="offset points", fontsize="small")  # fmt: skip
        axes.set(xlabel="stated probability", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1), title=title)
        axes.legend(loc="upper left")
        return axes


def calibrate(p: Any, right: Any, groups: Any = None) -> Calibration:
    """Choose and fit a calibrator for stated probabilities.

    This is Platt's line on the logit, unless a temperature is as good by cross-validated log loss. Probabilities are
    not changed if neither improves them. From 1,000 labels, an isotonic fit is used if it is better.

    Assumes that the labelled rows are a uniform sample of those it is applied to, answered by the same model to the
    same question, and that different groups are independent. Labels of only the doubtful rows are not such a sample.

    Args:
        p: Shape (n,), stated probabilities that the row is right, from 0 to 1.
        right: Shape (n,), whether it is.
        groups: Shape (n,), equal for rows with the same question, which share a fold. None if all differ.

    Raises:
        UsageError: With fewer than 50 labels, or 50 questions.
        MissingPackageError: If scikit-learn is not installed.
    """
    stated, true = np.asarray(p, dtype=np.float64), np.asarray(right, dtype=bool)
    asked = np.arange(len(stated)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    questions = len(np.unique(asked))
    if questions < LEAST_LABELS:
        what = f"{questions:,} different questions" if questions < len(stated) else f"{len(stated):,} rows"
        raise UsageError(
            f"{what} have a label and a confidence. Calibration needs at least {LEAST_LABELS}: with fewer, it would be "
            f"less accurate than the model's own confidence. Label more rows, drawn at random. Nothing was sent."
        )
    before = measure(stated, true, asked)
    folds = question_folds(asked)
    methods: list[CalibrationMethod] = ["raw", "temperature", "platt"]
    if questions >= _LEAST_FOR_ISOTONIC:
        methods.append("isotonic")
    predicted = {method: _predicted(method, stated, true, folds) for method in methods}
    losses = {method: log_loss_of(predicted[method], true) for method in methods}
    chosen: CalibrationMethod = "platt"
    simpler: CalibrationMethod
    for simpler in ("temperature", "raw"):
        if losses[simpler] <= losses[chosen]:
            chosen = simpler
    if losses.get("isotonic", np.inf) < losses[chosen]:
        chosen = "isotonic"
    after = before if chosen == "raw" else measure(predicted[chosen], true, asked)
    return Calibration(fit(chosen, stated, true), losses, before, after, predicted[chosen])


def question_folds(groups: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the fold of each row: random by question, with equal rows together."""
    order = np.random.default_rng(0).permutation(int(groups.max()) + 1)
    return order[groups] % _FOLDS


def _predicted(method: CalibrationMethod, p: Floats, right: NDArray[np.bool_], folds: NDArray[np.intp]) -> Floats:
    found = p.copy()
    if method != "raw":
        for fold in range(_FOLDS):
            held = folds == fold
            found[held] = fit(method, p[~held], right[~held])(p[held])
    return found
