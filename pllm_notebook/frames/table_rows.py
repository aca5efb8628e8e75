"""The rows of a frame for one run, and the frame of their answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import LiveRun, RowRecord, record_of_calls, retry_price
from pllm_notebook.frames.answer_hashes import AnswerHashes
from pllm_notebook.frames.cell_failures import cell_records, cell_texts
from pllm_notebook.frames.decision_inputs import ValueTexts, task_of
from pllm_notebook.frames.dtypes import Column, Kind
from pllm_notebook.frames.evaluation import Evaluation, EvaluationInput, evaluate
from pllm_notebook.frames.evidence_views import Quotation, evidence_lines, quotations_of_row
from pllm_notebook.frames.example_pool import RowPrompt
from pllm_notebook.frames.example_prompts import ExamplePrompts, examples_for
from pllm_notebook.frames.example_selection import RowExamples
from pllm_notebook.frames.hashing import content_hashes
from pllm_notebook.frames.images import MediaPrompts
from pllm_notebook.frames.libraries import table_of, table_to_join
from pllm_notebook.frames.probabilities import least_confidence
from pllm_notebook.frames.provenance import asked_rows, replaceable
from pllm_notebook.frames.response_format import columns_as_before
from pllm_notebook.frames.row_evidence import RowEvidence
from pllm_notebook.frames.row_instruction import InstructedPrompts, RowInstruction
from pllm_notebook.frames.row_question import RowQuestion, chosen_columns
from pllm_notebook.frames.rows import ERROR_COLUMNS, error_rows, prompts_of
from pllm_notebook.frames.samples import add_samples, described, whole_agreement
from pllm_notebook.frames.table import Table
from pllm_notebook.frames.validation_context import RowContexts, contexts_for

__all__ = ["TableRows"]

Build = Callable[[Column, list[Any]], Any]
"""Builds one column (see `FrameLibrary.array`)."""


class TableRows:
    """A table's rows for one run, and the frame of its answers (see `execution.Rows`).

    Args:
        table: The rows. A snapshot is kept, so answers stay with their rows even if the caller's frame changes.
        question: The question about each row.
        alone: Whether the result is only the new column.

    Attributes:
        table: The snapshot.
        asked: Names of the columns that determine a row's answer: those of the prompt and of its context.
        replaced: Names of the columns that the result replaces.
        examples: The examples shown before each row, None for none.
        part_of: The process that the run is a step of, such as "race". "" for a user's own rows.
        whole: Name of all runs started by one call, such as "race 3f2a91c4". "" if the run is the only one.
        contexts: The validation context of each row, None for none.
        evidence: Verification of quotes if rows are sent a second time for missing evidence, otherwise None.
        assembled: Number of the run's ending for which the registry knows the result's values, 0 if there is none.

    Raises:
        NameClashError: Without `replace=True`, if a result column has the name of an existing column whose values are
            not the unchanged answers of an earlier run. Nothing was sent.
    """

    def __init__(self, table: Table, question: RowQuestion, *, alone: bool = False) -> None:
        options, template = question.options, question.template
        self._options = options
        self.shape, self.label, self.template = question.shape, question.label, template
        self.replaced = () if alone else replaceable(table, self.shape.names, options.replace)
        self.table = table = table.snapshot()
        self.total = table.total
        self.alone = alone
        shown = chosen_columns("images=", options.images, table.names) if options.images else []
        names: Sequence[str]
        if template is not None:
            names = template.names
        else:
            unsent = {*self.replaced, *shown, *question.labels}
            names = [name for name in table.names if name not in unsent]
            if options.columns is not None:
                names = chosen_columns("columns=", options.columns, names)
        self._named = table.column_data(names)
        self._shown_media = table.column_data(shown) if shown else None
        instructed = () if question.instruction is None else question.instruction.template.names
        self._instructing = None if question.instruction is None else table.column_data(instructed)
        # These columns determine a row's answer, so their values identify a row.
        self._asked_data = [one for one in (self._named, self._shown_media, self._instructing) if one is not None]
        retries = options.evidence == "retry" and question.output is not None
        self.evidence = RowEvidence(self._named) if retries else None
        self.prompts = self._prompts(prompts_of(self._named, template, options.na), question.instruction)
        self.examples: RowExamples | None = None
        self._shown: ExamplePrompts | None = None
        if question.takes_examples and options.examples is not None:
            row_prompt = RowPrompt(tuple(self._named.names), template, table.is_column)
            self.examples = examples_for(options, row_prompt, question.output)
        if self.examples is not None:
            self.prompts = self._shown = ExamplePrompts(self.prompts, self._named, self.examples)
        self.task, self.inputs = "", self.prompts
        if options.probabilities == "decisions":
            self.task = task_of(template)
            self.inputs = self._judged(question)
        self.asked = tuple(name for data in self._asked_data for name in data.names)
        if sent := [name for name in question.labels if name in self.asked]:
            raise UsageError(
                f"The column {sent[0]!r} is sent to the model, and against= says that it has what is right. Take "
                f"{{{sent[0]}}} out of the prompt. Nothing was sent."
            )
        self.part_of = self.whole = ""
        self.contexts: RowContexts | None = None
        if question.takes_examples and question.output is not None and options.validation_context is not None:
            self.contexts = contexts_for(options.validation_context, table)
            # These columns also determine a row's answer, so they are part of its identity although they are not sent.
            beside = [name for name in self.contexts.columns if name not in self.asked]
            self._asked_data.append(table.column_data(beside))
            self.asked = (*self.asked, *beside)
        self.assembled = 0
        self._content: Any = None
        self._answers: AnswerHashes | None = None
        self.source, self.items = self.prompts.source, self.prompts.items

    def _prompts(self, texts: Any, instruction: RowInstruction | None) -> Any:
        """Add the images and the instruction of each row to the prompts' texts."""
        options = self._options
        prompts = texts
        if self._shown_media is not None:
            prompts = MediaPrompts(
                texts,
                self._shown_media,
                options.na,
                bare=self.template is None and not self._named.names,
                images_from=options.images_from,
                model=options.model,
            )
        if instruction is not None and self._instructing is not None:
            prompts = InstructedPrompts(prompts, instruction.texts(self._instructing, options.na))
        return prompts

    def _judged(self, question: RowQuestion) -> Any:
        """Return the input of a decision endpoint for each row. A row's own instruction is followed by the task."""
        template, instruction = self.template, question.instruction
        data = self._named
        texts: Any = prompts_of(data, None, question.options.na)
        if template is not None:
            texts = ValueTexts(data, template, question.options.na)
        if instruction is not None:
            behind = "\n\n".join(filter(None, ("" if question.output is None else question.output.doc, self.task)))
            instruction = replace(instruction, behind=behind)
        return self._prompts(texts, instruction)

    def assemble(self, run: LiveRun) -> Any:
        """Return the input columns and one column per field, joined by position: same labels, same order."""
        ending = run.ending
        made, origin = self._make(run)
        if ending and self.assembled != ending:
            self._answers, self.assembled = self._hashes(made, origin), ending
        if self.alone:
            return self.table.join_alone(made, origin, explode=self.shape.explode, run_id=run.id)
        return self.table.join(made, origin, self.replaced, explode=self.shape.explode, run_id=run.id)

    def assemble_beside(self, run: LiveRun, df: Any) -> Any:
        """Return the frame *df* with one column per field. Answers are matched by the content of its rows."""
        table = table_to_join(df)
        rows = asked_rows(self.record(run), self.asked, table, run.id)
        made, origin = self._make(run, rows.tolist(), table)
        replaced = replaceable(table, list(made), asked=False)
        return table.join(made, origin, replaced, explode=self.shape.explode, run_id=run.id)

    def check_type(self, run: LiveRun, response_format: Any) -> None:
        """Check that a type has the columns of the result."""
        columns_as_before(response_format, self._options, [column.name for column in self.shape.columns], run.id)

    def described(self, run: LiveRun) -> dict[str, Any]:
        """Return the question and the result's columns for the header in the registry."""
        return {
            "prompt": None if self.template is None else self.template.source,
            "template": None if self.template is None else [self.template.literals, self.template.names],
            **described(run, self.shape, self._options),
            **({} if self.examples is None else {"examples": self.examples.described}),
            **({"part_of": self.part_of} if self.part_of else {}),
            **({"whole": self.whole} if self.whole else {}),
        }

    def record(self, run: LiveRun, *, whole: bool = False) -> RowRecord:
        """Return the registry's record of each row, in the run's current state.

        Args:
            run: The run of these rows.
            whole: Whether to build the values of the result if they have not been built.
        """
        if self._content is None:
            self._content = content_hashes(self._asked_data, self.total)
        record = record_of_calls(run.table, self._content, packed=run.spec.pack is not None)
        if self._answers is not None and self.assembled == run.ending:
            record.answers, record.origin = self._answers.all()
        elif whole:
            record.answers, record.origin = self._hashes(*self._make(run)).all()
        record.example = self.taken
        record.second = None if self.evidence is None else self.evidence.record(run)
        add_samples(record, run)
        return record

    @property
    def taken(self) -> Any:
        """Whether each row or a near-duplicate was an example, shape (n_rows,); None without examples."""
        return None if self._shown is None else self._shown.taken

    def name_of(self, row: int) -> str:
        """Return a row's label, as text."""
        return str(self.table.label(row))

    def quoted(self, run: LiveRun, row: int) -> tuple[str, ...]:
        """Return the evidence for a row's answer as text, one line per field."""
        return evidence_lines(run, row, self.table, self.asked, row)

    def quotations(self, run: LiveRun, row: int) -> Sequence[Quotation]:
        """Return the evidence for a row's answer, empty if the run did not ask for any."""
        return quotations_of_row(run, row, self.table, self.asked, row)

    def confidence(self, run: LiveRun, row: int) -> float | None:
        """Return the confidence of a row's least certain value, None if unknown."""
        return least_confidence(run, [row])[0] if run.spec.options.probabilities else None

    def cells(self, row: int) -> list[Any]:
        """Return the values that determine a row's answer, in the order of `asked`."""
        return [values[row] for data in self._asked_data for values in data.values]

    def errors(self, run: LiveRun) -> Any:
        """Return a frame with one line per failed row, or field without a value, by position."""
        failed = [*error_rows(run), *cell_records(run, range(self.total))]
        failed.sort(key=lambda record: record["position"])
        records = [record | {"label": self.table.label(record["position"])} for record in failed]
        library, progress = self.table.frame_library, run.progress()
        price = retry_price(progress.cost_usd, progress.done, 1)
        return library.with_error_head(library.report(ERROR_COLUMNS, records), price)

    def evaluate(self, run: LiveRun, against: Any, field: str | None) -> Evaluation:
        """Compare a field of the answers with labels."""
        result = table_of(run.to_frame())
        assert result is not None
        return evaluate(self.table, result, EvaluationInput.of(run, self.shape), against, field)

    def _hashes(self, made: Mapping[str, Any], origin: Sequence[int]) -> AnswerHashes:
        return AnswerHashes(self.table.frame_library, made, origin if self.shape.explode else None)

    def _make(
        self, run: LiveRun, rows: Sequence[int] | None = None, table: Table | None = None
    ) -> tuple[dict[str, Any], Sequence[int]]:
        """Build the result's columns, and return them with the row of each line.

        Args:
            run: The run of these rows.
            rows: The run's row for each row of *table*, -1 for no row. None for all rows of the run, in order.
            table: The table that the columns will be joined to. None for the run's own.
        """
        shape, build = self.shape, (table or self.table).frame_library.array
        columns, origin = shape.table(run.table, rows)
        made = {column.name: build(column, values) for column, values in zip(shape.columns, columns, strict=True)}
        lines = origin if rows is None else [rows[at] for at in origin]
        if (name := shape.agreement_column) is not None:
            made[name] = build(Column(name, Kind.REAL), _at(whole_agreement(run), lines))
        if (name := shape.confidence_column) is not None:
            made[name] = build(Column(name, Kind.REAL), least_confidence(run, lines))
        return made | self._made_messages(run, lines, build), origin

    def _made_messages(self, run: LiveRun, lines: Sequence[int], build: Build) -> dict[str, Any]:
        name = self.shape.error_column
        if name is None:
            return {}
        messages = self.shape.messages(run.table)
        for row, text in cell_texts(run, range(self.total)).items():
            messages[row] = text
        return {name: build(Column(name, Kind.TEXT), _at(messages, lines))}


def _at(values: Sequence[Any], rows: Sequence[int]) -> list[Any]:
    """Return the values of some rows, None for row -1."""
    return [None if row < 0 else values[row] for row in rows]
