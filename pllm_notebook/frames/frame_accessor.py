"""`.llm` of a whole frame: all that `accessor.py` has, and a judge over columns of answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import Run, options_for, start
from pllm_notebook.frames.accessor import LLMAccessor
from pllm_notebook.frames.accessor_results import AgreementT, ColumnT, FrameT
from pllm_notebook.frames.judge import judge_for
from pllm_notebook.frames.response_format import NOT_GIVEN, format_of, output_of
from pllm_notebook.frames.result_columns import ResultColumns
from pllm_notebook.frames.row_instruction import row_instruction
from pllm_notebook.frames.table_rows import DecidingRows, RowQuestion, chosen_columns, template_for
from pllm_notebook.option_fields import taken_by
from pllm_notebook.option_types import DecideOptions
from pllm_notebook.options import Options
from pllm_notebook.signatures import shows

__all__ = ["FrameAccessor"]


class FrameAccessor(LLMAccessor[FrameT, ColumnT, AgreementT]):
    """`.llm` of a whole frame, which can also decide between columns."""

    @shows(taken_by(Options, "decide"), defaults={"column": "decision"})
    def decide(
        self, answers: Sequence[str], prompt: str, response_format: Any = None, **options: Unpack[DecideOptions]
    ) -> FrameT:
        """Let a judge decide between answers that are already in columns.

        Rows whose answers agree, or that have only one, are decided without a call.

        Args:
            answers: Two or more columns that hold answers to the same question; a missing value is not an answer.
            prompt: The question, with `{column}` where a row's values go.
            response_format: Type of the decided answer, one without fields; None for text.
            **options: As for `parse`; `judge` or `model` decides, `column` names the result ("decision").

        Returns:
            The input columns, the decided answer, and beside it (`decision_from`) the column that it is from, NA
            where the judge wrote it.

        Raises:
            UsageError: When the call cannot be carried out as written; nothing was sent.
        """
        frame: FrameT = self.submit_decision(answers, prompt, response_format, **options).result()
        return frame

    @shows(taken_by(Options, "decide"), defaults={"column": "decision"})
    async def adecide(
        self, answers: Sequence[str], prompt: str, response_format: Any = None, **options: Unpack[DecideOptions]
    ) -> FrameT:
        """Run `decide` without blocking: await the result."""
        frame: FrameT = await self.submit_decision(answers, prompt, response_format, **options)
        return frame

    @shows(taken_by(Options, "decide"), defaults={"column": "decision"})
    def submit_decision(
        self, answers: Sequence[str], prompt: str, response_format: Any = None, **options: Unpack[DecideOptions]
    ) -> Run:
        """Start `decide` in the background and return a live handle at once."""
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
        return start(spec, DecidingRows(table, names, question))
