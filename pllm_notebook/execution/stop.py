"""Why a run stops: the state that it ends in, and the error for its caller."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

from pllm_notebook.exceptions import PllmError, RowError
from pllm_notebook.records import Failure

__all__ = ["Halt", "Reason", "State", "row_error"]

State = Literal["running", "done", "cancelled", "failed"]

# Some errors say how many rows are answered. They are made at the end: until then replies may be on their way.
Reason = BaseException | Callable[..., PllmError] | None


class Halt(NamedTuple):
    """Why nothing more is sent.

    Attributes:
        state: The state that the run ends in.
        reason: The error for the caller, or what makes it of `kept` and `total`; None for none.
    """

    state: State
    reason: Reason


def row_error(row: int, failure: Failure) -> Reason:
    """Return the error of a run that ends at its first failed row."""
    message = f"Row {row:,} failed ({failure.kind}): {failure.message}"
    return partial(RowError, message, position=row, kind=failure.kind)
