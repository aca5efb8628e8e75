"""What `.llm` says about how sure the answers of a frame are, and what they rest on."""

from __future__ import annotations

from typing import Any

from pllm_notebook.frames import evidence_views, probability_views
from pllm_notebook.frames.accessor_results import AgreementT, ColumnT, FrameT, ResultAccessor
from pllm_notebook.frames.calibrations import ConfidenceCalibration, calibration_of
from pllm_notebook.frames.guarantees import RowGuarantee, guarantee_of

__all__ = ["ConfidenceAccessor"]


class ConfidenceAccessor(ResultAccessor[FrameT, ColumnT, AgreementT]):
    """Reports about evidence, probabilities and confidence; they send nothing."""

    @property
    def evidence(self) -> FrameT:
        """The quote that each value rests on: a line for each answered row and field, in this order.

        Columns: row (position in this frame, from 0), field (name of the result column), quote (as the model wrote it,
        NA where it gave none), start and end (of it in the text of the cell, as Python slices it), column (which cell
        it is in) and verified (whether it is in one). A quote is verified where it is in a cell that the row was asked
        about word for word, whatever the white space and the Unicode form; start, end and column are NA where it is
        not. That a quote is there does not mean that it bears out the value.

        Raises:
            PllmError: When the run did not ask for evidence, or is not known.
        """
        evidence: FrameT = evidence_views.evidence(self._table())
        return evidence

    @property
    def probabilities(self) -> FrameT:
        """The probability of each option: a line for each row, field, model and option, in this order.

        Columns: row (position in this frame, from 0, integer), field (name of the result column; `outer.inner` inside
        a nested model), option (as text, `str` of its JSON value; NA is "no value" of an Optional field), p (Float64,
        0 to 1), source, model (as it was asked) and mass. All options of a field have a line, also those with p 0.
        They add up to 1; those of a decision endpoint are as it states them, rounded, so that their sum is .98 to 1.02.
        Of a list each is the probability that the label is in it. Text has no lines, and neither has a row without an
        answer.

        source is "samples" (the share of the samples that have the option, nothing smoothed), "logprobs" (the model's
        own, of the tokens that lead to it; lists have none), "decisions" (as the endpoint states it) or "fixed" (there
        is only one option). mass, of "logprobs"
        alone, is how much of the model's probability fell on an option at all.

        They are computed from the stored replies, also for a run that is no longer in memory. Sends nothing.

        Raises:
            PllmError: When no known run made a row of this frame, or it has no probabilities.
        """
        probabilities: FrameT = probability_views.probabilities(self._table())
        return probabilities

    @property
    def confidence(self) -> FrameT:
        """The probability of each cell's value: one line a row of this frame, a column for each field of the answer.

        Columns have the names of the result's, `outer.inner` for the fields of a nested model that have options, and
        the frame's index. Float64, 0 to 1; never a provider's own `confidence`. Of token probabilities it is that of
        the option that the reply has; with `samples=k`, the share of the samples that gave the cell's value; of several
        models, the mean of theirs. Of a list it is that of the
        label which is least sure to be in it, or not in it. NA for text, a row without an answer, a row that was
        corrected by hand, and a value from a judge or a stronger model. Sends nothing.

        Raises:
            PllmError: When no known run made a row of this frame, or it has no probabilities.
        """
        confidence: FrameT = probability_views.confidence(self._table())
        return confidence

    @property
    def guarantee(self) -> RowGuarantee:
        """What the run of this frame promises by `guarantee=`, and which model answered each row. Sends nothing.

        Raises:
            PllmError: When the run promises nothing, or is not known.
        """
        return guarantee_of(self._table())

    def doubtful(self, rows: int = 20) -> FrameT:
        """Return the rows of this frame whose least sure value is the least sure, those first. Sends nothing.

        Args:
            rows: At most so many; rows without any confidence are left out.

        Returns:
            Rows of this frame with its columns and index, and two more columns: confidence (Float64, of the least sure
            field) and least_sure (that field). `_` is added to a name that the frame has.

        Raises:
            PllmError: When no known run made a row of this frame, or it has no probabilities.
        """
        doubtful: FrameT = probability_views.doubtful(self._table(), rows)
        return doubtful

    def calibrate(self, *, against: Any, field: str | None = None, name: str | None = None) -> ConfidenceCalibration:
        """Calibrate the confidence of one field against labels: how often is a value of .9 right? Sends nothing.

        A line on the logit (Platt) unless a temperature does as well by cross-validated log loss; the confidence as it
        is stated where neither is better; from 1,000 labels an isotonic fit where that is better. Figures are of rows
        that the fit has not seen. The result is kept by name in the cache directory, and changes nothing: neither a
        value nor another run's confidence, unless a `parse` of the same question names it, `calibration=`.

        Assumes that the labelled rows are a uniform draw of those that it is used for. Labels of the doubtful rows
        alone are no such draw. Rows whose value was corrected by hand are left out: label them in another column.

        Args:
            against: Labels, as for `evaluate`.
            field: The result column, without the prefix. None for the only one, or the one with the labels' name.
            name: What `calibration=` names it by; one of that name is replaced. None for the field and the beginning
                of the question's hash.

        Raises:
            UsageError: With fewer than 50 labels of different rows, or when nothing can be compared.
            PllmError: When the run has no probabilities, or is not known.
            MissingPackageError: Without scikit-learn.
        """
        return calibration_of(self._table(), against, field, name)
