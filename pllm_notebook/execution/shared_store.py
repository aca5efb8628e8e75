"""What a run asks of a store on disk besides what it asks of every store."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from pllm_notebook.store.claim_types import ClaimStore

__all__ = ["SharedStore"]


@runtime_checkable
class SharedStore(Protocol):
    """A store that other processes use too, and that a disk can fail."""

    @property
    def delayed(self) -> bool:
        """Whether writing fails at the moment; nothing new is sent while it does."""

    @property
    def claims(self) -> ClaimStore | None:
        """Which process asks which call, None where no other process can know."""

    @property
    def written_by_others(self) -> int:
        """Rows that other processes are known to have written: an answer may be there that was not when we planned."""
