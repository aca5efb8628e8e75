"""Correction of a model's bias for some options, from option probabilities and labels.

A model that chooses one option too often gives it too much probability in all rows, but a row's right option is still
more probable than it is in other rows. A multinomial logistic regression on the logarithms detects this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pllm_notebook.exceptions import UsageError
from pllm_notebook.statistics.calibration import LEAST_LABELS, question_folds
from pllm_notebook.statistics.evaluate_extra import scikit_learn
from pllm_notebook.statistics.reliability import Floats

__all__ = ["CorrectedOptions", "correct_options"]

Codes = NDArray[np.intp]

_LEAST_P = 0.005  # endpoints round to hundredths
_FOLDS = 5


@dataclass(frozen=True)
class CorrectedOptions:
    """The options chosen by the regression, and their accuracy.

    Attributes:
        chosen: Shape (n,), the option of each row, for a labelled row from a fit that has not seen it. -1 without
            probabilities.
        accuracy_before: Share of the labelled rows whose stated option is right.
        accuracy_after: The same for the chosen options.
        labels: Number of labelled rows.
    """

    chosen: Codes
    accuracy_before: float
    accuracy_after: float
    labels: int


def correct_options(p: Floats, said: Codes, label: Codes, groups: Any) -> CorrectedOptions:
    """Choose each row's option by a multinomial logistic regression on the logarithms of its probabilities.

    Assumes that the labelled rows are a uniform sample of all rows, and that different groups are independent.

    Args:
        p: Shape (n, k), the probability of each option; NaN for a row without probabilities.
        said: Shape (n,), the option that each row has, -1 for none.
        label: Shape (n,), the right option, -1 where it is not known.
        groups: Shape (n,), equal for rows that share one question.

    Raises:
        UsageError: With labels of fewer than 50 questions, or of only one option.
        MissingPackageError: If scikit-learn is not installed.
    """
    has_p = ~np.isnan(p).any(axis=1)
    known = np.flatnonzero(has_p & (label >= 0))
    asked = np.unique(np.asarray(groups)[known], return_inverse=True)[1]
    questions, options = len(np.unique(asked)), len(np.unique(label[known]))
    if questions < LEAST_LABELS or options < 2:
        raise UsageError(
            f"{questions:,} different questions have a label and probabilities, of {options:,} options. A correction "
            f"needs at least {LEAST_LABELS} of at least 2. Label more rows, drawn at random. Nothing was sent."
        )
    features = np.log(np.clip(p, _LEAST_P, 1))
    chosen = np.full(len(p), -1, dtype=np.intp)
    chosen[has_p] = _predicted(features[known], label[known], features[has_p])
    folds = question_folds(asked)
    for fold in range(_FOLDS):
        held, rest = known[folds == fold], known[folds != fold]
        chosen[held] = _predicted(features[rest], label[rest], features[held])
    before, after = (float((one[known] == label[known]).mean()) for one in (said, chosen))
    return CorrectedOptions(chosen, before, after, len(known))


def _predicted(features: Floats, label: Codes, wanted: Floats) -> Codes:
    classes = np.unique(label)
    if len(classes) < 2 or not len(wanted):
        return np.full(len(wanted), classes[0], dtype=np.intp)
    regression = scikit_learn("sklearn.linear_model", "calibrate").LogisticRegression(C=1.0, max_iter=1_000)
    return np.asarray(regression.fit(features, label).predict(wanted), dtype=np.intp)
