"""A store in memory, which tests and rehearsals use in place of a disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from pllm_notebook.claim_types import ClaimStore
from pllm_notebook.failures import FailedCall
from pllm_notebook.stored_reply import StoredReply

__all__ = ["MemoryStore"]


class MemoryStore:
    """A store that keeps its entries in a dict. `put` calls `done` before it returns.

    Attributes:
        entries: Entries by key, in the order they were first put. A test may read and change them.
        failed: Failed calls by key, without those answered since.
        claims: Always None: no other process sees this store.
        written_by_others: Always 0.
        backlog_bytes: Always 0: nothing is queued.
        fail_with: If set, `put` stores nothing and passes this error to `done`.
    """

    claims: ClaimStore | None = None
    written_by_others = 0
    backlog_bytes = 0

    def __init__(self, entries: dict[str, StoredReply] | None = None) -> None:
        self.entries = {} if entries is None else dict(entries)
        self.failed: dict[str, FailedCall] = {}
        self.fail_with: BaseException | None = None
        self._lock = threading.Lock()

    def get_many(self, keys: Sequence[str]) -> dict[str, StoredReply]:
        """Return the existing entries of *keys*."""
        with self._lock:
            return {key: self.entries[key] for key in keys if key in self.entries}

    def put(self, key: str, entry: StoredReply, done: Callable[[BaseException | None], None]) -> None:
        """Store *entry*, which replaces an older one of its key, and call *done* at once."""
        error = self.fail_with
        if error is None:
            with self._lock:
                self.entries[key] = entry
                self.failed.pop(key, None)
        done(error)

    def queued(self, key: str) -> StoredReply | None:
        """Return None: nothing is queued."""
        return None

    @property
    def unwritable(self) -> str:
        """Always "": the store can be written."""
        return ""

    def is_behind(self, limit_bytes: int) -> bool:
        """Return False: nothing is queued."""
        return False

    def note_failure(self, key: str, tell: Callable[[], FailedCall]) -> None:
        """Store a failure at once."""
        self.failed[key] = tell()

    def note_valid(self, keys: Sequence[str]) -> None:
        """Delete the failures of those of *keys* whose reply was not a valid answer."""
        for key in keys:
            if key in self.failed and self.failed[key].failure.kind.facts.type_decides:
                del self.failed[key]

    def rejected(self, keys: Sequence[str]) -> dict[str, FailedCall]:
        """Return the failures of those of *keys* that a provider rejected."""
        found = {key: self.failed[key] for key in keys if key in self.failed}
        return {key: call for key, call in found.items() if call.failure.kind.facts.rejected}

    def delete(self, keys: Iterable[str]) -> int:
        """Delete the entries of *keys* and return the number deleted."""
        with self._lock:
            return sum(self.entries.pop(key, None) is not None for key in keys)

    def iterate(self) -> Iterator[tuple[str, StoredReply]]:
        """Return every key with its entry, as of this call."""
        with self._lock:
            return iter(list(self.entries.items()))

    def flush(self) -> None:
        """Return at once: nothing is queued."""

    def close(self) -> None:
        """Do nothing: the entries can still be read."""

    def __repr__(self) -> str:
        return f"<MemoryStore: {len(self.entries)} entries>"
