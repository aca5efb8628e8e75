"""The methods of `.llm` that report on a frame's rows: run, status, errors, usage, samples and calls."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import Explanation, Run
from pllm_notebook.frames import result_views
from pllm_notebook.frames.accessor_summary import summary_html, summary_text
from pllm_notebook.frames.libraries import table_of
from pllm_notebook.frames.recorded_run import RecordedRun
from pllm_notebook.frames.table import Table

__all__ = ["AgreementT", "ColumnT", "FrameT", "ResultAccessor"]

FrameT = TypeVar("FrameT")
ColumnT = TypeVar("ColumnT")
AgreementT = TypeVar("AgreementT")


class ResultAccessor(Generic[FrameT, ColumnT, AgreementT]):
    """Reports about a frame's rows. They send nothing.

    Args:
        data: The caller's frame or single column. Never changed.
    """

    def __init__(self, data: Any) -> None:
        self._data = data

    def _table(self) -> Table:
        # Read each time, because a library may change a frame in place and keep its accessor.
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
        """The run that made this frame, found by run id, or otherwise by columns and content of rows.

        Raises:
            PllmError: If no known run made the frame as it is now, or several did.
        """
        return result_views.run_of(self._table())

    @property
    def errors(self) -> FrameT:
        """The failed rows of this frame, one per line.

        Columns: position and label in this frame; kind, message, attempts, raw, cost_usd (NA if unknown); the
        provider's status, field (the rejected field of the request) and request_id; and the beginning of the prompt.

        Raises:
            PllmError: If no known run made a row of this frame.
        """
        errors: FrameT = result_views.errors(self._table())
        return errors

    @property
    def status(self) -> ColumnT:
        """The status of each row of this frame: ok, cached, failed, not_sent, skipped, pending or changed.

        `not_sent` rows were left when `max_cost_usd` was reached; with a higher limit the cell resumes from there.
        `changed` rows have result columns that differ from the run's answers: they were corrected by hand, or the run
        has been retried since. NA for a row whose content is not among the run's rows, because a cell was changed or
        the row came from elsewhere.

        Raises:
            PllmError: If no known run made a row of this frame.
        """
        status: ColumnT = result_views.status(self._table())
        return status

    @property
    def usage(self) -> FrameT:
        """Tokens, US dollars and seconds of each row of this frame. NA if unknown, and for rows that no run made.

        Cached rows show what they cost when they were paid, and each row that shared a call shows the call's cost. A
        row with several replies shows their total. For a run that is no longer in memory, such rows are NA if an
        earlier version recorded the run, or if there are more than 200,000 of them.

        Raises:
            PllmError: If no known run made a row of this frame.
        """
        usage: FrameT = result_views.usage(self._table())
        return usage

    @property
    def samples(self) -> FrameT:
        """The answers behind each decision: a line for each row and sample, decided rows first.

        Columns: position and label in this frame, model, sample, chosen (whether the row has this answer; False for all
        samples if the judge wrote it), decided (see `ensemble.Decision`), the fields, score (a judge's mean score) and
        failure. For a run that is no longer in memory, samples are read from the cache: values are the replies' JSON
        values, scores are NA, and only the kind of a failure is known.

        Raises:
            PllmError: If the run had one answer per row, or is unknown.
        """
        samples: FrameT = result_views.samples(self._table())
        return samples

    @property
    def agreement(self) -> AgreementT:
        """The share of samples that agree: one line per row, a column for each field and one for the whole answer.

        It is the share of answered samples with the most common value. NA without answers, or if no run made the row.
        Float64, 0 to 1. `.plot()` shows where the model is uncertain.

        Raises:
            PllmError: If the run had one answer per row, or is unknown.
        """
        agreement: AgreementT = result_views.agreement(self._table())
        return agreement

    def explain(self, position: int | None = None, *, label: Any = None) -> Explanation:
        """Show everything about one row's call: prompt, body, raw reply, attempts, tokens, cost, key.

        Args:
            position: The row's position in this frame, from 0, regardless of the index. Negative from the end.
            label: The row's label in the index, as for `df.loc`, instead of a position. In a frame without an index,
                positions are labels.

        Raises:
            PllmError: If no known run made that row.
            UsageError: For a row that does not exist, and for a label of several rows.
        """
        return result_views.explain(self._table(), position, label)
