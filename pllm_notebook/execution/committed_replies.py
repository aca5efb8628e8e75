"""The replies of one model: handed to the store, and returned to the loop of `execute` once they are on disk."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial

from pllm_notebook.engine import Engine
from pllm_notebook.execution.follow_ups import UnreadReply
from pllm_notebook.protocols import Store

__all__ = ["CommittedReplies"]

logger = logging.getLogger("pllm_notebook")


class CommittedReplies:
    """Hand replies to the store at once, and yield them in groups. Used on the engine's loop, except where noted.

    Args:
        store: Keeps the replies; None to keep nothing.
        engine: The engine whose loop is woken.
        on_unsaved: Called with a reply that the store could not keep.

    Attributes:
        over: Whether no more replies will come.
    """

    def __init__(self, store: Store | None, engine: Engine, on_unsaved: Callable[[UnreadReply], None]) -> None:
        self.over = False
        self._store = store
        self._loop = engine.loop
        self._on_unsaved = on_unsaved
        self._woken = asyncio.Event()
        # Replies that are on disk, and those that the store could not keep, with the reason. The writer thread appends.
        self._committed: deque[tuple[UnreadReply, BaseException | None]] = deque()
        self._is_waking = False
        self._reasons: set[str] = set()

    def wake(self) -> None:
        """Wake the loop of `execute`: something has changed."""
        self._woken.set()

    def put(self, key: str, reply: UnreadReply, *, keeps: bool) -> None:
        """Take one reply, which cannot be cancelled from here on.

        Args:
            key: The reply's key.
            reply: The reply.
            keeps: Whether the store should keep it; False if it is already on disk.
        """
        if self._store is None or not keeps:
            self._committed.append((reply, None))
            self._woken.set()
            return
        try:
            self._store.put(key, reply.entry, partial(self._on_disk, reply))
        except Exception as error:  # the store was closed; the reply is here and was paid for
            self._on_disk(reply, error)

    def _on_disk(self, reply: UnreadReply, error: BaseException | None) -> None:
        """Note that a reply is on disk. Called in the writer thread; wakes the loop once for a whole group."""
        self._committed.append((reply, error))
        if not self._is_waking:
            self._is_waking = True
            self._loop.call(self._woken.set)

    async def groups(self) -> AsyncIterator[list[UnreadReply]]:
        """Yield replies that are on disk, in groups; an empty group if something else has changed."""
        while True:
            await self._woken.wait()
            if self.over:
                return
            self._woken.clear()
            yield self.take()

    def take(self) -> list[UnreadReply]:
        """Remove and return the replies that are on disk."""
        self._is_waking = False  # reset before taking the first reply, so that a later one wakes the loop again
        committed, group = self._committed, []
        while committed:
            reply, error = committed.popleft()
            if error is not None:
                self._log(str(error))
                self._on_unsaved(reply)
            group.append(reply)
        return group

    def _log(self, reason: str) -> None:
        """Log once why answers are not saved; their number is reported at the end of the run."""
        if reason not in self._reasons:
            self._reasons.add(reason)
            logger.error("Answers cannot be saved to the cache and are only in memory: %s", reason)
