"""Answers that others have brought since a run was planned: other runs of this process, and other processes.

The plan looks into the store once. What comes there later is found just before a call would be sent, so
that nothing is paid for twice; looking costs a read, and is left out where nothing can have come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pllm_notebook.execution.books import Books
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.course import Sender
from pllm_notebook.execution.settle import Arrival
from pllm_notebook.execution.shared_store import SharedStore
from pllm_notebook.protocols import Store
from pllm_notebook.stored_reply import StoredReply

__all__ = ["Meanwhile"]


class Meanwhile:
    """Find what others have brought. Used on the engine's loop alone; sends nothing.

    Args:
        ask: The question.
        store: None to look nowhere.
        books: The run's.
        take: Called with the key of an answer that was found, what comes of it, and whether it is on disk.
    """

    def __init__(
        self, ask: CallSpec, store: Store | None, books: Books, take: Callable[[str, Arrival, bool], None]
    ) -> None:
        self._ask = ask
        # A run that refreshes wants none of what is there.
        self._store = None if ask.options.cache == "refresh" else store
        self._shared_store: SharedStore | None = store if isinstance(store, SharedStore) else None
        self._books = books
        self._take = take
        self._lane: Sender
        self._landed_before = self._own = self._written_before = 0
        self._behind = False
        # Calls of a retry whose replies may be in the store already, and those whose stored reply is not wanted.
        self._look_again: frozenset[int] = frozenset()
        self._afresh: frozenset[int] = frozenset()

    @property
    def heard(self) -> bool:
        """Whether any reply has come back on the lane since the run began, whoever asked."""
        return self._lane.landed != self._landed_before

    def begin(self, lane: Sender) -> None:
        """Note where things stand, before the plan looks into the store."""
        self._lane = lane
        self._landed_before, self._own = lane.landed, 0
        self._written_before = self._written_by_others()
        # What other runs have in hand and not yet on disk, the plan cannot see.
        self._behind = self._store is not None and self._store.backlog_bytes > 0

    def retry(self, calls: Sequence[int], passing: Sequence[int]) -> None:
        """Note what is to be asked again.

        Args:
            calls: All of it.
            passing: Calls that never ended, or failed in a way that can pass: such a one, or the one before its
                repair turn, may have a paid reply in the store, and goes on from there. Of the others a paid failure
                was named, and it is what the caller wants to pay for again.
        """
        self._look_again = frozenset(calls).intersection(passing)
        self._afresh = frozenset(calls).difference(passing)

    def own_reply(self) -> None:
        """Note that a reply landed which this run was aboard: nothing that others brought."""
        self._own += 1

    def answered(
        self,
        call: int,
        keys: Callable[[], list[str]],
        found: Callable[[StoredReply], Arrival] | None,
        *,
        look: bool = False,
    ) -> bool:
        """Take the answer that has come since this run was planned; False when there is none (see `AnswerLookup`)."""
        if self._store is None or call in self._afresh:
            return False
        if not (look or self._others_landed() or call in self._look_again):
            return False
        for key in keys():
            queued = self._store.queued(key)
            entry = queued or self._store.get_many([key]).get(key)
            if entry is not None and entry.satisfies(self._ask.output_limit, self._ask.takes_empty):
                self._books.open += 1
                row = self._books.ledger.first_row[call]
                # One that is still queued is queued again, which changes nothing: its row is reported after the commit.
                arrival = Arrival(call, key, entry, row) if found is None else found(entry)
                self._take(key, arrival, queued is None)
                return True
        return False

    def keep_first(self, arrivals: Sequence[Arrival]) -> None:
        """Let answers that are there already stand: another run's other pack may have brought, and reported, them."""
        if self._store is None or not self._others_landed():
            return
        there = self._store.get_many([arrival.key for arrival in arrivals])
        for arrival in arrivals:
            entry = self._store.queued(arrival.key) or there.get(arrival.key)
            if (
                entry is not None
                and arrival.call not in self._afresh
                and entry.satisfies(self._ask.output_limit, self._ask.takes_empty)
            ):
                arrival.entry = entry

    def _others_landed(self) -> bool:
        """Return whether the store may have answers that it had not when this run was planned.

        Nothing can have come where no reply has landed that this run was not aboard, none was on its way to the
        store, and nobody else has written.
        """
        return (
            self._behind
            or self._lane.landed - self._landed_before > self._own
            or self._written_by_others() != self._written_before
        )

    def _written_by_others(self) -> int:
        return 0 if self._shared_store is None else self._shared_store.written_by_others
