"""`.llm` of a whole frame: the methods of other accessors, a judge over columns of answers, and long documents."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Unpack

from pllm_notebook.callers import Caller, caller
from pllm_notebook.exceptions import UnknownColumnError, UsageError
from pllm_notebook.execution import (
    LiveRun,
    Run,
    RunBudget,
    StepsDisplay,
    awaiting,
    blocking,
    handle_of,
    options_for,
    start,
)
from pllm_notebook.formatting import counted
from pllm_notebook.frames.accessor import submit_piece
from pllm_notebook.frames.accessor_results import AgreementT, ColumnT, FrameT
from pllm_notebook.frames.choice_accessor import ChoiceAccessor
from pllm_notebook.frames.deciding_rows import DecidingRows
from pllm_notebook.frames.judge import judge_for
from pllm_notebook.frames.long_documents import Reduction, Step, chunk_rows
from pllm_notebook.frames.response_format import NOT_GIVEN, format_of, output_of
from pllm_notebook.frames.result_columns import ResultColumns
from pllm_notebook.frames.row_instruction import row_instruction
from pllm_notebook.frames.row_question import RowQuestion, chosen_columns, template_for
from pllm_notebook.options import DecideOptions, Options, ParseOptions, is_number, taken_by
from pllm_notebook.signatures import shows
from pllm_notebook.templates import require_text

__all__ = ["FrameAccessor"]


class FrameAccessor(ChoiceAccessor[FrameT, ColumnT, AgreementT]):
    """`.llm` of a whole frame, which can also decide between columns, and cut and combine long texts."""

    @shows(taken_by(Options, "decide"), defaults={"column": "decision"})
    def decide(
        self, answers: Sequence[str], prompt: str, response_format: Any = None, **options: Unpack[DecideOptions]
    ) -> FrameT:
        """Let a judge decide between answers that are already in columns.

        Rows whose answers agree, or that have only one, are decided without a call. Blocks until done.

        Args:
            answers: Two or more columns that hold answers to the same question. A missing value is not an answer.
            prompt: The question, with `{column}` as a placeholder for the row's value.
            response_format: Type of the decided answer, which must not have fields. None for text.
            **options: As for `parse`. `judge` or `model` decides, and `column` names the result ("decision").

        Returns:
            The input columns, the decided answer, and the column that it is from (`decision_from`), NA if the judge
            wrote the answer. Same index and order.

        Raises:
            UsageError: If the call is invalid. Nothing was sent.
        """
        frame: FrameT = self.submit_decision(answers, prompt, response_format, **options).result()
        return frame

    @shows(taken_by(Options, "decide"), defaults={"column": "decision"}, as_for=decide)
    async def adecide(
        self, answers: Sequence[str], prompt: str, response_format: Any = None, **options: Unpack[DecideOptions]
    ) -> FrameT:
        """Run `decide` and await its result. Cancelling stops the run."""
        frame: FrameT = await self.submit_decision(answers, prompt, response_format, **options)
        return frame

    @shows(taken_by(Options, "decide"), defaults={"column": "decision"}, as_for=decide)
    def submit_decision(
        self, answers: Sequence[str], prompt: str, response_format: Any = None, **options: Unpack[DecideOptions]
    ) -> Run:
        """Start `decide` in the background and return a live handle immediately.

        Returns:
            A `Run`: `result()` or `await` returns the frame, `to_frame()` the rows so far, and `cancel()` stops it.

        Raises:
            UsageError: If the call is invalid. Nothing was sent.
        """
        given: dict[str, Any] = {"column": "decision", **options}
        kind = format_of(NOT_GIVEN if response_format is None and "kind" in given else response_format, given, "decide")
        resolved = options_for(given)
        if isinstance(answers, str) or len(answers) < 2:
            raise UsageError(f"decide takes two or more columns of answers, not {answers!r}. Nothing was sent.")
        table = self._table()
        names = chosen_columns("answers=", answers, table.names)
        output = output_of(kind, resolved)
        resolved, instruction = row_instruction(resolved, table.names, output, instruct=False)
        spec = judge_for(resolved, output)
        template = template_for(prompt, table, instructed=instruction is not None)
        question = RowQuestion(template, ResultColumns(output, resolved), resolved, "decision", instruction)
        return handle_of(start(spec, DecidingRows(table, names, question)))

    def chunks(self, column: str, *, tokens: int = 2000, overlap: int = 0, prefix: str = "") -> FrameT:
        """Cut a column of long texts into pieces, one row per piece. Sends nothing.

            pieces = df.llm.chunks("text", tokens=1000)

        A text is cut between paragraphs if that suffices, otherwise between sentences, words or characters. Needs the
        extra `documents`.

        Args:
            column: The column of texts.
            tokens: Maximum tokens of a piece, counted as four bytes of UTF-8 each.
            overlap: Number of tokens at the end of a piece that the next piece repeats.
            prefix: Prefix of the names of the two new columns.

        Returns:
            The frame with the pieces in *column* (string), and two new columns: `document`, the position of the row
            that a piece is from, and `chunk`, its number in the document, both from 0, Int64. The other cells of a row
            are repeated, and so is its index. A missing text becomes one row with a missing piece.

        Raises:
            UsageError: If the column does not exist or holds something other than text, or *overlap* is not less than
                *tokens*.
            MissingPackageError: If the extra is not installed.
        """
        table = self._table()
        if column not in table.names:
            raise UnknownColumnError(column, table.names, "chunks")
        frame: FrameT = chunk_rows(table, column, tokens=tokens, overlap=overlap, prefix=prefix)
        return frame

    @shows(taken_by(Options, "parse"))
    def reduce(
        self,
        prompt: str,
        by: str | Sequence[str] = "document",
        response_format: Any = None,
        *,
        tokens: int = 50_000,
        **options: Unpack[ParseOptions],
    ) -> FrameT:
        r"""Combine the values of a column into one answer for each document.

            pieces = df.llm.chunks("text").llm.complete("Summarise:\n{text}", column="summary")
            pieces.llm.reduce("Combine these summaries into one:\n{summary}")

        All values of a document are sent in one call, in the order of the rows (or of the pieces, if the frame has the
        columns of `chunks`). If together they exceed *tokens*, groups of consecutive values are combined first with the
        same prompt, and then their answers, in as many steps as needed. All steps share the ceiling and the cache.
        Blocks until done.

        Args:
            prompt: Text with the one `{column}` whose values are combined.
            by: The column or columns that identify a row's document. Its rows need not be adjacent.
            response_format: Type of the answer, as for `parse`. None for text. A second step combines answers, so the
                prompt must make sense for them too; answers with several fields are JSON there.
            tokens: Maximum tokens of the values in one call, counted as four bytes of UTF-8 each.
            **options: As for `parse`.

        Returns:
            One row per document, in order of first appearance: the columns of *by*, the values as sent, and the
            answer's columns (`column`, "answer", for text). A document with a missing value is not sent, since an
            answer from the rest would look complete: it has NA, and a warning counts such documents.

        Raises:
            UsageError: If the call is invalid, a piece in the middle of a document is missing, or no two values fit
                into one call.
        """
        reduction, called_by = self._reduction(prompt, by, response_format, tokens, {**options}), caller()
        try:
            combined: FrameT = blocking(reduction.steps())
        finally:
            reduction.display.abandon()
        _warn_of_broken(reduction, called_by)
        return combined

    @shows(taken_by(Options, "parse"), as_for=reduce)
    async def areduce(
        self,
        prompt: str,
        by: str | Sequence[str] = "document",
        response_format: Any = None,
        *,
        tokens: int = 50_000,
        **options: Unpack[ParseOptions],
    ) -> FrameT:
        """Run `reduce` and await its result. Cancelling stops the current step."""
        reduction, called_by = self._reduction(prompt, by, response_format, tokens, {**options}), caller()
        try:
            combined: FrameT = await awaiting(reduction.steps())
        finally:
            reduction.display.abandon()
        _warn_of_broken(reduction, called_by)
        return combined

    def _reduction(
        self, prompt: str, by: str | Sequence[str], response_format: Any, tokens: int, given: dict[str, Any]
    ) -> Reduction:
        if not is_number(tokens, whole=True) or tokens < 1:
            raise UsageError(f"tokens is a whole number of at least 1, not {tokens!r}. Nothing was sent.")
        table = self._table()
        require_text(prompt)
        if not by or not isinstance(by, (str, list, tuple)):
            raise UsageError(f"by= is the name of a column, or a list of them, not {by!r}. Nothing was sent.")
        names = chosen_columns("by=", [by] if isinstance(by, str) else list(dict.fromkeys(by)), table.names)
        parts = [name for name in template_for(prompt, table).names if name not in names]
        if len(parts) != 1:
            raise UsageError(
                f"reduce combines the values of one column, and the prompt names {parts or 'none'} beside {names}. "
                f"Nothing was sent."
            )
        options = options_for({**given})
        if options.explode or options.wait is False:
            raise UsageError("reduce gives one row a document, when all are there: explode and wait=False do not "
                             "apply. Nothing was sent.")  # fmt: skip
        library = table.frame_library
        # Only the answers of a step go into the next: it would also read other columns, and they would hide a failed
        # row.
        alone = {**given, "error_column": None, "confidence_column": None}
        display, whole = StepsDisplay(bool(options.progress), "reduce"), f"reduce {secrets.token_hex(4)}"

        money = RunBudget(options.max_cost_usd)

        def submit(frame: Any, step: Step) -> LiveRun:
            accessor = library.accessor(frame)
            if step is Step.ONLY:
                return submit_piece(accessor, response_format, prompt, given, money)
            is_last = step is Step.LAST
            asked = {**(given if is_last else alone), "progress": False}
            part_of, shown = ("", display.last()) if is_last else ("reduce", display.step())
            return submit_piece(
                accessor, response_format, prompt, asked, money, part_of=part_of, whole=whole, display=shown
            )

        return Reduction(
            table,
            names,
            parts[0],
            tokens=tokens,
            submit=submit,
            display=display,
        )


def _warn_of_broken(reduction: Reduction, called_by: Caller) -> None:
    if reduction.broken:
        # The result belongs to the last step, so its `.llm.errors` does not have the parts that failed before.
        runs = ", ".join(f"pllm.run({run_id!r}).errors" for run_id in reduction.failed_runs)
        why = f" Why parts failed: {runs}." if runs else ""
        called_by.warn(
            f"{counted(reduction.broken, 'document')} with a part without an answer: not asked about, since an answer "
            f"from the rest would look whole.{why} Run the cell again when all parts are answered."
        )
