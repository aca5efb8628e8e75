"""Prompts with examples. Shared examples belong to the question; a row that must not see one of them gets its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pllm_notebook.exceptions import UsageError
from pllm_notebook.failures import Failure
from pllm_notebook.frames.example_pool import RowPrompt, example_pool, row_texts
from pllm_notebook.frames.example_selection import RowExamples
from pllm_notebook.frames.rows import ColumnData, LazyPrompts, RowPrompts
from pllm_notebook.messages_types import Dialogue, Prompt, RawRequest, Turn
from pllm_notebook.schema import OutputType
from pllm_notebook.settings import Options

__all__ = ["ExamplePrompts", "examples_for"]

Made = Sequence[Prompt | Failure | None]


def examples_for(options: Options, asked: RowPrompt, output: OutputType | None) -> RowExamples | None:
    """Return the examples of a call, None if it has none.

    Raises:
        UsageError: If the examples cannot be shown, or not with these options. Nothing was sent.
        MissingPackageError: If examples are chosen by similarity and scikit-learn is not installed.
    """
    if options.examples is None:
        return None
    if options.images:
        raise UsageError("examples= shows text, and images= sends images. Leave one of them out. Nothing was sent.")
    if options.evidence:
        raise UsageError(
            "evidence=True asks for quotes, and examples have none, so they would teach to leave them out. Leave one "
            "of them out. Nothing was sent."
        )
    if options.pack is not None and options.pack > 1:
        raise UsageError(
            "Rows that share a call (pack=) would share their examples, and a row that is one of them would see its "
            "own answer. Leave one of them out. Nothing was sent."
        )
    return RowExamples(example_pool(options, asked, output), options)


class ExamplePrompts:
    """A run's prompts if a row has its own examples or must not see one of the shared ones.

    Args:
        prompts: The prompt of each row.
        given: The columns of the row's text.
        examples: The examples of the run.

    Attributes:
        taken: Shape (n_rows,), bool. Whether the row or a near-duplicate is among the examples; set when the row's
            prompt is made.
    """

    def __init__(self, prompts: RowPrompts, given: ColumnData, examples: RowExamples) -> None:
        self._prompts, self._given, self._examples = prompts, given, examples
        self.taken = np.zeros(given.total, dtype=np.bool_)
        self.source, self.items = prompts.source, prompts.items

    def __call__(self, rows: range) -> Made:
        shown, taken = self._examples.of(row_texts(self._given, rows))
        self.taken[rows.start : rows.stop] = taken
        prompts = self._prompts(rows)
        return prompts if all(own is None for own in shown) else _LazyShown(prompts, shown)


class _LazyShown(LazyPrompts):
    """Prompts, each with the examples of its row; None for the shared examples of the question."""

    def _made(self, at: int) -> Prompt | Failure | None:
        prompt, shown = self._prompts[at], self._beside[at]
        if prompt is None or shown is None or isinstance(prompt, Failure):
            return prompt
        assert not isinstance(prompt, RawRequest)  # the rows of a frame are texts and conversations
        if isinstance(prompt, str):
            prompt = Dialogue((Turn("user", prompt),))
        return replace(prompt, examples=shown)
