"""What a run asks about: rows with their prompts, and the shape that their answers take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pllm_notebook.messages_types import Prompt
from pllm_notebook.records import Failure

if TYPE_CHECKING:
    from pllm_notebook.execution.run import Run

__all__ = ["EvaluableRows", "Rows"]


class Rows(Protocol):
    """What a run asks about, and the shape its answers take."""

    @property
    def label(self) -> str:
        """A few words for the display."""

    @property
    def total(self) -> int:
        """Number of rows."""

    @property
    def source(self) -> str:
        """The template that all rows share, as written; "" where there is none. Only packs read it."""

    def prompts(self, rows: range) -> Sequence[Prompt | Failure | None]:
        """Return the prompts of some rows; None for one to skip, a failure for one that cannot be sent."""

    def items(self, rows: range) -> Sequence[bytes]:
        """Return what a pack holds of each row, as JSON: its columns, or its whole prompt; of rows that can be sent."""

    def assemble(self, run: Run) -> Any:
        """Return the answers in the caller's own shape, with nothing where there is no answer yet."""

    def errors(self, run: Run) -> Any:
        """Return the failures as a table."""


@runtime_checkable
class EvaluableRows(Protocol):
    """Rows that can have labels beside them."""

    def evaluate(self, run: Run, against: Any, field: str | None) -> Any:
        """Compare a field of the answers with labels."""
