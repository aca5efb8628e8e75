"""When the calls of a program are sent, and what it means to wait for one: the whole difference between strategies.

Whether a value is missing is for the store to say (`SessionStore.retrieve`), not for a strategy. Here are those that
send a call as it is asked; those that collect calls are in `strategies.batched`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from pllm_notebook.sessions.session_call import SessionCall
from pllm_notebook.sessions.strategies.barrier import StrategyContext, await_jobs
from pllm_notebook.sessions.strategies.microbatch import MicroBatcher

__all__ = ["AsyncStrategy", "Strategy", "SyncStrategy"]


class Strategy(ABC):
    """One way of going through a program. Used from the program's threads.

    Args:
        context: What it works with.
    """

    def __init__(self, context: StrategyContext) -> None:
        self._context = context
        # Asked since the last point that the program has passed for good, and not answered by then.
        self._open: list[SessionCall] = []

    @property
    def gathers(self) -> bool:
        """Whether nothing is sent before a value is needed."""
        return False

    def asked(self, session_call: SessionCall) -> None:
        """Note a call that the program asks; what there is of it has been looked up."""
        if not session_call.done.is_set():
            self._open.append(session_call)

    @abstractmethod
    def wait_for(self, session_call: SessionCall) -> None:
        """Block until *question* is done.

        Raises:
            Paused: Where the block is to end here.
        """

    def barrier(self) -> None:
        """Block until all that has been asked so far is done.

        Raises:
            Paused: Where the block is to end here.
        """
        for session_call in self._open:
            self.wait_for(session_call)
        self._open.clear()

    def finish(self) -> None:
        """See to what was asked and never looked at, at the end of the block.

        Raises:
            Paused: Where some of it is still awaited.
        """
        self.barrier()

    def drain(self) -> None:
        """Wait for what is sent live: it is paid for, and a block that pauses is to have it stored."""
        for session_call in self._open:
            if session_call.stage in ("asked", "sent"):
                self._context.sender.wait(session_call.done)

    def stop(self) -> None:
        """Send nothing more."""
        self._context.sender.stop()


class SyncStrategy(Strategy):
    """One call at a time, each to its end before the program goes on: what a debugger steps through."""

    def asked(self, session_call: SessionCall) -> None:
        super().asked(session_call)
        self.wait_for(session_call)

    def wait_for(self, session_call: SessionCall) -> None:
        if session_call.stage == "pending":
            await_jobs(self._context, [session_call])
        if session_call.stage == "asked":
            self._paced()
            self._context.sender.send([session_call], keep=self._context.keep)
        self._context.sender.wait(session_call.done)

    def _paced(self) -> None:
        throttler = self._context.throttler
        if throttler is not None:
            (at,) = throttler.book()
            delay = at - throttler.clock()
            if delay > 0:
                self._context.sender.rest(delay)


class AsyncStrategy(Strategy):
    """Calls are sent as they are asked, a few milliseconds' worth at a time; a value is waited for alone."""

    def __init__(self, context: StrategyContext) -> None:
        super().__init__(context)
        self._batcher = MicroBatcher(
            context.sender, context.throttler, keep=context.keep, max_in_flight=context.max_in_flight
        )

    def asked(self, session_call: SessionCall) -> None:
        super().asked(session_call)
        if session_call.stage == "asked":
            self._batcher.add(session_call)

    def wait_for(self, session_call: SessionCall) -> None:
        if session_call.stage == "pending":
            await_jobs(self._context, [session_call])
        elif session_call.stage == "asked":
            self._batcher.flush()
        self._context.sender.wait(session_call.done)
