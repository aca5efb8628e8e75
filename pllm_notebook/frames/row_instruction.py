"""An instruction (`system=`) that names columns, so that each row has its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import instruction_for
from pllm_notebook.failures import Failure
from pllm_notebook.frames.rows import ColumnData, LazyPrompts, RowPrompts, prompts_of
from pllm_notebook.messages_types import Dialogue, Prompt, Turn
from pllm_notebook.schema import OutputType
from pllm_notebook.settings import Options
from pllm_notebook.templates import Template

__all__ = ["InstructedPrompts", "RowInstruction", "row_instruction"]

Made = Sequence[Prompt | Failure | None]


@dataclass(frozen=True, slots=True)
class RowInstruction:
    """An instruction with columns in it.

    Attributes:
        template: The compiled instruction.
        behind: Text appended to it, such as the type's instruction if there is no prompt; "" for none.
    """

    template: Template
    behind: str

    def texts(self, given: ColumnData, na: str) -> Callable[[range], Sequence[str | Failure | None]]:
        """Build a function that returns the instructions of some rows, None for a row with a missing value.

        Args:
            given: The columns of `template`.
            na: As in `Options`.
        """
        make = prompts_of(given, self.template, na)
        if not self.behind:
            return make
        return lambda rows: [f"{text}\n\n{self.behind}" if isinstance(text, str) else text for text in make(rows)]


def row_instruction(
    options: Options,
    columns: Iterable[object],
    output: OutputType | None,
    *,
    instruct: bool,
    also: Mapping[str, str] | None = None,
    there: str | None = "the frame",
) -> tuple[Options, RowInstruction | None]:
    """Find columns in `options.system`, by the rule of prompts (see `Template.compile`).

    Args:
        options: The resolved options.
        columns: Column names of a row.
        output: The type of the answer.
        instruct: Whether there is no prompt, so that the type is the question.
        also: As for `Template.compile`.
        there: As for `Template.compile`.

    Returns:
        The options for the calls, and the instruction of each row. The latter is None if all rows have the same
        instruction, which stays in the options.

    Raises:
        UsageError: If a name in braces is not a column, or if rows share a call. Nothing was sent.
    """
    if options.system is None or "{" not in options.system:
        return options, None
    template = Template.compile(options.system, columns, also=also, named_by="system=", there=there)
    if not template.names:
        return replace(options, system=template.literals[0]), None
    if options.pack is not None and options.pack > 1:
        raise UsageError(
            f"system= names the column {template.names[0]!r}, and rows that share a call (pack=) share its "
            f"instruction. Put the column into the prompt, or remove pack=. Nothing was sent."
        )
    behind = instruction_for(options, output) if instruct else ""
    return replace(options, system=None), RowInstruction(template, behind)


class InstructedPrompts:
    """A run's prompts, each with its own instruction. A row without a prompt or an instruction is skipped.

    Args:
        prompts: The prompt of each row.
        instructions: Returns the instructions of some rows.
    """

    def __init__(self, prompts: RowPrompts, instructions: Callable[[range], Sequence[str | Failure | None]]) -> None:
        self._prompts = prompts
        self._instructions = instructions
        self.source, self.items = prompts.source, prompts.items

    def __call__(self, rows: range) -> Made:
        return _LazyInstructed(self._prompts(rows), self._instructions(rows))


class _LazyInstructed(LazyPrompts):
    """Prompts, each with its own instruction."""

    def _made(self, at: int) -> Prompt | Failure | None:
        instruction = self._beside[at]
        prompt = self._prompts[at] if isinstance(instruction, str) else instruction
        if prompt is None or isinstance(prompt, Failure):
            return prompt
        assert isinstance(instruction, str)
        assert isinstance(prompt, (str, Dialogue))
        turns = (Turn("user", prompt),) if isinstance(prompt, str) else prompt.turns
        return Dialogue(turns, instruction)
