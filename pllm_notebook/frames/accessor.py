"""The methods of `.llm` that ask about the rows of a frame, whatever its dataframe library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

from pllm_notebook import ensemble
from pllm_notebook.ensemble import EnsembleSpec, Spec
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import (
    CallSpec,
    Estimate,
    LiveRun,
    RequestLines,
    Run,
    RunBudget,
    handle_of,
    options_for,
)
from pllm_notebook.frames.accessor_lab import LabAccessor
from pllm_notebook.frames.accessor_results import AgreementT, ColumnT, FrameT
from pllm_notebook.frames.guarantees import names_of_labels, refuse_in_pieces, with_labels
from pllm_notebook.frames.kept_calibrations import identity_of, named_calibrations
from pllm_notebook.frames.preview import Preview, first_examples
from pllm_notebook.frames.response_format import NOT_GIVEN, format_of, output_of
from pllm_notebook.frames.result_columns import ResultColumns, check_column
from pllm_notebook.frames.row_instruction import row_instruction
from pllm_notebook.frames.row_question import RowQuestion, template_for
from pllm_notebook.frames.table_rows import TableRows
from pllm_notebook.frames.tool_calls import ToolCallColumns, tool_calls_for
from pllm_notebook.options import (
    CallToolsOptions,
    CompleteOptions,
    Options,
    ParseOptions,
    check_row_count,
    refuse_unread,
    taken_by,
)
from pllm_notebook.protocols import Display
from pllm_notebook.settings import refuse_without_tools
from pllm_notebook.signatures import shows
from pllm_notebook.templates import require_text

__all__ = ["LLMAccessor", "asked_columns", "made_columns", "submit_piece"]


class LLMAccessor(LabAccessor[FrameT, ColumnT, AgreementT]):
    """`.llm` of a frame or a column alone; an adapter names the types that its library has for them."""

    @shows(taken_by(Options, "parse"))
    def parse(
        self, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
    ) -> Any:
        r"""Ask the model the same question about every row and return typed columns.

            df.llm.parse(Review, "Read this review:\n{text}", max_cost_usd=5)

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
            rows. A row without an answer has NA in them. The input is not changed. For a series and a type without
            fields: a Series with the same index, named by `prefix` and `column` ("answer"), unless there is a column
            beside it (`error_column`, `agreement_column`).

        Raises:
            UsageError: When the call cannot be carried out as written; nothing was sent.
            ProviderRejectedError: When key, model or quota were refused; what finished is kept.
            KeyboardInterrupt: After an interrupt; what finished is kept, and the next run resumes.
        """
        return self.submit(response_format, prompt, **options).result()

    @shows(taken_by(Options, "parse"), as_for=parse)
    async def aparse(
        self, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
    ) -> Any:
        """Run `parse` and await its result: the notebook's loop stays free. Cancelling stops the run."""
        return await self.submit(response_format, prompt, **options)

    @shows(taken_by(Options, "parse"), as_for=parse)
    def submit(
        self, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
    ) -> Run:
        """Start `parse` in the background and return a live handle at once.

        Returns:
            A `Run`: `result()` or `await` gives the frame, `to_frame()` what there is by now, `cancel()` stops it.

        Raises:
            UsageError: When the call cannot be carried out as written; nothing was sent.
        """
        given: dict[str, Any] = {**options}
        kind = format_of(response_format, given, "parse")
        return handle_of(ensemble.submit(*self._prepare(kind, prompt, given)))

    @shows(taken_by(Options, "complete"))
    def complete(self, prompt: str, column: str = "answer", **options: Unpack[CompleteOptions]) -> Any:
        r"""Ask for plain text into a column.

            df.llm.complete("Summarise in one sentence:\n{text}", "summary")

        Args:
            prompt: Text with `{column}` where a row's values go.
            column: Name of the new column, dtype string.
            **options: As for `parse`.

        Returns:
            The input columns and the new one, same index and order; for a series, the new column alone, as a Series:
            `df["fr"] = df["text"].llm.complete("Translate into French: {value}")`. A row without an answer has NA.

        Raises:
            UsageError: When the call cannot be carried out as written; nothing was sent.
            ProviderRejectedError: When key, model or quota were refused; what finished is kept.
            KeyboardInterrupt: After an interrupt; what finished is kept, and the next run resumes.
        """
        return self.submit_text(prompt, column, **options).result()

    @shows(taken_by(Options, "complete"), as_for=complete)
    async def acomplete(self, prompt: str, column: str = "answer", **options: Unpack[CompleteOptions]) -> Any:
        """Run `complete` and await its result."""
        return await self.submit_text(prompt, column, **options)

    @shows(taken_by(Options, "complete"), as_for=complete)
    def submit_text(self, prompt: str, column: str = "answer", **options: Unpack[CompleteOptions]) -> Run:
        """Start `complete` in the background and return a live handle at once.

        Returns:
            A `Run`: `result()` or `await` gives the frame, `to_frame()` what there is by now, `cancel()` stops it.

        Raises:
            UsageError: When the call cannot be carried out as written; nothing was sent.
        """
        return handle_of(ensemble.submit(*self._prepare(None, prompt, options | {"column": column})))

    @shows(taken_by(Options, "parse"))
    def preview(
        self,
        response_format: Any = NOT_GIVEN,
        prompt: str | None = None,
        *,
        rows: int = 5,
        **options: Unpack[ParseOptions],
    ) -> Preview:
        """Ask about the first rows, and estimate what all rows would cost. Sends at most *rows* calls.

        Args:
            response_format: As for `parse`.
            prompt: As for `parse`.
            rows: Number of rows, from the top; those with a missing value are skipped.
            **options: As for `parse`.

        Returns:
            A `Preview`: `frame` has the first rows with their answers, `estimate` what all rows would send and cost.

        Raises:
            UsageError: If *rows* is not a whole number of at least 1. Nothing was sent.
        """
        check_row_count(rows)
        given: Any = {**options}
        kind = format_of(response_format, given, "preview")
        head = type(self)(self._table().slice(range(rows)).data).parse(kind, prompt, **given)
        spec, whole = self._prepare(kind, prompt, given)
        sent = ensemble.first_bodies(spec, whole) if isinstance(spec, EnsembleSpec) and spec.judging else ()
        return Preview(head, ensemble.estimate(spec, whole), first_examples(spec, whole), sent)

    @shows(taken_by(Options, "parse"), as_for=parse)
    def estimate(
        self, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
    ) -> Estimate:
        """Estimate what `parse` would send and cost, live and as a batch. Sends nothing and needs no key.

        Returns:
            An `Estimate`: rows, cached, duplicates, tokens, cost and time; None where something is unknown.

        Raises:
            UsageError: When the call cannot be carried out as written.
        """
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
            rows: Number of lines. Rows that the cache answers or that wait in a job have none.
            **options: As for `parse`.

        Returns:
            `RequestLines`: `lines`, each the JSON that would be submitted, and `total`, how many there are in all.

        Raises:
            UsageError: When the call cannot be carried out as written.
        """
        given: dict[str, Any] = {**options}
        kind = format_of(response_format, given, "request_lines")
        return ensemble.lines(*self._prepare(kind, prompt, given | {"mode": "batch"}), rows)

    @shows(taken_by(Options, "call_tools"))
    def call_tools(
        self, tools: Sequence[Any], prompt: str | None = None, **options: Unpack[CallToolsOptions]
    ) -> FrameT:
        r"""Ask the model which tools to call for every row, and with what. Runs none of them.

            df.llm.call_tools([refund, escalate], "Handle this message:\n{text}")

        Args:
            tools: Functions (signature and docstring describe them to the model), Pydantic models, `StructuredTool`s,
                or definitions as mappings.
            prompt: Text with `{column}` where a row's values go; None sends the row's columns as data.
            **options: As for `parse`; `tool_choice` ("required" makes every row call one) and `parallel_tool_calls`.

        Returns:
            The input columns, and from the first call `tool` (string) and `arguments` (an instance of the model that
            the tool was made from, else a dict of validated values); `calls` lists all of them, each with id, name,
            arguments and text. With `explode=True` each call has a line of its own, and there is no `calls`. A row
            for which the model called nothing has NA in `tool` and `arguments` and an empty list in `calls`; a row
            without an answer has NA in all three. Arguments that do not fit are requested again (`max_repairs`),
            then are a failure of kind `schema`.

        Raises:
            UsageError: When the call cannot be carried out as written; nothing was sent.
            ProviderRejectedError: When key, model or quota were refused; what finished is kept.
        """
        frame: FrameT = self.submit_calls(tools, prompt, **options).result()
        return frame

    @shows(taken_by(Options, "call_tools"), as_for=call_tools)
    async def acall_tools(
        self, tools: Sequence[Any], prompt: str | None = None, **options: Unpack[CallToolsOptions]
    ) -> FrameT:
        """Run `call_tools` and await its result. Cancelling stops the run."""
        frame: FrameT = await self.submit_calls(tools, prompt, **options)
        return frame

    @shows(taken_by(Options, "call_tools"), as_for=call_tools)
    def submit_calls(self, tools: Sequence[Any], prompt: str | None = None, **options: Unpack[CallToolsOptions]) -> Run:
        """Start `call_tools` in the background and return a live handle at once.

        Returns:
            A `Run`: `result()` or `await` gives the frame, `to_frame()` what there is by now, `cancel()` stops it.

        Raises:
            UsageError: When the call cannot be carried out as written; nothing was sent.
        """
        if tools is None or (isinstance(tools, Sequence) and not tools):
            seen = "got None" if tools is None else "the list is empty"
            raise UsageError(f"call_tools needs at least one tool, and {seen}. Nothing was sent.")
        return handle_of(ensemble.submit(*self._prepare(None, prompt, options | {"tools": tools}, calls=True)))

    def _prepare(
        self, kind: Any, prompt: str | None, given: dict[str, Any], *, calls: bool = False, written: bool = True
    ) -> tuple[Spec, TableRows]:
        """Return what is asked, and the rows; with *written*, of options that this call was given by a person.

        Those of an earlier run, which are asked with again, have what was configured among them.
        """
        refuse_without_tools(given)
        options = options_for(given)
        if written:
            refuse_unread(given, options)
        against = options.against
        if against is not None:
            options = replace(options, against=names_of_labels(against))
        table = self._table()
        if table.is_column and options.images is not None:
            own = table.names[0]
            options = replace(options, images=tuple(own if name == "value" else name for name in options.images))
        if prompt is not None:
            require_text(prompt)
        if prompt is not None and options.columns is not None:
            raise UsageError(
                "columns= cannot be combined with a prompt, which names its own columns. Nothing was sent."
            )
        output = output_of(kind, options)
        also = {"value": table.names[0]} if table.is_column else None
        options, instruction = row_instruction(options, table.names, output, instruct=prompt is None, also=also)
        template = None
        if prompt is not None:
            template = template_for(prompt, table, options.images or (), instructed=instruction is not None)
        if options.columns == () and not (options.images or instruction or not table.names):
            raise UsageError("columns= names no column, so nothing of a row would be sent. Name those that are data, "
                             "or leave it out to send all. Nothing was sent.")  # fmt: skip
        shape = ToolCallColumns(options) if calls else ResultColumns(output, options)
        if written:
            check_column(shape, options, given.get("column"))
        label = "tools" if calls else "text" if output is None else output.name
        # A frame that cannot be asked is refused before the model is resolved: that check costs nothing.
        labels = against.values() if isinstance(against, Mapping) else (against,)
        unsent = tuple(name for name in labels if isinstance(name, str) and name in table.names)
        question = RowQuestion(template, shape, options, label, instruction, unsent, output, takes_examples=not calls)
        rows = TableRows(table, question, alone=table.is_column and shape.single)
        shown = () if rows.examples is None else rows.examples.shared
        instruct = prompt is None and instruction is None  # a row's own instruction contains the type's text
        if calls:
            return tool_calls_for(options, instruct=instruct), rows
        spec = ensemble.spec_for(options, output, instruct=instruct, examples=shown, task=rows.task)
        if against is not None and not isinstance(spec, CallSpec):
            columns = {column.name.removeprefix(options.prefix): column for column in shape.columns}
            spec = with_labels(spec, table, against, columns)
        if options.calibration:
            first = spec if isinstance(spec, CallSpec) else spec.members[0].spec
            source = None if template is None else template.source
            identity = identity_of(source, first.system, output, first.target.label, options)
            named_calibrations(options.calibration, identity)  # an error now, and not once all is paid for
        return spec, rows


def submit_piece(
    accessor: LLMAccessor[Any, Any, Any],
    kind: Any,
    prompt: str | None,
    given: dict[str, Any],
    run_budget: RunBudget,
    *,
    part_of: str = "",
    whole: str = "",
    display: Display | None = None,
) -> LiveRun:
    """Start `parse` for rows that are a piece of something larger, whose pieces share their money.

    Args:
        accessor: `.llm` of the rows.
        kind: The type of the answer.
        prompt: As for `parse`.
        given: The options, as for `parse`.
        run_budget: The money of all pieces.
        part_of: What the run is a step of, such as "race"; "" for rows that are a person's.
        whole: Names all the pieces together, such as "race 3f2a91c4"; "" for nothing.
        display: Shows the run, None for one of its own where the options want one.
    """
    refuse_in_pieces(options_for({**given}))
    spec, rows = accessor._prepare(kind, prompt, {**given}, written=False)
    rows.part_of, rows.whole = part_of, whole
    return ensemble.submit(spec, rows, run_budget, display)


def asked_columns(
    accessor: LLMAccessor[Any, Any, Any], kind: Any, prompt: str | None, given: dict[str, Any]
) -> tuple[str, ...]:
    """Check a question, and return the columns that it is asked about. Sends nothing.

    Raises:
        UsageError: When it cannot be asked as written.
    """
    return accessor._prepare(kind, prompt, {**given}, written=False)[1].asked


def made_columns(
    accessor: LLMAccessor[Any, Any, Any], kind: Any, prompt: str | None, given: dict[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Check a question, and return the columns that its result adds, and those that it would replace. Sends nothing.

    Raises:
        UsageError: When it cannot be asked as written.
    """
    rows = accessor._prepare(kind, prompt, {**given}, written=False)[1]
    return rows.shape.names, rows.replaced
