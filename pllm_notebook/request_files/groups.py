"""Lines of a request file that are asked in the same way."""

from __future__ import annotations

from array import array
from typing import NamedTuple

from pllm_notebook.providers import ResolvedModel

__all__ = ["LineGroup"]


class LineGroup(NamedTuple):
    """Lines that are one question but for what they say.

    Attributes:
        target: Who is asked.
        output_limit: Tokens that one reply of theirs can have, None for no limit.
        rows: The lines, by their place among the file's requests, in order.
        wave: Begun when all groups of the same model with a lower one are written.
    """

    target: ResolvedModel
    output_limit: int | None
    rows: array[int]
    wave: int = 0
