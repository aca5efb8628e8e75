"""Runs over a list of items, or a single prompt. The answers are a plain list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pllm_notebook import ensemble
from pllm_notebook.cell_text import is_missing
from pllm_notebook.exceptions import UnknownColumnError, UsageError, guess
from pllm_notebook.execution import LiveRun, RowRecord, options_for, record_of_prompts
from pllm_notebook.failures import Failure
from pllm_notebook.frames.example_pool import RowPrompt
from pllm_notebook.frames.example_prompts import ExamplePrompts, examples_for
from pllm_notebook.frames.images import MediaPrompts
from pllm_notebook.frames.result_columns import ResultColumns
from pllm_notebook.frames.row_instruction import InstructedPrompts, row_instruction
from pllm_notebook.frames.rows import ColumnData, error_rows, prompts_of
from pllm_notebook.frames.samples import add_samples, described
from pllm_notebook.frames.tool_calls import ToolCallColumns, tool_calls_for
from pllm_notebook.options import fields_of, refuse_unread
from pllm_notebook.schema import OutputType
from pllm_notebook.settings import Options, refuse_without_tools
from pllm_notebook.templates import Template

__all__ = ["ListRows", "submit_list", "submit_one"]

# Options about input and result columns, and about the reports of a result's `.llm`.
_OF_FRAMES = (
    "against", "agreement_column", "calibration", "column", "columns", "confidence_column", "error_column", "evidence",
    "explode", "flatten", "nested", "prefix", "replace", "validation_context",
)  # fmt: skip


class ListRows:
    """The items of a list for one run (see `execution.Rows`). The result is a list, with None for no answer.

    Args:
        given: The values that go into the prompts.
        template: The compiled prompt, None to send each item as data.
        options: The resolved options.
        shown: The values that are sent as images, None for none.
        instructions: Returns the instruction of each item. None if all have the same.
        shape: The columns that the answers would become, for the registry of runs. None for one text column.
    """

    label = "text"
    asked: tuple[str, ...] = ()
    assembled = 0

    def __init__(
        self,
        given: ColumnData,
        template: Template | None,
        options: Options,
        shown: ColumnData | None = None,
        instructions: Callable[[range], Sequence[str | Failure | None]] | None = None,
        *,
        shape: ResultColumns | None = None,
    ) -> None:
        self._template, self._options = template, options
        self._shape = shape or ResultColumns(None, options)
        self.total = given.total
        texts = prompts_of(given, template, options.na)
        self.prompts: Any = texts
        if shown is not None:
            bare = template is None and not given.names
            self.prompts = MediaPrompts(
                texts, shown, options.na, bare=bare, images_from=options.images_from, model=options.model
            )
        if instructions is not None:
            self.prompts = InstructedPrompts(self.prompts, instructions)
        self.source, self.items = self.prompts.source, self.prompts.items

    def assemble(self, run: LiveRun) -> list[Any]:
        """Return the values in the items' order."""
        outcomes = [run.table.outcome(row) for row in range(self.total)]
        return [None if outcome is None else outcome.value for outcome in outcomes]

    def described(self, run: LiveRun) -> dict[str, Any]:
        """Return the question and the columns that the answers would become, for the registry's header."""
        template = None if self._template is None else [self._template.literals, self._template.names]
        return {"prompt": self.source or None, "template": template, **described(run, self._shape, self._options)}

    def record(self, run: LiveRun) -> RowRecord:
        """Return the registry's record of the items. The content of an item is its prompt."""
        record = record_of_prompts(run.table, self.prompts(range(self.total)), packed=run.spec.pack is not None)
        add_samples(record, run)
        return record

    def errors(self, run: LiveRun) -> list[dict[str, Any]]:
        """Return one record per failed item."""
        return list(error_rows(run))


