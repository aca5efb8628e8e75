"""The outcome of one call: a value or a failure, with its usage; and the observer of outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.stored_metadata import decode_metadata
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Usage

__all__ = ["Outcome", "ResultObserver"]


class Outcome:
    """A value or a failure, with the metadata of its replies.

    Attributes:
        value: The parsed value, None if there is a failure.
        failure: The failure, None if there is a value.
        key: Key of the first call.
        metas: `StoredReply.meta` of every reply that led to it: repairs first, the answer's own last.
        cached: Whether all of them were in the store.
        last: Key of the last reply if it answers a later turn; "" if it is the first reply.
        entry: The last reply itself, if no store keeps it (`cache="off"`) or a failure shows it.
        earlier: `StoredReply.meta` of replies that were paid for before the row was sent again, or in vain because a
            stronger model should have answered but was not called.
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
        """Add the row's outcome before it was sent again, whose cost is part of its total cost."""
        # A retry may continue from a reply in the store; count that reply once.
        known = dict.fromkeys((*before.earlier, *before.metas, *self.earlier))
        self.earlier = tuple(meta for meta in known if meta not in self.metas)

    @property
    def not_sent(self) -> bool:
        """Whether the row was not sent because of the cost limit: nothing was sent, and nothing has failed.

        False if a first answer was cut off or wrong and only the next request was not admitted: that row was paid for.
        """
        return self.failure is not None and self.failure.kind is FailureKind.BUDGET and not self.metas

    def replies(self) -> list[dict[str, Any]]:
        """Decode the metadata of each reply that was paid for (see `StoredReply.meta`)."""
        return [decode_metadata(meta) for meta in (*self.earlier, *self.metas)]

    @property
    def usage(self) -> Usage | None:
        """Total tokens of all replies, None if a provider did not report them."""
        total: Usage | None = None
        for metadata in self.replies():
            if metadata["usage"] is None:
                return None
            usage = Usage(*metadata["usage"])
            total = usage if total is None else total + usage
        return total

    @property
    def cost_usd(self) -> float | None:
        """Total cost of all replies in US dollars, None if unknown."""
        costs = [metadata["cost_usd"] for metadata in self.replies()]
        return None if None in costs else float(sum(costs))


class ResultObserver(Protocol):
    """Observes the rows of a run. Used on the engine's loop."""

    def planned(self, rows: Sequence[int]) -> None:
        """Record rows that have been planned: the table has their calls, if any."""

    def recorded(self, call: int, outcome: Outcome) -> None:
        """Record the outcome of a call. Its answer is on disk."""
