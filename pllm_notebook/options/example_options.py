"""Options for examples shown before a row: their source, selection and size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pllm_notebook.options.option_fields import option
from pllm_notebook.options.option_values import ROWS

__all__ = ["STORED_LABELS", "ExampleOptions"]

STORED_LABELS = "labels"
"""The value of `examples=` for the labels of the cache directory."""


def _is_source(value: Any) -> bool:
    return value == STORED_LABELS if isinstance(value, str) else not isinstance(value, (int, float, bytes))


@dataclass(frozen=True)
class ExampleOptions:
    """The rows with right answers that are shown to a model."""

    examples: Any = option(
        None,
        "[Examples](examples.md): rows with right answers, shown to the model before each row. A frame with the "
        "columns of the prompt and the answer, a list of such rows as mappings, a list of pairs of input and answer, "
        '`"labels"`, the stored labels. None: no examples.',
        more="A row is never shown itself or a near-duplicate.",
        accepts="Any",
        expects=('a frame, a list of rows or of pairs, or "labels"', _is_source),
        variable=False,
        takes=ROWS,
        keyed=True,
    )
    example_selection: Literal["first", "diverse", "nearest"] = option(
        "first",
        'Which examples are shown: the `"first"`; `"diverse"` ones, the same for every row; or the `"nearest"` to each '
        "row by text.",
        more="The last two need the extra `evaluate`.",
        takes=ROWS,
        read_with="examples",
    )
    max_examples: int | None = option(
        None,
        'Maximum number of examples before a row. None: 8; with `"first"`, as many as fit into `max_example_tokens`.',
        at_least=1,
        takes=ROWS,
        read_with="examples",
    )
    max_example_tokens: int = option(
        2000,
        "Maximum tokens of the examples before a row, estimated at four bytes a token.",
        at_least=1,
        takes=ROWS,
        read_with="examples",
    )