def submit_list(items: Sequence[Any], kind: Any, prompt: str | None, *, calls: bool = False, **options: Any) -> LiveRun:
    """Start one call per item. `{value}` in the prompt is the item, and `{key}` a value of a mapping.

    Args:
        items: Text, numbers, or mappings that all have the same keys; images with `images="value"`.
        kind: The type to parse, None for plain text.
        prompt: The prompt. None to send each item as data.
        calls: Whether each answer is the model's calls of `tools=` (a `tools.CalledTool`).
        **options: As for `df.llm.parse`.
    """
    refuse_without_tools(options)
    resolved = options_for(options)
    refuse_unread(options, resolved)
    _refuse_of_frames(options, "the answers to a list are a list. Ask a series or a dataframe")
    items = list(items)
    columns: dict[str, list[Any]] = {"value": items}
    if items and all(isinstance(item, Mapping) for item in items):
        names = list(dict.fromkeys(str(name) for item in items for name in item))
        columns = {name: [item.get(name) for item in items] for name in names}
    template = None if prompt is None else Template.compile(prompt, columns, there="an item")
    shown = resolved.images or ()
    for name in shown:
        if name not in columns:
            raise UnknownColumnError(name, columns, "images=", there="an item")
    output = None if kind is None else OutputType.of(kind)
    resolved, instruction = row_instruction(resolved, columns, output, instruct=prompt is None, there="an item")
    if template is not None and not template.names and len(items) > 1 and not shown and instruction is None:
        raise UsageError("The prompt does not say where the item goes: put {value} there. Nothing was sent.")
    chosen = tuple(name for name in columns if name not in shown) if template is None else template.names
    pictures = _given(columns, shown, len(items)) if shown else None
    given = _given(columns, chosen, len(items))
    instructions = None
    if instruction is not None:
        instructions = instruction.texts(_given(columns, instruction.template.names, len(items)), resolved.na)
    return _submit(given, template, output, resolved, prompt is None, calls, pictures, instructions)


def submit_one(prompt: str, variables: Mapping[str, Any], kind: Any, *, calls: bool = False, **options: Any) -> LiveRun:
    """Start a single call. `{name}` in the prompt is one of the caller's variables.

    Args:
        prompt: The prompt. A name in braces that is not a variable is an error; `{{name}}` is the text `{name}`.
        variables: Maps names to values. `images=` names those that are images.
        kind: The type to parse, None for plain text.
        calls: As for `submit_list`.
        **options: As for `df.llm.parse`.
    """
    refuse_without_tools(options)
    resolved = options_for({"na": "send"} | options)
    refuse_unread(options, resolved)
    _refuse_of_frames(options, "a prompt without data has one answer. Name a dataframe")
    template = Template.compile(prompt, variables, there=None)
    output = None if kind is None else OutputType.of(kind)
    resolved, instruction = row_instruction(resolved, variables, output, instruct=False, there=None)
    shown = resolved.images or ()
    for name in shown:
        if name not in variables:
            raise UsageError(
                f"images= names {name!r}, which is not a variable.{guess(name, variables)} Nothing was sent."
            )
    pictures = _given({name: [variables[name]] for name in shown}, shown, 1) if shown else None
    one = {
        name: [variables[name]]
        for name in (*template.names, *(() if instruction is None else instruction.template.names))
    }
    given = _given(one, template.names, 1)
    instructions = (
        None if instruction is None else instruction.texts(_given(one, instruction.template.names, 1), resolved.na)
    )
    return _submit(given, template, output, resolved, False, calls, pictures, instructions)


def _refuse_of_frames(given: Mapping[str, Any], why: str) -> None:
    """Reject options that are only for frames. Configured ones are not checked: they are for frames and are left out.

    Raises:
        UsageError: For such an option that differs from its default. Nothing was sent.
    """
    for name in _OF_FRAMES:
        value, default = given.get(name), fields_of(Options)[name].default
        # A value of an option without a default is not compared: it may be a Series.
        if value is not None and (default is None or value != default):
            raise UsageError(f"{name}= is for frames, and {why}, or leave it out. Nothing was sent.")


def _given(columns: Mapping[str, list[Any]], names: Sequence[str], total: int) -> ColumnData:
    values = tuple(columns[name] for name in names)
    missing = tuple([is_missing(value) for value in column] for column in values)
    return ColumnData(tuple(names), values, missing, total)


def _submit(
    given: ColumnData,
    template: Template | None,
    output: OutputType | None,
    options: Options,
    instruct: bool,
    calls: bool,
    shown: ColumnData | None,
    instructions: Callable[[range], Sequence[str | Failure | None]] | None,
) -> LiveRun:
    # A list has columns only in the registry, so options about additional columns are left out.
    plain = replace(options, explode=False, flatten=False, error_column=None, agreement_column=None)
    shape = ToolCallColumns(plain) if calls else ResultColumns(output, plain)
    rows = ListRows(given, template, plain, shown, instructions, shape=shape)
    if output is not None:
        rows.label = output.name
    # An item's own instruction already contains the type's text.
    instruct = instruct and instructions is None
    if calls:
        return ensemble.submit(tool_calls_for(options, instruct=instruct), rows)
    examples = examples_for(options, RowPrompt(given.names, template, is_column=True), output)
    if examples is not None:
        rows.prompts = ExamplePrompts(rows.prompts, given, examples)
    shared = () if examples is None else examples.shared
    return ensemble.submit(ensemble.spec_for(options, output, instruct=instruct, examples=shared), rows)
