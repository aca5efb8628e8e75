"""A line in front of a fixed number of slots, as a local model server has one."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Slots"]


class Slots:
    """First come, first served. The number can change while requests wait."""

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
                self.leave()  # The slot was given at the moment the client left.
            else:
                self._line.remove(turn)
            raise

    def leave(self) -> None:
        """Return the slot back."""
        self.busy -= 1
        self.admit()

    def admit(self) -> None:
        """Let in those who wait, while there is room."""
        while self._line and (self.most is None or self.busy < self.most):
            turn = self._line.popleft()
            if not turn.done():
                # Taken here and not by the one who wakes: in between, another would see it free.
                self.busy += 1
                turn.set_result(None)
