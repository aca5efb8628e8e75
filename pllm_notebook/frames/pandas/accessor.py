"""`df.llm` and `series.llm`: the pandas face of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar, Unpack

import pandas as pd

from pllm_notebook import ensemble
from pllm_notebook.ensemble import Spec
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import Estimate, Explanation, RequestLines, Run, options_for, start
from pllm_notebook.frames import accessor_views
from pllm_notebook.frames.evaluation import Evaluation
from pllm_notebook.frames.judge import judge_for
from pllm_notebook.frames.pandas.cells import column_names
from pllm_notebook.frames.pandas.rows import DecidingRows, PandasRows, chosen_columns, template_for
from pllm_notebook.frames.pandas.tool_calls import ToolCallingLLM
from pllm_notebook.frames.preview import Preview
from pllm_notebook.frames.recorded_run import RecordedRun
from pllm_notebook.frames.response_format import NOT_GIVEN, format_of, output_of
from pllm_notebook.frames.result_columns import ResultColumns
from pllm_notebook.frames.row_content import as_frame
from pllm_notebook.frames.row_instruction import row_instruction
from pllm_notebook.frames.samples import Agreement
from pllm_notebook.frames.tool_calls import ToolCallColumns, tool_calls_for
from pllm_notebook.option_fields import taken_by
from pllm_notebook.option_types import CompleteOptions, DecideOptions, ParseOptions
from pllm_notebook.options import Options
from pllm_notebook.signatures import shows

__all__ = ["FrameLLM", "SeriesLLM"]

PandasT = TypeVar("PandasT", pd.DataFrame, "pd.Series[Any]")


class _LLM(ToolCallingLLM, Generic[PandasT]):
    """What both accessors can do."""

    def __init__(self, data: PandasT) -> None:
        self._data: PandasT = data

    def _frame(self) -> pd.DataFrame:
        return as_frame(self._data)

    def _repr_html_(self) -> str:
        return accessor_views.as_html(self._frame())

    @shows(taken_by(Options, "parse"))
    def parse(
        self, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
    ) -> Any:
        """Ask the model the same question of every row and give typed columns.

        Calls run at once on the engine's loop; equal rows share one call; rows that the cache
        answers send nothing. Blocks until done and stays interruptible.

        Args:
            response_format: A Pydantic model, any type Pydantic can validate (`bool`, `Literal[…]`, `list[Item]`, a
                dataclass), or a JSON schema as a mapping.
            prompt: Text with `{column}` where a row's values go. None: the type's docstring is the
                instruction and the row's columns are the data.
            **options: See `options.Options`; `model`, `max_cost_usd`, `errors` and so on.

        Returns:
            The input columns and one column per field, same index and order: str as string, int as Int64, float as
            Float64, bool as boolean, Literal and Enum as category (as string where a validator of the type may change
            the value), dates as datetime64[us], durations as timedelta64[us], nested models, lists and mappings as
            dicts and lists (see `nested`, `flatten`, `explode`). The dtype follows from the type, never from the
            rows. A row without an answer has NA in them. The input is not changed. Of a series and a type without
            fields: a Series of the same index, named by `prefix` and `column` ("answer"), unless a column is to stand
            beside it (`error_column`, `agreement_column`).

        Raises:
            UsageError: When the call cannot be carried out as written; nothing was sent.
            ProviderRejectedError: When key, model or quota were refused; what finished is kept.
            KeyboardInterrupt: After an interrupt; what finished is kept, and the next run goes on.
        """
        return self.submit(response_format, prompt, **options).result()

    @shows(taken_by(Options, "parse"))
    async def aparse(
        self, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
    ) -> Any:
        """Do as `parse` does, awaited: the notebook's loop stays free. Cancelling it stops the run."""
        return await self.submit(response_format, prompt, **options)

    @shows(taken_by(Options, "parse"))
    def submit(
        self, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
    ) -> Run:
        """Start `parse` in the background and return a live handle at once."""
        given: dict[str, Any] = {**options}
        kind = format_of(response_format, given, "parse")
        return ensemble.submit(*self._prepare(kind, prompt, given))

    @shows(taken_by(Options, "complete"))
    def complete(self, prompt: str, column: str = "answer", **options: Unpack[CompleteOptions]) -> Any:
        """Ask for plain text into a column.

        Args:
            prompt: Text with `{column}` where a row's values go.
            column: Name of the new column, dtype string.
            **options: As for `parse`.

        Returns:
            The input columns and the new one, same index and order; of a series, the new column alone, as a Series:
            `df["fr"] = df["text"].llm.complete("Translate into French: {value}")`. A row without an answer has NA.
        """
        return self.submit_text(prompt, column, **options).result()

    @shows(taken_by(Options, "complete"))
    async def acomplete(self, prompt: str, column: str = "answer", **options: Unpack[CompleteOptions]) -> Any:
        """Do as `complete` does, awaited."""
        return await self.submit_text(prompt, column, **options)

    @shows(taken_by(Options, "complete"))
    def submit_text(self, prompt: str, column: str = "answer", **options: Unpack[CompleteOptions]) -> Run:
        """Start `complete` in the background and give a live handle at once."""
        return ensemble.submit(*self._prepare(None, prompt, options | {"column": column}))

    @shows(taken_by(Options, "parse"))
    def preview(
        self,
        response_format: Any = NOT_GIVEN,
        prompt: str | None = None,
        *,
        rows: int = 5,
        **options: Unpack[ParseOptions],
    ) -> Preview:
        """Run the first rows, show them, and say what all rows would cost. Sends at most *rows* calls.

        Args:
            response_format: As for `parse`.
            prompt: As for `parse`.
            rows: How many; they come from the top, and those with a missing value are skipped.
            **options: As for `parse`.
        """
        given: Any = {**options}
        kind = format_of(response_format, given, "preview")
        head = type(self)(self._data.iloc[:rows]).parse(kind, prompt, **given)
        return Preview(head, self.estimate(kind, prompt, **given))

    @shows(taken_by(Options, "parse"))
    def estimate(
        self, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
    ) -> Estimate:
        """Say what `parse` would send and cost, live and as a batch. Sends nothing and needs no key."""
        given: dict[str, Any] = {**options}
        kind = format_of(response_format, given, "estimate")
        return ensemble.estimate(*self._prepare(kind, prompt, given))

    @shows(taken_by(Options, "parse"))
    def request_lines(
        self,
        response_format: Any = NOT_GIVEN,
        prompt: str | None = None,
        *,
        rows: int = 3,
        **options: Unpack[ParseOptions],
    ) -> RequestLines:
        """Show what a batch would submit: the first request lines, id and body. Sends nothing and needs no key.

        Args:
            response_format: As for `parse`; None for plain text.
            prompt: As for `parse`.
            rows: How many lines. What the cache answers or waits in a job already has none.
            **options: As for `parse`.
        """
        given: dict[str, Any] = {**options}
        kind = format_of(response_format, given, "request_lines")
        return ensemble.lines(*self._prepare(kind, prompt, given | {"mode": "batch"}), rows)

    @property
    def run(self) -> Run | RecordedRun:
        """The run that made this frame: by its run id, else by its columns and the content of its rows.

        Raises:
            PllmError: When no run is known that made it as it is, or several did.
        """
        return accessor_views.run_of(self._frame())

    @property
    def errors(self) -> pd.DataFrame:
        """The rows of this frame that failed, one a line.

        Columns: position and label in this frame; kind, message, attempts, raw, cost_usd (NA for unknown); what the
        provider said of a call: status, field (of the request, that it rejected), request_id; and the beginning of the
        prompt.

        Raises:
            PllmError: When no row of this frame is of a run that is known.
        """
        return accessor_views.errors(self._frame())

    @property
    def status(self) -> pd.Series[Any]:
        """What became of each row of this frame: ok, cached, failed, not_sent, skipped, pending or changed.

        `not_sent` are rows for which `max_cost_usd` left no money; with a higher one the cell goes on from there.
        Changed is a row whose result columns do not hold what the run answered: it was corrected by hand, or the run
        was retried since. A row whose own content is not one that the run was asked about (a cell was changed, or the
        row came from elsewhere) is NA.

        Raises:
            PllmError: When no row of this frame is of a run that is known.
        """
        return accessor_views.status(self._frame())

    @property
    def usage(self) -> pd.DataFrame:
        """Tokens, US dollars and seconds for each row of this frame; NA for unknown, and for a row of no run.

        Cached rows show what they cost when they were paid; rows that shared a call show it each. Of a run that is not
        held any more, rows whose answer took several replies are NA.

        Raises:
            PllmError: When no row of this frame is of a run that is known.
        """
        return accessor_views.usage(self._frame())

    @property
    def samples(self) -> pd.DataFrame:
        """The answers behind each decision: a line for each row and sample, those that were decided on first.

        Columns: position and label in this frame, model, sample, chosen (whether the row has this answer; no sample's
        where the judge wrote it), decided (how: see `ensemble.Decision`), the fields, score (a judge's mean mark) and
        failure. Of a run that is not held any more they are read from the cache: values are those of the replies as
        JSON, scores are NA, and of a failure there is the kind.

        Raises:
            PllmError: When the run had one answer a row, or is not known.
        """
        return accessor_views.samples(self._frame())

    @property
    def agreement(self) -> Agreement:
        """The share of samples that agree: one line a row, a column for each field and one for the whole answer.

        Of the samples that came, those that have the most common value; NA where none came, and for a row of no run.
        Float64, 0 to 1. `.plot()` shows where the model is unsure.

        Raises:
            PllmError: When the run had one answer a row, or is not known.
        """
        return accessor_views.agreement(self._frame())

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
        return accessor_views.evaluation(self._frame(), against, field)

    def explain(self, position: int) -> Explanation:
        """Show everything about one row's call: prompt, body, raw reply, attempts, tokens, cost, key.

        Args:
            position: The row of this frame, counted from 0 whatever the index is; negative from the end.

        Raises:
            PllmError: When that row is of no run that is known.
            UsageError: For a row that is not there.
        """
        return accessor_views.explain(self._frame(), position)

    def _prepare(
        self, kind: Any, prompt: str | None, given: dict[str, Any], *, calls: bool = False
    ) -> tuple[Spec, PandasRows]:
        options = options_for(given)
        frame, series = self._frame(), isinstance(self._data, pd.Series)
        if series and options.images is not None:
            own = column_names(frame)[0]
            options = replace(options, images=tuple(own if name == "value" else name for name in options.images))
        if prompt is not None and not isinstance(prompt, str):
            raise UsageError(f"The prompt is text, not {prompt!r}. Nothing was sent.")
        if prompt is not None and options.columns is not None:
            raise UsageError("columns= goes with no prompt; a prompt names its own columns. Nothing was sent.")
        output = output_of(kind, options)
        names = column_names(frame)
        options, told = row_instruction(
            options, names, output, instruct=prompt is None, also={"value": names[0]} if series else None
        )
        template = None
        if prompt is not None:
            template = template_for(prompt, frame, series, options.images or (), instructed=told is not None)
        shape = ToolCallColumns(options) if calls else ResultColumns(output, options)
        label = "tools" if calls else "text" if output is None else output.name
        # A frame that cannot be asked is refused before the model is looked at: it costs nothing to know.
        rows = PandasRows(frame, template, shape, options, label, told, alone=series and shape.single)
        instruct = prompt is None and told is None  # a row's own instruction has the type's words in it
        if calls:
            return tool_calls_for(options, instruct=instruct), rows
        return ensemble.spec_for(options, output, instruct=instruct), rows


