"""The rows of a pandas frame for one run, and the frame that their answers become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from pllm_notebook.exceptions import UnknownColumnError, UsageError
from pllm_notebook.execution import Run
from pllm_notebook.execution.row_record import RowRecord, record_of_calls
from pllm_notebook.frames.evaluation import Evaluation, EvaluationInput, evaluate
from pllm_notebook.frames.hashing import AnswerPrints
from pllm_notebook.frames.images import MediaPrompts
from pllm_notebook.frames.judge import FROM, CandidateAnswers
from pllm_notebook.frames.pandas.cells import column_data, column_names
from pllm_notebook.frames.pandas.columns import array_of, join_columns
from pllm_notebook.frames.provenance import RUN_ATTR, replaceable
from pllm_notebook.frames.result_columns import ResultColumns
from pllm_notebook.frames.row_content import as_frame, content_hashes
from pllm_notebook.frames.row_instruction import InstructedPrompts, RowInstruction
from pllm_notebook.frames.rows import error_rows, prompts_of
from pllm_notebook.frames.samples import add_samples, described, whole_agreement
from pllm_notebook.settings import Options
from pllm_notebook.templates import Template

__all__ = ["RUN_ATTR", "DecidingRows", "PandasRows", "chosen_columns", "template_for"]


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
        frame: Never changed. What is kept is a copy, lazy where pandas copies on write: whatever becomes of the
            caller's frame meanwhile, the answers stand beside the rows that were asked.
        template: The compiled prompt, None to send each row as labelled data.
        shape: The result's columns.
        options: As resolved.
        label: For the display.
        instruction: Each row's own, None where all have the same.
        alone: Whether the result is the new column alone, as a series.

    Attributes:
        frame: What was asked.
        asked: Names of the columns that go into the prompts, images last.
        replaced: Names of the columns that the result's take the place of.
        assembled: For which of the run's endings the values of the result are known to the registry; 0 for none.

    Raises:
        NameClashError: When the result has the name of a column whose values are not, unchanged, an earlier run's
            answers, without `replace=True`. Nothing was sent.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        template: Template | None,
        shape: ResultColumns,
        options: Options,
        label: str,
        instruction: RowInstruction | None = None,
        *,
        alone: bool = False,
    ) -> None:
        frame = _owned(frame)
        self.replaced = () if alone else replaceable(frame, shape.names, options.replace)
        self.frame = frame
        self.shape = shape
        self.label = label
        self.total = len(frame)
        self.alone = alone
        columns = column_names(frame)
        shown = chosen_columns("images=", options.images or (), columns)
        if template is not None:
            names: Sequence[str] = template.names
        else:
            names = [name for name in columns if name not in self.replaced and name not in shown]
            if options.columns is not None:
                names = chosen_columns("columns=", options.columns, names)
        self._told = [column_data(frame, names)]
        texts = prompts_of(self._told[0], template, options.na)
        self.prompts: Any = texts
        if shown:
            bare = template is None and not names
            self._told.append(column_data(frame, shown))
            self.prompts = MediaPrompts(
                texts, self._told[1], options.na, bare=bare, images_from=options.images_from, model=options.model
            )
        if instruction is not None:
            self._told.append(column_data(frame, instruction.template.names))
            told = instruction.texts(self._told[-1], options.na)
            self.prompts = InstructedPrompts(self.prompts, told)
        self.asked = tuple(name for told in self._told for name in told.names)
        self.assembled = 0
        self.template = template
        self._content: Any = None
        self._options = options
        self._answers = AnswerPrints({}, None)
        self.source, self.items = self.prompts.source, self.prompts.items

    def assemble(self, run: Run) -> Any:
        """Return the input columns and one column per field; same index, same order, set by position."""
        ending = run.endings if run.done() else 0
        made, origin = self._make(run)
        if ending and self.assembled != ending:
            self._answers = AnswerPrints(made, origin if self.shape.explode else None)
            self.assembled = ending
        return self._beside(made, origin, run)

    def described(self, run: Run) -> dict[str, Any]:
        """Return the question and the result's columns, as the header of the registry has them."""
        return {
            "prompt": None if self.template is None else self.template.source,
            "template": None if self.template is None else [self.template.literals, self.template.names],
            **described(run, self.shape, self._options),
        }

    def record(self, run: Run, *, whole: bool = False) -> RowRecord:
        """Return what is to be remembered of each row, as the run stands.

        Args:
            run: Of these rows.
            whole: Whether the values of the result are wanted although nobody has had them yet.
        """
        if self._content is None:
            self._content = content_hashes(self._told, self.total)
        record = record_of_calls(run.ledger, self._content, packed=run.ask.pack is not None)
        if run.done() and self.assembled == run.endings:
            record.answers, record.origin = self._answers.all()
        elif whole:
            made, origin = self._make(run)
            record.answers, record.origin = AnswerPrints(made, origin if self.shape.explode else None).all()
        add_samples(record, run)
        return record

    def _make(self, run: Run) -> tuple[dict[str, Any], Sequence[int]]:
        """Build the result's columns, and for each of its lines the row that it came from."""
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
        return made, origin

    def _beside(self, made: dict[str, Any], origin: Sequence[int], run: Run) -> Any:
        """Put the made columns beside the input's; *origin* has the input row of each line."""
        frame = self.frame
        result: Any
        result, alone = join_columns(frame, made, origin, self.replaced, explode=self.shape.explode)
        if self.alone:
            result = alone.iloc[:, 0]
        result.attrs = {**frame.attrs, RUN_ATTR: run.id}
        return result

    def name_of(self, row: int) -> str:
        """Return a row's label, as text."""
        return str(self.frame.index[row])

    def errors(self, run: Run) -> pd.DataFrame:
        """Return one line per failed row."""
        records = list(error_rows(run))
        positions = [record["position"] for record in records]
        table = pd.DataFrame(records, columns=list(_ERROR_DTYPES)).astype(_ERROR_DTYPES)
        table.insert(1, "label", pd.Series([self.frame.index[row] for row in positions], dtype="object"))
        return table

    def evaluate(self, run: Run, against: Any, field: str | None) -> Evaluation:
        """Compare a field of the answers with labels."""
        return evaluate(self.frame, as_frame(run.to_frame()), EvaluationInput.of(run, self.shape), against, field)


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
        shape: ResultColumns,
        options: Options,
        instruction: RowInstruction | None = None,
    ) -> None:
        self._from = shape.columns[0].name + FROM
        shape.names = (*shape.names, self._from)
        super().__init__(frame, template, shape, options, "decision")
        frame = self.frame
        asked, candidates = column_data(frame, template.names), column_data(frame, names)
        told = None
        if instruction is not None:
            told = instruction.texts(column_data(frame, instruction.template.names), options.na)
        self._candidates = CandidateAnswers(names, candidates, asked, template, options, told)
        self._told.append(candidates)
        self.asked = (*self.asked, *names)
        self.prompts, self.source, self.items = self._candidates.prompts, "", self._candidates.items

    def described(self, run: Run) -> dict[str, Any]:
        """Return the question and the result's columns; most of its answers are in no reply."""
        return super().described(run) | {"answers": "decision"}

    def _make(self, run: Run) -> tuple[dict[str, Any], Sequence[int]]:
        """Build the decided answer, and the column that it is from."""
        decided = [self._candidates.decided(run, row) for row in range(self.total)]
        (column,) = self.shape.columns
        made = {
            column.name: array_of(column, [value for value, _ in decided]),
            self._from: pd.array([name for _, name in decided], dtype="string"),
        }
        if self.shape.error_column is not None:
            made[self.shape.error_column] = pd.array(self.shape.messages(run.ledger), dtype="string")
        return made, range(self.total)


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


def chosen_columns(option: str, wanted: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the columns that *option* names, in the order asked for.

    Raises:
        UnknownColumnError: If one is not among *names*. Nothing was sent.
    """
    for name in wanted:
        if name not in names:
            raise UnknownColumnError(name, names, option)
    return list(wanted)


def _owned(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy that no later change of *frame* reaches: lazy where pandas copies on write, else a real one."""
    lazy = int(pd.__version__.partition(".")[0]) >= 3 or pd.get_option("mode.copy_on_write") is True
    return frame.copy(deep=not lazy)
