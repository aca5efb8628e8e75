"""Calibration of a field's confidence against the labels of a frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pllm_notebook.exceptions import PllmError, UsageError, guess
from pllm_notebook.formatting import escape_html, strip_control_chars
from pllm_notebook.frames.corrected_values import CorrectedValues, corrected_values
from pllm_notebook.frames.dtypes import CellType
from pllm_notebook.frames.kept_calibrations import KeptCalibration, default_name, identity_of_run, keep
from pllm_notebook.frames.labels import check_known, check_single, plain_values
from pllm_notebook.frames.probabilities import stated_probabilities_of
from pllm_notebook.frames.provenance import provenance_of
from pllm_notebook.frames.stored_labels import label_column
from pllm_notebook.frames.table import Table
from pllm_notebook.statistics import Calibration, calibrate

__all__ = ["ConfidenceCalibration", "calibration_of"]


@dataclass(frozen=True)
class ConfidenceCalibration:
    """The calibration of one field's confidence, and its calibrated values. No value of the field is changed.

    The labelled rows must be a uniform sample of the frame's rows. The doubtful or interesting rows alone are not such
    a sample.

    Attributes:
        name: Name for `calibration=`. It is stored in the cache directory under this name.
        field: The result column.
        against: Name of the labels.
        source: Source of the probabilities.
        confidence: The calibrated confidence of each row of the frame, in its order, NA for none. For a labelled row it
            is from a fit that has not seen that row.
        found: The chosen calibrator and its figures.
        correction: Computes the result of `correct`.
    """

    name: str
    field: str
    against: str
    source: str
    confidence: Any = dataclasses.field(repr=False)
    found: Calibration = dataclasses.field(repr=False)
    correction: Callable[[], CorrectedValues] = dataclasses.field(repr=False, compare=False)

    @property
    def method(self) -> str:
        """The chosen method: "raw", "temperature", "platt" or "isotonic" (see `statistics.Calibrator`)."""
        return self.found.method

    @property
    def ece(self) -> float:
        """Calibration error after calibration, on rows that the fit has not seen (see `statistics.Reliability`)."""
        return self.found.after.ece

    @property
    def excess(self) -> float:
        """`ece` minus the value that perfect probabilities would have by chance on this number of rows."""
        return self.found.after.excess

    @property
    def brier(self) -> float:
        """Brier score after calibration, on rows that the fit has not seen."""
        return self.found.after.brier

    @property
    def log_loss(self) -> float:
        """Log loss after calibration, in nats, on rows that the fit has not seen."""
        return self.found.after.log_loss

    def correct(self) -> CorrectedValues:
        """Correct the field's values with the labels if the model chooses some options too often.

        Uses a multinomial logistic regression on the logarithms of the options' probabilities. The values of the frame
        are not changed: the result shows the differences, and the caller may use its `values`. Sends nothing.

        Raises:
            UsageError: With fewer than 50 labels of different rows, or labels of only one option.
        """
        return self.correction()

    def plot(self, *, ax: Any = None) -> Any:
        """Plot the reliability diagram, with the number of rows of each bin (see `statistics.Calibration.plot`)."""
        return self.found.plot(title=f"{self.field} against {self.against}", ax=ax)

    def __repr__(self) -> str:
        return strip_control_chars("\n".join(self._lines()))

    def _repr_html_(self) -> str:
        return f"<pre>{escape_html(repr(self))}</pre>"

    def _lines(self) -> list[str]:
        before, after = self.found.before, self.found.after
        head = (
            f"{self.field} against {self.against}: {before.count:,} labels, {before.accuracy:.1%} right, stated "
            f"confidence {before.stated:.1%} ({self.source}); calibrated by {self.method!r}, kept as {self.name!r}"
        )
        rows = [
            f"{name:<11} excess ECE {each.excess:+.3f} ({each.excess_low:+.3f} to {each.excess_high:+.3f})   "
            f"ECE {each.ece:.3f}   Brier {each.brier:.3f}   log loss {each.log_loss:.3f}"
            for name, each in (("as stated", before), ("calibrated", after))
        ]
        return [head, *rows, "Figures after calibration are of rows that the fit has not seen. No value was changed."]


def calibration_of(table: Table, against: Any, field: str | None, name: str | None) -> ConfidenceCalibration:
    """Calibrate the confidence of one field of a frame against labels (see `df.llm.calibrate`)."""
    provenance = provenance_of(table)
    if len(provenance.sources) > 1:
        raise PllmError("Several runs made the rows of this frame; calibrate the rows of one.")
    (source,) = provenance.sources
    run = source.run
    positions = np.flatnonzero(provenance.source == 0)
    known = stated_probabilities_of(run, provenance.row[positions].tolist())
    made = {column.name: column for column in source.made}
    columns = {
        column: made[column] for column, p in known.confidence.items() if column in made and not np.isnan(p).all()
    }
    prefix = _prefix(run)
    fields = {column.removeprefix(prefix): each for column, each in columns.items()}
    labels, named_field = label_column(table, against, fields, field, tuple(made))
    named = "labels" if labels.name is None else str(labels.name)
    chosen = _chosen(list(fields), field or named_field, named, prefix)
    column = prefix + chosen
    cells = table.column_data([column])
    answers, truths = plain_values(cells.values[0]), plain_values(labels.values)
    for what, values in ((column, answers), (named, truths)):
        check_single(what, values)
    stated = np.full(table.total, np.nan)
    stated[positions] = known.confidence[column]
    stated[provenance.changed] = np.nan
    used = np.flatnonzero(~np.isnan(stated) & ~np.array(labels.missing, dtype=bool) & ~provenance.examples)
    said = [None if cells.missing[0][row] else answers[row] for row in used.tolist()]
    true = [truths[row] for row in used.tolist()]
    if true:
        check_known(columns[column], named, true, said)
    right = np.array([one == other for one, other in zip(said, true, strict=True)], dtype=bool)
    found = calibrate(stated[used], right, provenance.row[used])
    shown = found.calibrator(stated)
    shown[used] = found.out_of_fold
    identity = identity_of_run(run)
    whence = next(part.source for part in known.parts if part.field == column)
    name = default_name(chosen, identity) if name is None else name
    keep(KeptCalibration(name, chosen, whence, identity, found.calibrator, len(used)))
    lines = [{column: None if p != p else p} for p in shown.tolist()]
    confidence = table.frame_library.report({column: CellType.REAL}, lines, table)[column]
    own = [None if missing else value for value, missing in zip(answers, cells.missing[0], strict=True)]
    parts = [part for part in known.parts if part.field == column]
    correction = partial(
        corrected_values, table, parts, positions, provenance.row, own, truths, used, ~np.isnan(stated)
    )
    return ConfidenceCalibration(name, column, named, whence, confidence, found, correction)


def _prefix(run: Any) -> str:
    header = getattr(run, "header", None)
    return str(run.spec.options.prefix if header is None else header["shaping"]["prefix"])


def _chosen(fields: list[str], field: str | None, named: str, prefix: str) -> str:
    """Return the field to calibrate: the given one, the only one, or the one named like the labels."""
    if field is None and len(fields) == 1:
        return fields[0]
    wanted = (named if field is None else field).removeprefix(prefix)
    if wanted in fields:
        return wanted
    if field is None:
        raise UsageError(f"Several fields have a confidence, {fields}. Pass field= with one of them. Nothing was sent.")
    raise UsageError(f"There is no field {field!r} with a confidence among {fields}.{guess(field, fields)}")
