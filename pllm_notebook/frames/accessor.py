"""The methods of `.llm` that ask about the rows of a frame, for every dataframe library."""

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
    """`.llm` of a frame or a single column. An adapter provides its library's types for them."""

    @shows(taken_by(Options, "parse"))
    def parse(
        self, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
    ) -> Any:
        r"""Ask the model the same question about every row and return typed columns.

            df.llm.parse(Review, "Read this review:\n{text}", max_cost_usd=5)

        Calls run concurrently. Equal rows share one call, and cached rows send nothing. Blocks until done, and can be
        interrupted.

        Args:
            response_format: A Pydantic model, any type Pydantic can validate (`bool`, `Literal[…]`, `list[Item]`, a
                dataclass), or a JSON schema as a mapping.
            prompt: Text with `{column}` as a placeholder for the row's value. None: the type's docstring is the
                instruction, and the row's columns are the data.
            **options: `model`, `max_cost_usd`, `errors` and so on (see `options.Options`).

        Returns:
            The input columns and one column per field, with the same index and order: str as string, int as Int64,
            float as Float64, bool as boolean, Literal and Enum as category (as string if a validator of the type may
            change the value), dates as datetime64[us], durations as timedelta64[us], and nested models, lists and
            mappings as dicts and lists (see `nested`, `flatten`, `explode`). The dtype depends only on the type, never
            on the rows. Rows without an answer have NA. The input is not changed. For a series and a type without
            fields, a Series with the same index, named by `prefix` and `column` ("answer"), unless there is another
            result column (`error_column`, `agreement_column`).

        Raises:
            UsageError: If the call is invalid. Nothing was sent.
            ProviderRejectedError: If the key, model or quota was refused. Finished answers are kept.
            KeyboardInterrupt: After an interrupt. Finished answers are kept, and the next run resumes.
        """
        return self.submit(response_format, prompt, **options).result()

    @shows(taken_by(Options, "parse"), as_for=parse)
    async def aparse(
        self, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
    ) -> Any:
        """Run `parse` and await its result, without blocking the notebook's event loop. Cancelling stops the run."""
        return await self.submit(response_format, prompt, **options)

    @shows(taken_by(Options, "parse"), as_for=parse)
    def submit(
        self, response_format: Any = NOT_GIVEN, prompt: str | None = None, **options: Unpack[ParseOptions]
    ) -> Run:
        """Start `parse` in the background and return a live handle immediately.

        Returns:
            A `Run`: `result()` or `await` returns the frame, `to_frame()` the rows so far, and `cancel()` stops it.

        Raises:
            UsageError: If the call is invalid. Nothing was sent.
        """
        given: dict[str, Any] = {**options}
        kind = format_of(response_format, given, "parse")
        return handle_of(ensemble.submit(*self._prepare(kind, prompt, given)))

    @shows(taken_by(Options, "complete"))
    def complete(self, prompt: str, column: str = "answer", **options: Unpack[CompleteOptions]) -> Any:
        r"""Ask for plain text in a new column.

            df.llm.complete("Summarise in one sentence:\n{text}", "summary")

        Args:
            prompt: Text with `{column}` as a placeholder for the row's value.
            column: Name of the new column, dtype string.
            **options: As for `parse`.

        Returns:
            The input columns and the new one, with the same index and order. For a series, only the new column, as a
            Series: `df["fr"] = df["text"].llm.complete("Translate into French: {value}")`. Rows without an answer have
            NA.

        Raises:
            UsageError: If the call is invalid. Nothing was sent.
            ProviderRejectedError: If the key, model or quota was refused. Finished answers are kept.
            KeyboardInterrupt: After an interrupt. Finished answers are kept, and the next run resumes.
        """
        return self.submit_text(prompt, column, **options).result()

    @shows(taken_by(Options, "complete"), as_for=complete)
    async def acomplete(self, prompt: str, column: str = "answer", **options: Unpack[CompleteOptions]) -> Any:
        """Run `complete` and await its result."""
        return await self.submit_text(prompt, column, **options)

    @shows(taken_by(Options, "complete"), as_for=complete)
    def submit_text(self, prompt: str, column: str = "answer", **options: Unpack[CompleteOptions]) -> Run:
        """Start `complete` in the background and return a live handle immediately.

        Returns:
            A `Run`: `result()` or `await` returns the frame, `to_frame()` the rows so far, and `cancel()` stops it.

        Raises:
            UsageError: If the call is invalid. Nothing was sent.
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
        """Ask about the first rows, and estimate the cost of all rows. Sends at most *rows* calls.

        Args:
            response_format: As for `parse`.
            prompt: As for `parse`.
            rows: Number of rows, from the top. Rows with a missing value are skipped.
            **options: As for `parse`.

        Returns:
            A `Preview`: `frame` has the first rows with their answers, `estimate` the calls and cost of all rows.

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
        """Estimate the calls and cost of `parse`, live and as a batch. Sends nothing and needs no key.

        Returns:
            An `Estimate`: rows, cached, duplicates, tokens, cost and time, with None for unknown values.

        Raises:
            UsageError: If the call is invalid.
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
        """Show the first request lines that a batch would submit, with id and body. Sends nothing and needs no key.

        Args:
            response_format: As for `parse`. None for plain text.
            prompt: As for `parse`.
            rows: Number of lines. Cached rows and rows that wait in a job have none.
            **options: As for `parse`.

        Returns:
            `RequestLines`: `lines` with the JSON that would be submitted, and `total`, the number of all lines.

        Raises:
            UsageError: If the call is invalid.
        """
        given: dict[str, Any] = {**options}
        kind = format_of(response_format, given, "request_lines")
        return ensemble.lines(*self._prepare(kind, prompt, given | {"mode": "batch"}), rows)

    @shows(taken_by(Options, "call_tools"))
    def call_tools(
        self, tools: Sequence[Any], prompt: str | None = None, **options: Unpack[CallToolsOptions]
    ) -> FrameT:
        r"""Ask the model which tools to call for every row, and with which arguments. Runs none of them.

            df.llm.call_tools([refund, escalate], "Handle this message:\n{text}")

        Args:
            tools: Functions (signature and docstring describe them to the model), Pydantic models, `StructuredTool`s,
                or definitions as mappings.
            prompt: Text with `{column}` as a placeholder for the row's value. None: the row's columns are sent as data.
            **options: As for `parse`, and `tool_choice` ("required" makes every row call a tool) and
                `parallel_tool_calls`.

        Returns:
            The input columns, and for the first call `tool` (string) and `arguments` (an instance of the tool's model,
            or otherwise a dict of validated values). `calls` lists all calls, each with id, name, arguments and text.
            With `explode=True`, each call has its own line, and there is no `calls`. If the model called nothing for a
            row, it has NA in `tool` and `arguments` and an empty list in `calls`. A row without an answer has NA in all
            three. Invalid arguments are requested again (`max_repairs`), and then are a failure of kind `schema`.

        Raises:
            UsageError: If the call is invalid. Nothing was sent.
            ProviderRejectedError: If the key, model or quota was refused. Finished answers are kept.
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
        """Start `call_tools` in the background and return a live handle immediately.

        Returns:
            A `Run`: `result()` or `await` returns the frame, `to_frame()` the rows so far, and `cancel()` stops it.

        Raises:
            UsageError: If the call is invalid. Nothing was sent.
        """
        if tools is None or (isinstance(tools, Sequence) and not tools):
            seen = "got None" if tools is None else "the list is empty"
            raise UsageError(f"call_tools needs at least one tool, and {seen}. Nothing was sent.")
        return handle_of(ensemble.submit(*self._prepare(None, prompt, options | {"tools": tools}, calls=True)))

    def _prepare(
        self, kind: Any, prompt: str | None, given: dict[str, Any], *, calls: bool = False, written: bool = True
    ) -> tuple[Spec, TableRows]:
        """Return the spec and the rows. *written* says whether a user wrote the options in this call.

        Otherwise they are reused from an earlier run and include the options that were configured then.
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
            raise UsageError("columns= names no column, so nothing of a row would be sent. Name the columns to send, "
                             "or leave it out to send all. Nothing was sent.")  # fmt: skip
        shape = ToolCallColumns(options) if calls else ResultColumns(output, options)
        if written:
            check_column(shape, options, given.get("column"))
        label = "tools" if calls else "text" if output is None else output.name
        # An unusable frame is refused before the model is resolved, because this check costs nothing.
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
            named_calibrations(options.calibration, identity)  # raises now rather than after everything is paid for
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
    """Start `parse` for one piece of a larger set of rows. All pieces share a budget.

    Args:
        accessor: `.llm` of the rows.
        kind: The type of the answer.
        prompt: As for `parse`.
        given: The options, as for `parse`.
        run_budget: The budget of all pieces.
        part_of: The process that the run is a step of, such as "race". "" for a user's own rows.
        whole: Name of all pieces together, such as "race 3f2a91c4". "" for none.
        display: Shows the run. None for its own display, if the options ask for one.
    """
    refuse_in_pieces(options_for({**given}))
    spec, rows = accessor._prepare(kind, prompt, {**given}, written=False)
    rows.part_of, rows.whole = part_of, whole
    return ensemble.submit(spec, rows, run_budget, display)


def asked_columns(
    accessor: LLMAccessor[Any, Any, Any], kind: Any, prompt: str | None, given: dict[str, Any]
) -> tuple[str, ...]:
    """Check a question and return the columns that it uses. Sends nothing.

    Raises:
        UsageError: If the question is invalid.
    """
    return accessor._prepare(kind, prompt, {**given}, written=False)[1].asked


def made_columns(
    accessor: LLMAccessor[Any, Any, Any], kind: Any, prompt: str | None, given: dict[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Check a question and return the columns that its result would add, and those that it would replace.

    Sends nothing.

    Raises:
        UsageError: If the question is invalid.
    """
    rows = accessor._prepare(kind, prompt, {**given}, written=False)[1]
    return rows.shape.names, rows.replaced
