"""Statistics of answers, on plain arrays: calibration of probabilities, corrected means, and guarantees from samples.

Nothing here depends on frames, runs or models: arrays go in, small frozen values come out, and nothing is ever sent.
Each function states its assumptions. Every draw has a fixed seed, so the same data give the same figures.

- `reliability`: whether stated probabilities are true (ECE and its excess over chance, Brier score, log loss).
- `calibrators`: functions that calibrate stated probabilities, and their fit to labels.
- `calibration`: the choice among them by cross-validation, and its report.
- `label_bias`: correction of options with labels, if a model chooses some of them too often.
- `corrected_means`: means and shares of a table's answers, corrected with labels of some rows, with intervals.
- `racing`: which of several arms is right most often, and the certainty of that.
- `evaluate_extra`: the packages of the extra, imported on first use.
- `certificate`: the lowest confidence at which a low-cost answer may be kept, with a guarantee for the whole table.

The computations use scikit-learn and scipy, which come with the extra `evaluate` and are imported on first use.
"""

from pllm_notebook.statistics.calibration import LEAST_LABELS, Calibration, CalibrationMethod, calibrate
from pllm_notebook.statistics.calibrators import Calibrator
from pllm_notebook.statistics.certificate import (
    Certificate,
    Guarantee,
    certify,
    draw_order,
    forecast,
    known_threshold,
    planned_looks,
)
from pllm_notebook.statistics.corrected_means import (
    FEWEST_LABELS,
    CorrectedMean,
    MeanMethod,
    chances_fit,
    corrected_mean,
)
from pllm_notebook.statistics.evaluate_extra import new_axes, scikit_learn
from pllm_notebook.statistics.label_bias import CorrectedOptions, correct_options
from pllm_notebook.statistics.racing import RaceRule, RaceStanding, race_looks
from pllm_notebook.statistics.reliability import Reliability, ReliabilityBin, measure

__all__ = [
    "FEWEST_LABELS",
    "LEAST_LABELS",
    "Calibration",
    "CalibrationMethod",
    "Calibrator",
    "Certificate",
    "CorrectedMean",
    "CorrectedOptions",
    "Guarantee",
    "MeanMethod",
    "RaceRule",
    "RaceStanding",
    "Reliability",
    "ReliabilityBin",
    "calibrate",
    "certify",
    "chances_fit",
    "correct_options",
    "corrected_mean",
    "draw_order",
    "forecast",
    "known_threshold",
    "measure",
    "new_axes",
    "planned_looks",
    "race_looks",
    "scikit_learn",
]
