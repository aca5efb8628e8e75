"""The rows of a pandas frame for one run, and the frame that their answers become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pllm_notebook.exceptions import UnknownColumnError, UsageError
from pllm_notebook.frames.candidates import whole_agreement
from pllm_notebook.frames.deciding import FROM, Candidates
from pllm_notebook.frames.evaluation import Evaluation, evaluate
from pllm_notebook.frames.images import ShownPrompts
from pllm_notebook.frames.instructions import InstructedPrompts, RowInstruction
from pllm_notebook.frames.pandas_cells import column_names, given_of, named_like
from pllm_notebook.frames.pandas_columns import array_of
from pllm_notebook.frames.rows import error_rows, prompts_of
from pllm_notebook.frames.shapes import Shape
from pllm_notebook.run import Run, find
from pllm_notebook.settings import Options
from pllm_notebook.templates import Template

__all__ = ["RUN_ATTR", "DecidingRows", "PandasRows", "chosen", "template_for"]

# `df.attrs` holds this one string and nothing else: attrs are copied with every operation.
RUN_ATTR = "pllm_run"

_ERROR_DTYPES = {
    "position": "int64",
    "kind": "string",
    "message": "string",
    "attempts": "int64",
    "raw": "string",
    "cost_usd": "Float64",
    "status": "Int64",
    "field": "string",
    "request_id": "string",
    "prompt": "string",
}


class PandasRows:
    """A frame's rows for one run, and the frame that its answers become (see `run.Rows`).

    Args:
        frame: Never copied or changed; only references to its cells are kept.
        template: The compiled prompt, None to send each row as labelled data.
        shape: The result's columns.
        options: As resolved.
        label: For the display.
        instruction: Each row's own, None where all have the same.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        template: Template | None,
        shape: Shape,
        options: Options,
        label: str,
        instruction: RowInstruction | None = None,
    ) -> None:
        earlier = find(frame.attrs.get(RUN_ATTR))
        ours: frozenset[str] = getattr(earlier.rows, "made", frozenset()) if earlier is not None else frozenset()
        shape.check(column_names(frame), ours)
        self.frame = frame
        self.shape = shape
        self.label = label
        self.total = len(frame)
        self.alone = False  # whether the result is the new column alone, as a series
        self.made: frozenset[str] = frozenset(shape.names) | ours
        columns = column_names(frame)
        shown = chosen("images=", options.images or (), columns)
        if template is not None:
            names: Sequence[str] = template.names
        else:
            names = [name for name in columns if name not in ours and name not in shown]
            if options.columns is not None:
                names = chosen("columns=", options.columns, names)
        texts = prompts_of(given_of(frame, names), template, options.na)
        self.prompts: Any = texts
        if shown:
            bare = template is None and not names
            self.prompts = ShownPrompts(texts, given_of(frame, shown), options.na, bare=bare)
        if instruction is not None:
            told = instruction.texts(given_of(frame, instruction.template.names), options.na)
            self.prompts = InstructedPrompts(self.prompts, told)
        self.source, self.items = self.prompts.source, self.prompts.items

    def assemble(self, run: Run) -> Any:
        """Return the input columns and one column per field; same index, same order, set by position."""
        shape = self.shape
        columns, origin = shape.table(run.ledger)
        made: dict[str, Any] = {}
        for column, values in zip(shape.columns, columns, strict=True):
            made[column.name] = array_of(column, values)
        if shape.agreement_column is not None:
            shares = whole_agreement(run)
            made[shape.agreement_column] = pd.array([shares[row] for row in origin], dtype="Float64")
        if shape.error_column is not None:
            messages = shape.messages(run.ledger)
            made[shape.error_column] = pd.array([messages[row] for row in origin], dtype="string")
        return self._beside(made, origin, run)

    def _beside(self, made: dict[str, Any], origin: Sequence[int], run: Run) -> Any:
        """Put the made columns beside the input's; *origin* has the input row of each line."""
        frame = self.frame
        out = frame.copy(deep=False) if not self.shape.explode else frame.take(np.array(origin, dtype=np.intp))
        out = out.loc[:, [name not in self.made for name in column_names(out)]]
        # One concat sets all columns at once, and by position: the index is the frame's own object.
        # By position: a column of objects comes as a series, which would be aligned by its labels.
        beside = pd.DataFrame(made, index=pd.RangeIndex(len(out))).set_axis(out.index)
        beside.columns = named_like(out, list(made))
        result: Any = pd.concat([out, beside], axis=1) if made else out
        if self.alone:
            result = result[self.shape.columns[0].name]
        result.attrs = {**frame.attrs, RUN_ATTR: run.id}
        return result

    def name_of(self, row: int) -> str:
        """Give a row's label, as text."""
        return str(self.frame.index[row])

    def errors(self, run: Run) -> pd.DataFrame:
        """Give one line per failed row."""
        records = list(error_rows(run))
        positions = [record["position"] for record in records]
        table = pd.DataFrame(records, columns=list(_ERROR_DTYPES)).astype(_ERROR_DTYPES)
        table.insert(1, "label", pd.Series([self.frame.index[row] for row in positions], dtype="object"))
        return table

    def evaluate(self, run: Run, against: Any, field: str | None) -> Evaluation:
        """Compare a field of the answers with labels."""
        return evaluate(run, self.frame, self.shape, against, field)


