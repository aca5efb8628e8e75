"""How one call ended: with a value or a failure, and what it took; and who is notified of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.stored_metadata import decode_metadata
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Usage

__all__ = ["Outcome", "ResultObserver"]


class Outcome:
    """A value or a failure, and what it took.

    Attributes:
        value: The parsed value, None where there is a failure.
        failure: None where there is a value.
        key: Of the call that was asked first.
        metas: `StoredReply.meta` of every reply that led here: the answer's own last, repairs before it.
        cached: Whether all of them were in the store.
        last: Key of the last reply, where that is one to a further turn; "" where it is the first.
        entry: The last reply itself, where no store keeps it (`cache="off"`) or a failure shows it.
        earlier: `StoredReply.meta` of the replies that were paid for before the row was sent again, or in vain: a
            stronger model was to answer, and was not asked.
    """

    __slots__ = ("cached", "earlier", "entry", "failure", "key", "last", "metas", "value")

    def __init__(
        self,
        value: Any,
        failure: Failure | None,
        key: str,
        metas: tuple[bytes, ...],
        cached: bool,
        entry: StoredReply | None = None,
        last: str = "",
    ) -> None:
        self.value = value
        self.failure = failure
        self.key = key
        self.metas = metas
        self.cached = cached
        self.entry = entry
        self.last = last
        self.earlier: tuple[bytes, ...] = ()

    def follow(self, before: Outcome) -> None:
        """Note how the row had ended before it was sent again: what was paid then is part of what it cost."""
        # A retry may go on from a reply that it finds in the store.
        known = dict.fromkeys((*before.earlier, *before.metas, *self.earlier))
        self.earlier = tuple(meta for meta in known if meta not in self.metas)

    @property
    def not_sent(self) -> bool:
        """Whether a ceiling on cost left no money for it: nothing was sent, and nothing has failed.

        A row whose first answer was cut off, or wrong, and whose next request the ceiling did not admit, was paid for.
        """
        return self.failure is not None and self.failure.kind is FailureKind.BUDGET and not self.metas

    def replies(self) -> list[dict[str, Any]]:
        """Decode what is known of each reply that was paid for (see `StoredReply.meta`)."""
        return [decode_metadata(meta) for meta in (*self.earlier, *self.metas)]

    @property
    def usage(self) -> Usage | None:
        """Tokens of all replies together, None where a provider did not say."""
        total: Usage | None = None
        for metadata in self.replies():
            if metadata["usage"] is None:
                return None
            usage = Usage(*metadata["usage"])
            total = usage if total is None else total + usage
        return total

    @property
    def cost_usd(self) -> float | None:
        """US dollars of all replies together, None for unknown."""
        costs = [metadata["cost_usd"] for metadata in self.replies()]
        return None if None in costs else float(sum(costs))


class ResultObserver(Protocol):
    """Sees what happens to a run's rows. Used on the engine's loop."""

    def planned(self, rows: Sequence[int]) -> None:
        """Note rows that have been planned: each has its call, or none, in the table."""

    def recorded(self, call: int, outcome: Outcome) -> None:
        """Note how a call ended. Its answer is on disk."""
