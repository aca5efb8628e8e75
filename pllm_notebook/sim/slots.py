"""A queue for a limited number of slots, as in a local model server."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Slots"]


class Slots:
    """Slots served first come, first served. Their number can change while requests wait."""

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.busy = 0
        self._line: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait for a slot and take it."""
        if self.most is None or (self.busy < self.most and not self._line):
            self.busy += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # The slot was assigned just as the client disconnected.
            else:
                self._line.remove(turn)
            raise

    def leave(self) -> None:
        """Release the slot."""
        self.busy -= 1
        self.admit()

    def admit(self) -> None:
        """Admit waiting requests while slots are free."""
        while self._line and (self.most is None or self.busy < self.most):
            turn = self._line.popleft()
            if not turn.done():
                # Taken here, not by the waiter when it wakes: until then, another request would see the slot as free.
                self.busy += 1
                turn.set_result(None)