class DecidingRows(PandasRows):
    """A frame's rows whose answers stand in columns already, for one run that decides between them.

    Args:
        frame: As for `PandasRows`.
        names: The columns that hold answers.
        template: What was asked.
        shape: The result's one column.
        options: As resolved.
        instruction: What went with the question in each row, None where all have the same.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        names: Sequence[str],
        template: Template,
        shape: Shape,
        options: Options,
        instruction: RowInstruction | None = None,
    ) -> None:
        self._from = shape.columns[0].name + FROM
        shape.names = (*shape.names, self._from)
        super().__init__(frame, template, shape, options, "decision")
        asked = given_of(frame, template.names)
        told = None
        if instruction is not None:
            told = instruction.texts(given_of(frame, instruction.template.names), options.na)
        self._candidates = Candidates(names, given_of(frame, names), asked, template, options, told)
        self.prompts, self.source, self.items = self._candidates.prompts, "", self._candidates.items

    def assemble(self, run: Run) -> Any:
        """Give the input columns, the decided answer, and the column that it is from."""
        decided = [self._candidates.decided(run, row) for row in range(self.total)]
        (column,) = self.shape.columns
        made = {
            column.name: array_of(column, [value for value, _ in decided]),
            self._from: pd.array([name for _, name in decided], dtype="string"),
        }
        if self.shape.error_column is not None:
            made[self.shape.error_column] = pd.array(self.shape.messages(run.ledger), dtype="string")
        return self._beside(made, range(self.total), run)


def template_for(
    prompt: str, frame: pd.DataFrame, series: bool, images: Sequence[str] = (), *, instructed: bool = False
) -> Template:
    """Compile a prompt for a frame's columns.

    Args:
        prompt: Text with `{column}`, and `{value}` for a series' own values.
        frame: Only its columns' names are read.
        series: Whether the frame is a series made into one column.
        images: Columns of images; with them the prompt may be the same for every row.
        instructed: Whether each row has an instruction of its own, with which it may be too.

    Raises:
        UsageError: When it names no column, one that is nearly there, or one of images. Nothing was sent.
    """
    columns = column_names(frame)
    template = Template.compile(prompt, columns, also={"value": columns[0]} if series else None)
    named = next((name for name in template.names if name in images), None)
    if named is not None:
        raise UsageError(
            f"The prompt names the column {named!r}, which images= has shown as an image. Take {{{named}}} out of the "
            f"prompt. Nothing was sent."
        )
    if not template.names and not images and not instructed:
        place = "value" if series else columns[0] if columns else "column"
        raise UsageError(
            f"The prompt names no column, so every row would get the same one. Put {{{place}}} where the data goes, "
            f"or leave the prompt out to send each row's columns as data. Nothing was sent."
        )
    return template


def chosen(option: str, wanted: Sequence[str], names: Sequence[str]) -> list[str]:
    """Give the columns that *option* names, in the order asked for.

    Raises:
        UnknownColumnError: If one is not among *names*. Nothing was sent.
    """
    for name in wanted:
        if name not in names:
            raise UnknownColumnError(name, names, option)
    return list(wanted)