class FrameLLM(_LLM[pd.DataFrame]):
    """`df.llm`: ask a language model the same question of every row."""

    @shows(taken_by(Options, "decide"), defaults={"column": "decision"})
    def decide(
        self, answers: Sequence[str], prompt: str, response_format: Any = None, **options: Unpack[DecideOptions]
    ) -> pd.DataFrame:
        """Let a judge decide between answers that are in columns already.

        Rows whose answers agree, or that have only one, are decided without a call.

        Args:
            answers: Two or more columns that hold answers to the same question; a missing one is no answer.
            prompt: The question, with `{column}` where a row's values go.
            response_format: Type of the decided answer, one without fields; None for text.
            **options: As for `parse`; `judge` or `model` is who decides, `column` names the result ("decision").

        Returns:
            The input columns, the decided answer, and beside it (`decision_from`) the column that it is from, NA
            where the judge wrote it.

        Raises:
            UsageError: When the call cannot be carried out as written; nothing was sent.
        """
        frame: pd.DataFrame = self.submit_decision(answers, prompt, response_format, **options).result()
        return frame

    @shows(taken_by(Options, "decide"), defaults={"column": "decision"})
    async def adecide(
        self, answers: Sequence[str], prompt: str, response_format: Any = None, **options: Unpack[DecideOptions]
    ) -> pd.DataFrame:
        """Do as `decide` does, awaited."""
        frame: pd.DataFrame = await self.submit_decision(answers, prompt, response_format, **options)
        return frame

    @shows(taken_by(Options, "decide"), defaults={"column": "decision"})
    def submit_decision(
        self, answers: Sequence[str], prompt: str, response_format: Any = None, **options: Unpack[DecideOptions]
    ) -> Run:
        """Start `decide` in the background and give a live handle at once."""
        given: dict[str, Any] = {"column": "decision", **options}
        kind = format_of(NOT_GIVEN if response_format is None and "kind" in given else response_format, given, "decide")
        resolved = options_for(given)
        frame = self._frame()
        if isinstance(answers, str) or len(answers) < 2:
            raise UsageError(f"decide takes two or more columns of answers, not {answers!r}. Nothing was sent.")
        columns = column_names(frame)
        names = chosen_columns("answers=", answers, columns)
        output = output_of(kind, resolved)
        resolved, told = row_instruction(resolved, columns, output, instruct=False)
        ask = judge_for(resolved, output)
        template = template_for(prompt, frame, series=False, instructed=told is not None)
        return start(ask, DecidingRows(frame, names, template, ResultColumns(output, resolved), resolved, told))


class SeriesLLM(_LLM["pd.Series[Any]"]):
    """`series.llm`: ask a language model the same question of every value, `{value}` in the prompt."""
