"""What is asked about each row of a table, and the columns that a prompt names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pllm_notebook.exceptions import UnknownColumnError, UsageError
from pllm_notebook.frames.result_columns import ResultColumns
from pllm_notebook.frames.row_instruction import RowInstruction
from pllm_notebook.frames.table import Table
from pllm_notebook.schema import OutputType
from pllm_notebook.settings import Options
from pllm_notebook.templates import Template, is_nameable

__all__ = ["RowQuestion", "chosen_columns", "template_for"]


@dataclass(frozen=True, slots=True)
class RowQuestion:
    """What is asked about each row of a table.

    Attributes:
        template: The compiled prompt, None to send each row as labelled data.
        shape: The result's columns.
        options: As resolved.
        label: For the display.
        instruction: Each row's own, None where all have the same.
        labels: Columns that say what is right, which are not sent.
        output: The type of the answer, None for text; examples are read by it.
        takes_examples: Whether the options of examples, and of the validators' context, apply to its rows.
    """

    template: Template | None
    shape: ResultColumns
    options: Options
    label: str
    instruction: RowInstruction | None = None
    labels: tuple[str, ...] = ()
    output: OutputType | None = None
    takes_examples: bool = False


def template_for(prompt: str, table: Table, images: Sequence[str] = (), *, instructed: bool = False) -> Template:
    """Compile a prompt for a table's columns.

    Args:
        prompt: Text with `{column}`, and `{value}` for the values of a column alone.
        table: Only its columns' names are read.
        images: Columns of images; with them the prompt may be the same for every row.
        instructed: Whether each row has an instruction of its own; with it the prompt may also be the same.

    Raises:
        UsageError: If it names no column, one that is nearly there, or one of images. Nothing was sent.
    """
    columns = table.names
    template = Template.compile(prompt, columns, also={"value": columns[0]} if table.is_column else None)
    named = next((name for name in template.names if name in images), None)
    if named is not None:
        raise UsageError(
            f"The prompt names the column {named!r}, which images= already sends as an image. Take {{{named}}} out of "
            f"the prompt. Nothing was sent."
        )
    if not template.names and not images and not instructed:
        if not columns:
            raise UsageError("The frame has no columns, so every row would get the same prompt. Nothing was sent.")
        place = "value" if table.is_column else next(filter(is_nameable, columns), None)
        put = "Rename one that braces can hold" if place is None else f"Put {{{place}}} where the data goes"
        raise UsageError(
            f"The prompt names no column, so every row would get the same one. {put}, "
            f"or leave the prompt out to send each row's columns as data. Nothing was sent."
        )
    return template


def chosen_columns(option: str, wanted: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the columns that *option* names, in that order.

    Raises:
        UsageError: If one is not among *names*, or is named twice. Nothing was sent.
    """
    chosen: list[str] = []
    for name in wanted:
        if name not in names:
            raise UnknownColumnError(name, names, option)
        if name in chosen:
            raise UsageError(f"{option} names column {name!r} twice. Nothing was sent.")
        chosen.append(name)
    return chosen
