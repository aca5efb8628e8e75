"""The type of a reply that answers several rows at once: a list of each item's index and answer."""

from __future__ import annotations

from types import GenericAlias
from typing import Any, cast

from pydantic import create_model

from pllm_notebook.schema.output import OutputType

__all__ = ["packed"]


def packed(output: OutputType | None) -> OutputType:
    """Return the type of a pack's reply: `{"answers": [{"index": …, "answer": …}, …]}`.

    Args:
        output: One row's own type, None for plain text.

    Raises:
        UsageError: If it cannot be inside another type. Nothing was sent.
    """
    kind: Any = str if output is None else output.kind
    # Models are built at run time, which no type checker can follow.
    entry: Any = create_model("Entry", index=(int, ...), answer=(kind, ...))
    # Not `OutputType.of`, which remembers types: this one is new each time, and not needed again.
    return OutputType(create_model("Answers", answers=(cast(Any, GenericAlias(list, (entry,))), ...)))
