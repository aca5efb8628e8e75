"""Lists of items, and single prompts: a run whose answers are a plain list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pllm_notebook import ensemble
from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.rows import Given, error_rows, prompts_of
from pllm_notebook.prompts import Template
from pllm_notebook.run import Run, options_for
from pllm_notebook.schema import OutputType

__all__ = ["ListRows", "submit_list", "submit_one"]


class ListRows:
    """The items of a list for one run (see `run.Rows`); the result is a list, None where there is no answer."""

    def __init__(self, given: Given, template: Template | None, na: str, label: str) -> None:
        self.label = label
        self.total = given.total
        self.prompts = prompts_of(given, template, na)
        self.source, self.items = self.prompts.source, self.prompts.items

    def assemble(self, run: Run) -> list[Any]:
        """Give the values in the items' order."""
        outcomes = [run.ledger.outcome(row) for row in range(self.total)]
        return [None if outcome is None else outcome.value for outcome in outcomes]

    def errors(self, run: Run) -> list[dict[str, Any]]:
        """Give one record per failed item."""
        return list(error_rows(run))


def submit_list(items: Sequence[Any], kind: Any, prompt: str | None, **options: Any) -> Run:
    """Start one call per item; `{value}` in the prompt is the item, `{key}` a mapping's own.

    Args:
        items: Text, numbers, or mappings that all have the same keys.
        kind: The type to parse, None for plain text.
        prompt: None to send each item as data.
        **options: As for `df.llm.parse`.
    """
    resolved = options_for(options)
    items = list(items)
    columns: dict[str, list[Any]] = {"value": items}
    if items and all(isinstance(item, Mapping) for item in items):
        names = list(dict.fromkeys(str(name) for item in items for name in item))
        columns = {name: [item.get(name) for item in items] for name in names}
    template = None if prompt is None else Template.compile(prompt, columns)
    if template is not None and not template.names and len(items) > 1:
        raise UsageError("The prompt does not say where the item goes: put {value} there. Nothing was sent.")
    chosen = tuple(columns) if template is None else template.names
    values = tuple(columns[name] for name in chosen)
    missing = tuple([value is None or value != value for value in column] for column in values)
    return _submit(Given(chosen, values, missing, len(items)), template, kind, resolved, instruct=prompt is None)


def submit_one(prompt: str, variables: Mapping[str, Any], kind: Any, **options: Any) -> Run:
    """Start a single call; `{name}` in the prompt is a variable of the caller's.

    Args:
        prompt: Names that are no variables stay as text.
        variables: Name to value.
        kind: The type to parse, None for plain text.
        **options: As for `df.llm.parse`.
    """
    resolved = options_for({"na": "send"} | options)
    template = Template.compile(prompt, [name for name in variables if f"{{{name}}}" in prompt])
    values = tuple([variables[name]] for name in template.names)
    missing = tuple([value[0] is None] for value in values)
    return _submit(Given(template.names, values, missing, 1), template, kind, resolved, instruct=False)


def _submit(given: Given, template: Template | None, kind: Any, options: Any, *, instruct: bool) -> Run:
    output = None if kind is None else OutputType.of(kind)
    rows = ListRows(given, template, options.na, "text" if output is None else output.name)
    return ensemble.submit(ensemble.question_for(options, output, instruct=instruct), rows)
