"""Functions that calibrate stated probabilities, and their fit to labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pllm_notebook.statistics.reliability import Floats, clipped, edge_of

__all__ = ["CalibrationMethod", "Calibrator", "fit"]

CalibrationMethod = Literal["raw", "temperature", "platt", "isotonic"]


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A non-decreasing function from stated to calibrated probability.

    Attributes:
        method: "raw" changes nothing. "temperature" divides the logit by a number. "platt" is a straight line on the
            logit (Platt, "Probabilistic Outputs for Support Vector Machines", 1999). "isotonic" is the best
            non-decreasing function.
        slope: Factor of the logit: 1 / temperature. At least 0.
        shift: Offset of the logit.
        edge: Stated probabilities are clipped to this distance from 0 and 1.
        steps: For "isotonic", the pairs of stated and calibrated probability, with linear interpolation in between.
    """

    method: CalibrationMethod
    slope: float = 1.0
    shift: float = 0.0
    edge: float = 0.0
    steps: tuple[tuple[float, float], ...] = ()

    def __call__(self, p: Any) -> Floats:
        """Return calibrated probabilities. NaN stays NaN."""
        stated = np.asarray(p, dtype=np.float64)
        if self.method == "raw":
            return stated
        if self.method == "isotonic":
            at, value = np.array(self.steps).T
            return np.where(np.isnan(stated), np.nan, np.interp(stated, at, value))
        return np.asarray(1 / (1 + np.exp(-(self.slope * _logit(clipped(stated, self.edge)) + self.shift))))

    def as_json(self) -> dict[str, Any]:
        """Return the calibrator as plain data for `of_json`."""
        return {
            "method": self.method,
            "slope": self.slope,
            "shift": self.shift,
            "edge": self.edge,
            "steps": [list(step) for step in self.steps],
        }

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> Calibrator:
        """Return the calibrator that `as_json` wrote."""
        return cls(**{**data, "steps": tuple((float(at), float(value)) for at, value in data["steps"])})


def fit(method: CalibrationMethod, p: Floats, right: NDArray[np.bool_]) -> Calibrator:
    """Fit one method by maximum likelihood.

    Assumes that the labelled rows are a uniform sample of those it is applied to.

    Args:
        method: The method.
        p: Shape (n,), stated probabilities.
        right: Shape (n,), whether the row is right.
    """
    if method == "raw":
        return Calibrator("raw")
    edge = edge_of(p)
    if method == "isotonic":
        return _isotonic(p, right)
    slope, shift = _line(_logit(clipped(p, edge)), right, shifted=method == "platt")
    return Calibrator(method, slope, shift, edge)


def _logit(p: Floats) -> Floats:
    return np.asarray(np.log(p) - np.log1p(-p))


def _line(logits: Floats, right: NDArray[np.bool_], *, shifted: bool) -> tuple[float, float]:
    """Return slope and shift of a logistic regression on one input.

    The targets are Platt's, (n + 1) / (n + 2) instead of 1: with targets of 0 and 1, labels that are all right, or
    separated by a threshold, have no finite fit.
    """
    from sklearn.linear_model import LogisticRegression

    above, below = int(right.sum()), int((~right).sum())
    target = np.where(right, (above + 1) / (above + 2), 1 / (below + 2))
    outcomes = np.repeat([True, False], len(right))
    fitted = LogisticRegression(C=np.inf, fit_intercept=shifted).fit(
        np.tile(logits, 2)[:, np.newaxis], outcomes, sample_weight=np.concatenate([target, 1 - target])
    )
    slope, shift = float(fitted.coef_[0, 0]), float(np.ravel(fitted.intercept_)[0])
    if slope >= 0:
        return slope, shift
    # Higher confidence but less often right: the confidence is useless, so only the share of right answers is used.
    share = float(target.mean())
    return 0.0, float(np.log(share) - np.log1p(-share)) if shifted else 0.0


def _isotonic(p: Floats, right: NDArray[np.bool_]) -> Calibrator:
    """Return the isotonic fit. Its outermost steps may have few rows, all right or all wrong, so none is 0 or 1."""
    from sklearn.isotonic import IsotonicRegression

    least = 1 / (len(p) + 2)
    fitted = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(p, right.astype(np.float64))
    steps = zip(fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist(), strict=True)
    return Calibrator("isotonic", steps=tuple(steps))
