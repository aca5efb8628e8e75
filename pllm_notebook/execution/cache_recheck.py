"""Cache hits that appeared after planning: answers of other runs in this process, and of other processes.

The plan checks the store once. Answers stored later are found just before a call would be sent, so that nothing
is paid for twice. A check costs a read, and is skipped if no answer can have appeared.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence

from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.follow_ups import UnreadReply
from pllm_notebook.execution.services import CallDispatcher
from pllm_notebook.protocols import Store
from pllm_notebook.stored_reply import StoredReply

__all__ = ["CacheRecheck"]


class CacheRecheck:
    """Look for answers that appeared after planning. Used only on the engine's loop; sends nothing.

    Attributes:
        own_replies: Number of replies to this run's own calls.
    """

    def __init__(
        self,
        spec: CallSpec,
        store: Store | None,
        refresh_since: float | None = None,
        repeated: Collection[int] = (),
    ) -> None:
        self._spec = spec
        # A refreshing run must not use older answers, and its plan has not checked the store.
        self._since = refresh_since if spec.options.cache == "refresh" else None
        self._store = None if spec.options.cache == "refresh" and self._since is None else store
        # Calls with the same request as another call of this run: its reply serves them too.
        self._repeated = repeated
        self._own_store, self._began = store, 0.0
        self._dispatcher: CallDispatcher
        self.own_replies = 0
        self._replies_before = self._written_before = 0
        self._is_writing = False
        # Calls of a retry whose replies may already be stored, and those whose stored reply must not be used.
        self._recheck: frozenset[int] = frozenset()
        self._fresh: frozenset[int] = frozenset()

    def begin(self, dispatcher: CallDispatcher) -> None:
        """Record the current counts, before the plan checks the store."""
        self._dispatcher = dispatcher
        self._began = self._began or time.time()
        if self._store is not None:
            self._written_before = self._store.written_by_others
            # The plan cannot see replies that other runs have received but not yet written.
            self._is_writing = self._store.backlog_bytes > 0
        self._replies_before, self.own_replies = dispatcher.replies, 0

    def retry(self, calls: Iterable[int], can_pass: Iterable[int]) -> None:
        """Record the calls of a retry.

        Args:
            calls: All calls of the retry.
            can_pass: Calls that never ended, or failed for a temporary reason. The reply to such a call, or to the one
                before its repair, may be stored and paid for; the chain continues from there. The caller asked for the
                other calls explicitly and wants to pay for them again.
        """
        self._recheck = frozenset(calls).intersection(can_pass)
        self._fresh = frozenset(calls).difference(can_pass)

    def may_find(self, call: int) -> bool:
        """Return whether an answer to *call* can have appeared since planning.

        It cannot if all replies since then were to calls of this run, none was on its way to the store, and no
        other process has written.
        """
        if call in self._repeated:
            return self._own_store is not None and call not in self._fresh
        if self._store is None or call in self._fresh:
            return False
        return self._since is not None or self._any_from_others() or call in self._recheck

    def find(self, call: int, keys: Iterable[str]) -> tuple[str, StoredReply, bool] | None:
        """Look up the answer to *call* by *keys*; None if there is none.

        Returns:
            Its key, the answer, and whether it is on disk. The caller queues an answer that is still queued again,
            which changes nothing, so that its row is reported after the commit.
        """
        store, since = self._store, self._since
        if call in self._repeated:
            store = self._own_store
            since = self._began if self._spec.options.cache == "refresh" and since is None else since
        if store is None or call in self._fresh:
            return None
        for key in keys:
            queued = store.queued(key)
            entry = queued or store.get_many([key]).get(key)
            if entry is not None and self._takes(entry, since):
                return key, entry, queued is None
        return None

    def keep_first(self, replies: Sequence[UnreadReply]) -> None:
        """Use answers that are already stored: another run's pack may have returned and reported them."""
        if self._store is None or not self._any_from_others():
            return
        stored = self._store.get_many([reply.key for reply in replies])
        for reply in replies:
            entry = self._store.queued(reply.key) or stored.get(reply.key)
            if entry is not None and reply.call not in self._fresh and self._takes(entry, self._since):
                reply.entry = entry

    def _takes(self, entry: StoredReply, since: float | None) -> bool:
        if since is not None and entry.metadata["created_at"] < since:
            return False
        if self._spec.tokens is not None and not self._spec.tokens.has_tokens(entry):
            return False
        return entry.satisfies(self._spec.output_limit, self._spec.takes_empty)

    def _any_from_others(self) -> bool:
        return (
            self._is_writing
            or self._dispatcher.replies - self._replies_before > self.own_replies
            or (self._store is not None and self._store.written_by_others != self._written_before)
        )
