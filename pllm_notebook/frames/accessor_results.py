"""What `.llm` reports about the rows of a frame: their run, status, errors, usage, samples and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import Explanation, Run
from pllm_notebook.frames import evidence_views, probability_views, result_views
from pllm_notebook.frames.accessor_summary import summary_html, summary_text
from pllm_notebook.frames.calibrations import ConfidenceCalibration, calibration_of
from pllm_notebook.frames.evaluation import Evaluation
from pllm_notebook.frames.libraries import table_of
from pllm_notebook.frames.recorded_run import RecordedRun
from pllm_notebook.frames.stored_labels import LabelNote, current_user, label_table
from pllm_notebook.frames.table import Table
from pllm_notebook.lab_registry import lab
from pllm_notebook.option_fields import is_number

__all__ = ["AgreementT", "ColumnT", "FrameT", "ResultAccessor"]

FrameT = TypeVar("FrameT")
ColumnT = TypeVar("ColumnT")
AgreementT = TypeVar("AgreementT")


class ResultAccessor(Generic[FrameT, ColumnT, AgreementT]):
    """Reports about a frame's rows; they send nothing.

    Args:
        data: The caller's frame, or one column alone; never changed.
    """

    def __init__(self, data: Any) -> None:
        self._data = data

    def _table(self) -> Table:
        # Read each time: a library may change a frame in place, and keep its accessor.
        table = table_of(self._data)
        if table is None:
            raise UsageError(f"No dataframe library is registered for {type(self._data).__name__}. Nothing was sent.")
        return table

    def __repr__(self) -> str:
        return summary_text(self, self._table())

    def _repr_html_(self) -> str:
        return summary_html(self, self._table())

    @property
    def run(self) -> Run | RecordedRun:
        """The run that made this frame: by its run id, else by its columns and the content of its rows.

        Raises:
            PllmError: When no known run made it as it is, or several did.
        """
        return result_views.run_of(self._table())

    @property
    def errors(self) -> FrameT:
        """The rows of this frame that failed, one a line.

        Columns: position and label in this frame; kind, message, attempts, raw, cost_usd (NA for unknown); what the
        provider reported: status, field (of the request, that it rejected), request_id; and the beginning of the
        prompt.

        Raises:
            PllmError: When no known run made a row of this frame.
        """
        errors: FrameT = result_views.errors(self._table())
        return errors

    @property
    def status(self) -> ColumnT:
        """The status of each row of this frame: ok, cached, failed, not_sent, skipped, pending or changed.

        `not_sent` rows were left when `max_cost_usd` was exhausted; with a higher limit the cell resumes from there.
        `changed` rows have result columns that differ from the run's answers: they were corrected by hand, or the run
        was retried since. A row whose own content is not one that the run was asked about (a cell was changed, or the
        row came from elsewhere) is NA.

        Raises:
            PllmError: When no known run made a row of this frame.
        """
        status: ColumnT = result_views.status(self._table())
        return status

    @property
    def usage(self) -> FrameT:
        """Tokens, US dollars and seconds for each row of this frame; NA for unknown, and for a row that no run made.

        Cached rows show what they cost when they were paid; each row that shared a call shows its cost. For a run
        that is no longer in memory, rows whose answer took several replies are NA.

        Raises:
            PllmError: When no known run made a row of this frame.
        """
        usage: FrameT = result_views.usage(self._table())
        return usage

    @property
    def samples(self) -> FrameT:
        """The answers behind each decision: a line for each row and sample, those that were decided on first.

        Columns: position and label in this frame, model, sample, chosen (whether the row has this answer; False for all
        samples if the judge wrote it), decided (how: see `ensemble.Decision`), the fields, score (a judge's mean mark)
        and failure. For a run that is no longer in memory they are read from the cache: values are those of the replies
        as JSON, scores are NA, and only the kind of a failure is known.

        Raises:
            PllmError: When the run had one answer a row, or is not known.
        """
        samples: FrameT = result_views.samples(self._table())
        return samples

    @property
    def agreement(self) -> AgreementT:
        """The share of samples that agree: one line a row, a column for each field and one for the whole answer.

        The share of the answered samples that have the most common value; NA if there is none, or no run made the row.
        Float64, 0 to 1. `.plot()` shows where the model is unsure.

        Raises:
            PllmError: When the run had one answer a row, or is not known.
        """
        agreement: AgreementT = result_views.agreement(self._table())
        return agreement

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
        They add up to 1, but for a list: there each is the probability that the label is in it. Text has no lines, and
        neither has a row without an answer.

        source is "samples" (the share of the samples that have the option, nothing smoothed), "logprobs" (the model's
        own, of the tokens that lead to it; lists have none) or "fixed" (there is only one option). mass, of "logprobs"
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

    def evaluate(self, against: Any, field: str | None = None) -> Evaluation:
        """Compare a field of the answers, as they are in this frame, with known labels. Sends nothing.

        Only rows that have a label and an answer count; the others are left out and counted. Values are compared as
        they are, an Enum by its value. An answer that was corrected by hand counts as corrected.

        Args:
            against: Name of a column of this frame, or a Series, aligned by its index. NA is not a label. "labels"
                means those of the cache directory (see `label`), where the frame has no such column.
            field: Name of the field. None for the only one, or the one with the name of the labels.

        Returns:
            accuracy, kappa, report (precision and recall of each class), confusion, plot(), and for several samples
            by_samples: what fewer of them would have given.

        Raises:
            UsageError: When no label is a value that the field can have, or nothing can be compared.
            PllmError: When no known run made a row of this frame.
            MissingPackageError: Without scikit-learn.
        """
        return result_views.evaluation(self._table(), against, field)

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

    def compare(self, old: Any, *, against: Any = None, field: str | None = None) -> Any:
        """Compare the answers of this frame with other answers to the same rows. Sends nothing.

        Rows are matched by the content of the columns that the other side was asked about, so that order, index,
        filters and kernels do not matter. Answers of an earlier run are read from the cache.

        Args:
            old: The other side: a frame, a run, a run's id, or a moment, which means the newest earlier run with rows
                and columns of this frame: "previous", a date (as text too, "2026-11-28"), or a timedelta (so long
                ago). Of those runs, one that asked another question is preferred.
            against: Known labels, as for `evaluate`: a paired test then says which side is right more often. None for
                the changes alone.
            field: The field that the labels are of, without a prefix. None for the only one, or the one with their
                name.

        Returns:
            A `Comparison`: shown, it has the changes by field and direction, both distributions, costs, and what
            differs in prompt, schema and options. `.changed` and `.select(field, old, new)` are frames of rows side
            by side, `.by_field`, `.moves` and `.shift` of figures; `.labelled` is the test; `.plot()`.

        Raises:
            UsageError: When *old* or the labels are nothing that can be compared.
            PllmError: When no known run made a row of this frame, or both sides have no row in common.
        """
        return lab().compare_table(self._table(), old, against, field)

    def label(
        self,
        against: Any = None,
        *,
        field: str | None = None,
        columns: Sequence[str] | None = None,
        by: str | None = None,
        drawn_by: str | None = None,
        pi: float | None = None,
    ) -> int:
        """Store what is right about rows as labels in the cache directory. Sends nothing.

        A label is about the content of a row: any frame that has the row finds it, after any prompt and in any kernel,
        as `against="labels"`. `pllm.labels()` lists them.

        Args:
            against: Name of a column of this frame with what is right, or a Series; NA is not a label. None for the
                cells of this frame that were corrected: those whose value is not their run's answer.
            field: The field that the labels are of, without a prefix. None for the one with their name, or for the
                only one.
            columns: Columns that identify a row, as a prompt uses them; None for those that the run of this frame was
                asked about.
            by: Who says so; None for your login name.
            drawn_by: How these rows were chosen, such as "random". Corrected cells are "corrected".
            pi: The chance with which each was drawn, over 0 and at most 1. Without it a label improves the table, and
                is in no interval: rows that were chosen because of their answers are no sample.

        Returns:
            How many labels were stored; equal rows share one.

        Raises:
            UsageError: When it is unclear which field or columns are meant, *pi* is no chance, or no label is a
                value that the field's type has.
            PllmError: Without labels, when no known run made a row of this frame.
            StoreError: When they cannot be written.
        """
        if pi is not None and not (is_number(pi) and 0 < pi <= 1):
            raise UsageError(f"pi is a chance over 0 and at most 1, not {pi!r}. Nothing was stored.")
        note = LabelNote(current_user() if by is None else by, drawn_by, pi)
        return label_table(self._table(), against, field, columns, note)

    def review(
        self,
        fields: Sequence[str] | None = None,
        *,
        order: Literal["doubt", "random", "changed", "disagreement"] = "random",
        n: int = 20,
        random_share: float = 0.2,
        old: Any = None,
        by: str | None = None,
    ) -> Any:
        """Look at answers one by one, and accept or correct each: every decision is a label at once. Sends nothing.

        In a notebook a view with keys is shown; elsewhere `review(…).ask()` asks line by line. The same call again goes
        on where it stopped. Equal rows are shown once.

        Args:
            fields: Which are looked at, without a prefix; None for those whose values are known, else all.
            order: "doubt": least `confidence` first. "disagreement": least `agreement` first. "changed": rows whose
                answer differs from *old*. "random": a uniform sample.
            n: At most so many rows.
            random_share: The share of them that is drawn at random among the others and mixed in, so that figures for
                the whole table stay possible; each label has the chance with which its row was drawn (`pi`).
            old: The other side for "changed", as for `compare`; None for "previous".
            by: Who decides; None for your login name. `pllm.labels().kappa("field", "one", "other")` is how far two
                agree.

        Returns:
            A `Review`: `accept`, `choose`, `skip`, `undo`, `ask`.

        Raises:
            UsageError: For an unknown field or order.
            PllmError: When no known run made a row of this frame, or what the order goes by is not known.
        """
        return lab().review_table(self._table(), fields, order, n, random_share, old, by)

    def recheck(self, response_format: Any = None, *, n: int = 200, **options: Any) -> Any:
        """Ask some rows of this frame again, each twice, and test whether the model still answers as it did.

        Sends 2 * *n* calls at most, which is said before; equal rows are asked once. What a model changes when it is
        asked twice is set apart: without drift, of two equal answers and an odd one the old one is the odd one in a
        third. The same call of the same day goes on where it stopped; the next day's asks again.

        Args:
            response_format: The type that was asked; needed for a run that is no longer in memory.
            n: Number of rows, drawn uniformly.
            **options: As for `parse`, instead of the run's own; `max_cost_usd` is for each of both times.

        Returns:
            A `Drift`: `fields` with their p values, `has_drifted`, the names in which the provider answered then and
            now, and both new `frames`.

        Raises:
            UsageError: When the rows cannot be asked as they were. Nothing was sent.
            PllmError: When no known run made a row of this frame, or it decided among several answers.
        """
        return lab().recheck_table(self._table(), response_format, n, options)

    def explain(self, position: int) -> Explanation:
        """Show everything about one row's call: prompt, body, raw reply, attempts, tokens, cost, key.

        Args:
            position: The row of this frame, counted from 0 whatever the index is; negative from the end.

        Raises:
            PllmError: When no known run made that row.
            UsageError: For a row that does not exist.
        """
        return result_views.explain(self._table(), position)
