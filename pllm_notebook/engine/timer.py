"""One timer that may be set again and again, and fires at the earliest time that it was set for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["EarliestTimer"]


class EarliestTimer:
    """Call *callback* at the earliest of the times that were set since the last call."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Fire at *at* on the loop's clock at the latest; infinity for not at all."""
        # A timer that fires a hair early would find nothing to do and spin.
        due = at + 1e-4
        if self._handle is not None:
            if not self._handle.cancelled() and self._handle.when() <= due:
                return  # it fires early enough, and sets the next
            self._handle.cancel()
            self._handle = None
        if at < float("inf"):
            self._handle = self._loop.call_at(due, self._on_timer)

    def cancel(self) -> None:
        """Fire no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _on_timer(self) -> None:
        self._handle = None
        self._callback()
