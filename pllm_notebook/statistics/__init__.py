"""Figures about answers, on plain arrays: how far to believe a probability, and what a sample proves of a table.

Nothing here knows frames, runs or models: arrays go in, small frozen values come out, and nothing is ever sent. Each
function says what it assumes. Every draw has a fixed seed, so that the same data give the same figures.

- `reliability`: whether stated probabilities are true (ECE and its excess over chance, Brier score, log loss).
- `calibrators`: functions from a stated probability to one that labels bear out, and their fit.
- `calibration`: the choice among them by cross-validation, and the report of it.
- `label_bias`: options chosen again from their probabilities by labels, where a model says some of them too often.
- `corrected_means`: means and shares of a table's answers, corrected by labels of some rows, with intervals.
- `racing`: which of several ways to ask is right most often, and what may be said of it.
- `evaluate_extra`: the packages of the extra, imported when they are first used.
- `certificate`: how low a confidence may be for a cheap answer to be kept, with a promise for the whole table.

scikit-learn and scipy do the work; both come with the extra `evaluate`, and are imported when they are first used.
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
