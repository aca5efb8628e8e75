"""The question about each row of a table, and the columns that a prompt names."""

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
    """The question about each row of a table.

    Attributes:
        template: The compiled prompt, None to send each row as labelled data.
        shape: The result's columns.
        options: The resolved options.
        label: Label for the display.
        instruction: The instruction of each row, None if all rows have the same.
        labels: Columns of known labels, which are not sent.
        output: The type of the answer and of examples, None for text.
        takes_examples: Whether the options for examples and for the validation context apply to its rows.
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
        prompt: Text with `{column}` placeholders, or `{value}` for a single column.
        table: The table, of which only the column names are read.
        images: Columns of images. With them, the prompt may be the same for every row.
        instructed: Whether each row has its own instruction. If so, the prompt may be the same for every row.

    Raises:
        UsageError: If the prompt names no column, an unknown column, or a column of images. Nothing was sent.
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
    """Return the columns listed in *option*, in that order.

    Raises:
        UsageError: If a column is not among *names*, or is listed twice. Nothing was sent.
    """
    chosen: list[str] = []
    for name in wanted:
        if name not in names:
            raise UnknownColumnError(name, names, option)
        if name in chosen:
            raise UsageError(f"{option} names column {name!r} twice. Nothing was sent.")
        chosen.append(name)
    return chosen
