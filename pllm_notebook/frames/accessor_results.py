"""What `.llm` reports about the rows of a frame: their run, status, errors, usage, samples and evaluation."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import Explanation, Run
from pllm_notebook.frames import result_views
from pllm_notebook.frames.evaluation import Evaluation
from pllm_notebook.frames.libraries import table_of
from pllm_notebook.frames.recorded_run import RecordedRun
from pllm_notebook.frames.table import Table

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

    def _repr_html_(self) -> str:
        return result_views.as_html(self._table())

    @property
    def run(self) -> Run | RecordedRun:
        """The run that made this frame: by its run id, else by its columns and the content of its rows.

        Raises:
            PllmError: When no run is known that made it as it is, or several did.
        """
        return result_views.run_of(self._table())

    @property
    def errors(self) -> FrameT:
        """The rows of this frame that failed, one a line.

        Columns: position and label in this frame; kind, message, attempts, raw, cost_usd (NA for unknown); what the
        provider said of a call: status, field (of the request, that it rejected), request_id; and the beginning of the
        prompt.

        Raises:
            PllmError: When no row of this frame is of a run that is known.
        """
        errors: FrameT = result_views.errors(self._table())
        return errors

    @property
    def status(self) -> ColumnT:
        """What became of each row of this frame: ok, cached, failed, not_sent, skipped, pending or changed.

        `not_sent` are rows for which `max_cost_usd` left no money; with a higher one the cell goes on from there.
        Changed is a row whose result columns do not hold what the run answered: it was corrected by hand, or the run
        was retried since. A row whose own content is not one that the run was asked about (a cell was changed, or the
        row came from elsewhere) is NA.

        Raises:
            PllmError: When no row of this frame is of a run that is known.
        """
        status: ColumnT = result_views.status(self._table())
        return status

    @property
    def usage(self) -> FrameT:
        """Tokens, US dollars and seconds for each row of this frame; NA for unknown, and for a row of no run.

        Cached rows show what they cost when they were paid; rows that shared a call show it each. Of a run that is not
        held any more, rows whose answer took several replies are NA.

        Raises:
            PllmError: When no row of this frame is of a run that is known.
        """
        usage: FrameT = result_views.usage(self._table())
        return usage

    @property
    def samples(self) -> FrameT:
        """The answers behind each decision: a line for each row and sample, those that were decided on first.

        Columns: position and label in this frame, model, sample, chosen (whether the row has this answer; no sample's
        where the judge wrote it), decided (how: see `ensemble.Decision`), the fields, score (a judge's mean mark) and
        failure. Of a run that is not held any more they are read from the cache: values are those of the replies as
        JSON, scores are NA, and of a failure there is the kind.

        Raises:
            PllmError: When the run had one answer a row, or is not known.
        """
        samples: FrameT = result_views.samples(self._table())
        return samples

    @property
    def agreement(self) -> AgreementT:
        """The share of samples that agree: one line a row, a column for each field and one for the whole answer.

        Of the samples that came, those that have the most common value; NA where none came, and for a row of no run.
        Float64, 0 to 1. `.plot()` shows where the model is unsure.

        Raises:
            PllmError: When the run had one answer a row, or is not known.
        """
        agreement: AgreementT = result_views.agreement(self._table())
        return agreement

    def evaluate(self, against: Any, field: str | None = None) -> Evaluation:
        """Compare a field of the answers, as they stand in this frame, with labels that are known. Sends nothing.

        Only rows that have a label and an answer count; the others are left out, and their number is told. Values are
        compared as they are, an Enum by its value. An answer that was corrected by hand counts as corrected.

        Args:
            against: Name of a column of this frame, or a Series, aligned by its index. NA is no label.
            field: Name of the field. None for the only one, or the one that is named as the labels are.

        Returns:
            accuracy, kappa, report (precision and recall of each class), confusion, plot(), and for several samples
            by_samples: what fewer of them would have given.

        Raises:
            UsageError: When no label is a value that the field can have, or nothing can be compared.
            PllmError: When no row of this frame is of a run that is known.
            MissingPackageError: Without scikit-learn.
        """
        return result_views.evaluation(self._table(), against, field)

    def explain(self, position: int) -> Explanation:
        """Show everything about one row's call: prompt, body, raw reply, attempts, tokens, cost, key.

        Args:
            position: The row of this frame, counted from 0 whatever the index is; negative from the end.

        Raises:
            PllmError: When that row is of no run that is known.
            UsageError: For a row that is not there.
        """
        return result_views.explain(self._table(), position)
