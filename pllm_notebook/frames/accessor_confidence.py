"""The methods of `.llm` for the evidence, probabilities and confidence of a frame's answers."""

from __future__ import annotations

from typing import Any

from pllm_notebook.frames import evidence_views, probability_views
from pllm_notebook.frames.accessor_results import AgreementT, ColumnT, FrameT, ResultAccessor
from pllm_notebook.frames.calibrations import ConfidenceCalibration, calibration_of
from pllm_notebook.frames.guarantees import RowGuarantee, guarantee_of

__all__ = ["ConfidenceAccessor"]


class ConfidenceAccessor(ResultAccessor[FrameT, ColumnT, AgreementT]):
    """Reports about evidence, probabilities and confidence. They send nothing."""

    @property
    def evidence(self) -> FrameT:
        """The quote that supports each value: a line for each answered row and field, in this order.

        Columns: row (position in this frame, from 0), field (name of the result column), quote (as the model wrote it,
        NA for none), start and end (its slice of the cell's text), column (the cell that contains it) and verified
        (whether a cell contains it). A quote is verified if a cell sent for the row contains it word for word, ignoring
        white space and Unicode normalization. Otherwise start, end and column are NA. A verified quote does not
        necessarily support the value.

        Raises:
            PllmError: If the run did not ask for evidence, or is unknown.
        """
        evidence: FrameT = evidence_views.evidence(self._table())
        return evidence

    @property
    def probabilities(self) -> FrameT:
        """The probability of each option: a line for each row, field, model and option, in this order.

        Columns: row (position in this frame, from 0, integer), field (name of the result column; `outer.inner` inside
        a nested model), option (as text, `str` of its JSON value; NA is "no value" of an Optional field), p (Float64,
        0 to 1), source, model (as requested) and mass. All options of a field have a line, including those with p 0.
        Probabilities of a field add up to 1; those of a decision endpoint are rounded by the endpoint, so their sum is
        .98 to 1.02. For a list, each p is the probability that the list contains the label. Text fields and rows
        without an answer have no lines.

        source is "samples" (the share of the samples with the option, without smoothing), "logprobs" (from the model's
        token probabilities; lists have none), "decisions" (as stated by the endpoint) or "fixed" (there is only one
        option). mass, only for "logprobs", is the share of the model's probability that fell on any of the options.

        Computed from the stored replies, also for a run that is no longer in memory. Sends nothing.

        Raises:
            PllmError: If no known run made a row of this frame, or it has no probabilities.
        """
        probabilities: FrameT = probability_views.probabilities(self._table())
        return probabilities

    @property
    def confidence(self) -> FrameT:
        """The probability of each cell's value: one line per row of this frame, one column per field of the answer.

        Columns have the names of the result columns, `outer.inner` for the fields of a nested model that have options,
        and the frame's index. Float64, 0 to 1; never a provider's own `confidence`. With token probabilities, it is the
        probability of the reply's option; with `samples=k`, the share of the samples with the cell's value; with
        several models, the mean over them. For a list, it is the probability of the label whose presence or absence is
        least certain. NA for text, rows without an answer, rows corrected by hand, and values from a judge or a
        stronger model. Sends nothing.

        Raises:
            PllmError: If no known run made a row of this frame, or it has no probabilities.
        """
        confidence: FrameT = probability_views.confidence(self._table())
        return confidence

    @property
    def guarantee(self) -> RowGuarantee:
        """The guarantee of this frame's run (`guarantee=`), and which model answered each row. Sends nothing.

        Raises:
            PllmError: If the run has no guarantee, or is unknown.
        """
        return guarantee_of(self._table())

    def doubtful(self, rows: int = 20) -> FrameT:
        """Return the rows of this frame with the lowest confidence, least certain first. Sends nothing.

        Args:
            rows: Maximum number of rows. Rows without any confidence are left out.

        Returns:
            Rows of this frame with its columns and index, and two more columns: confidence (Float64, of the least
            certain field) and least_sure (that field). `_` is appended to a name that the frame already has.

        Raises:
            PllmError: If no known run made a row of this frame, or it has no probabilities.
        """
        doubtful: FrameT = probability_views.doubtful(self._table(), rows)
        return doubtful

    def calibrate(self, *, against: Any, field: str | None = None, name: str | None = None) -> ConfidenceCalibration:
        """Calibrate the confidence of one field against labels: how often is a value of confidence .9 right?

        The fit is a line on the logit (Platt), unless a temperature is as good by cross-validated log loss. The stated
        confidence is kept if neither is better, and from 1,000 labels an isotonic fit is used if that is better.
        Figures are from rows that the fit has not seen. The result is stored by name in the cache directory and changes
        no value. It changes another run's confidence only if a `parse` of the same question names it (`calibration=`).
        Sends nothing.

        The labelled rows must be a uniform sample of the rows that the calibration is used for; the doubtful rows alone
        are not. Rows whose value was corrected by hand are left out: label them in another column.

        Args:
            against: Labels, as for `evaluate`.
            field: The result column, without the prefix. None for the only one, or the one with the labels' name.
            name: Name for `calibration=`. An existing calibration of that name is replaced. None for the field and the
                beginning of the question's hash.

        Raises:
            UsageError: With fewer than 50 labels of different rows, or when nothing can be compared.
            PllmError: If the run has no probabilities, or is unknown.
            MissingPackageError: If scikit-learn is not installed.
        """
        return calibration_of(self._table(), against, field, name)
