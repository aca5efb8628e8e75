"""Strategies that send each call when it is made. Strategies that collect calls are in `strategies.batched`.

A strategy decides when calls are sent and how a program waits for one. Only `SessionStore.retrieve` decides whether an
answer is missing.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

from pllm_notebook.sessions.session_call import SessionCall
from pllm_notebook.sessions.strategies.barrier import StrategyContext, await_jobs
from pllm_notebook.sessions.strategies.microbatch import MicroBatcher

__all__ = ["AsyncStrategy", "Strategy", "SyncStrategy"]


class Strategy(ABC):
    """The decision when calls are sent and how to wait for one. Used from the program's threads."""

    def __init__(self, context: StrategyContext) -> None:
        self._context = context
        # Calls that were not answered immediately, in order.
        self._open: dict[SessionCall, None] = {}
        # Guards `_open`. Never held while waiting: other threads make calls in the meantime.
        self._guard = threading.Lock()

    @property
    def gathers(self) -> bool:
        """Whether nothing is sent before a value is needed."""
        return False

    def submit(self, session_call: SessionCall) -> None:
        """Send or collect a call that is not in the store."""
        if not session_call.done.is_set():
            with self._guard:
                self._open[session_call] = None

    @abstractmethod
    def wait_for(self, session_call: SessionCall) -> None:
        """Block until a call is done.

        Raises:
            Paused: If the call is pending and the strategy does not wait for jobs.
        """

    def barrier(self) -> None:
        """Block until all calls made so far are done.

        Raises:
            Paused: If some are pending and the strategy does not wait for jobs.
        """
        for session_call in self._unanswered():
            self.wait_for(session_call)

    def finish(self) -> None:
        """Complete the calls that the program never read, at the end of the block.

        Raises:
            Paused: If some of them are pending.
        """
        # A thread may have made a call while the others were waited for.
        while self._unanswered():
            self.barrier()

    def _unanswered(self) -> list[SessionCall]:
        """Return the open calls that are not done, in order, and forget the others."""
        with self._guard:
            self._open = {each: None for each in self._open if not each.done.is_set()}
            return list(self._open)

    def drain(self) -> None:
        """Wait for live calls in flight: they are paid for, and must be stored before the block pauses."""
        for session_call in self._unanswered():
            if session_call.stage in ("asked", "sent"):
                self._context.sender.wait(session_call.done)

    def stop(self) -> None:
        """Send nothing more."""
        self._context.sender.stop()


class SyncStrategy(Strategy):
    """One call at a time, each answered before the program continues, for stepping with a debugger."""

    def submit(self, session_call: SessionCall) -> None:
        super().submit(session_call)
        self.wait_for(session_call)

    def wait_for(self, session_call: SessionCall) -> None:
        if session_call.stage == "pending":
            await_jobs(self._context, [session_call])
        if session_call.stage == "asked":
            self._throttle()
            self._context.sender.send([session_call], keep=self._context.keep)
        self._context.sender.wait(session_call.done)

    def _throttle(self) -> None:
        throttler = self._context.throttler
        if throttler is not None:
            (at,) = throttler.book()
            delay = at - throttler.clock()
            if delay > 0:
                self._context.sender.rest(delay)


class AsyncStrategy(Strategy):
    """Calls sent as they are made, in groups of a few milliseconds. The program waits only for values it needs."""

    def __init__(self, context: StrategyContext) -> None:
        super().__init__(context)
        self._batcher = MicroBatcher(
            context.sender, context.throttler, keep=context.keep, max_in_flight=context.max_in_flight
        )

    def submit(self, session_call: SessionCall) -> None:
        super().submit(session_call)
        if session_call.stage == "asked":
            self._batcher.add(session_call)

    def wait_for(self, session_call: SessionCall) -> None:
        if session_call.stage == "pending":
            await_jobs(self._context, [session_call])
        elif session_call.stage == "asked":
            self._batcher.flush()
        self._context.sender.wait(session_call.done)
