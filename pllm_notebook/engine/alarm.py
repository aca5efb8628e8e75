"""One timer that may be set again and again, and rings at the earliest moment it was set for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Alarm"]


class Alarm:
    """Call *ring* at the earliest of the moments that were asked for since it last rang.

    Args:
        loop: Gives the time, and calls.
        ring: Called without arguments.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], object]) -> None:
        self._loop = loop
        self._call = ring
        self._timer: asyncio.TimerHandle | None = None

    def set(self, wake: float) -> None:
        """Ring at *wake* at the latest, in the loop's seconds; infinity for no need."""
        # A timer that fires a hair early would find nothing and spin.
        at = wake + 1e-4
        if self._timer is not None:
            if not self._timer.cancelled() and self._timer.when() <= at:
                return  # it comes soon enough, and sets the next
            self._timer.cancel()
            self._timer = None
        if wake < float("inf"):
            self._timer = self._loop.call_at(at, self._ring)

    def cancel(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        self._call()
