"""What one reading had to leave out."""

from __future__ import annotations

from pllm_notebook.exceptions import UnsafeEntryError

__all__ = ["DamageReport"]


class DamageReport:
    """Counts the rows that were damaged or unsafe (see `database.DamageCallback`).

    Attributes:
        count: How many.
        first: What was wrong with the first, None for none.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin again: the reading is made once more."""
        self.count = 0
        self.first: UnsafeEntryError | None = None

    def __call__(self, key: str, error: UnsafeEntryError) -> None:
        self.count += 1
        self.first = self.first or error
