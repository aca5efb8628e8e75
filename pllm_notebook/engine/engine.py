"""The engine of this process: its loop, its dispatchers, and the threads that user code runs in."""

from __future__ import annotations

import asyncio
import atexit
import logging
import random
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Literal, Protocol

from pllm_notebook.engine.dispatcher import Dispatcher
from pllm_notebook.engine.limits.limiter import FIRST_WINDOW, LearnedLimits, Limiter
from pllm_notebook.engine.limits.user_limit import AccountRateLimit
from pllm_notebook.engine.loop import EngineLoop, note_exit
from pllm_notebook.threads import DaemonThreads

__all__ = ["Engine", "ManagedRun", "engine"]

# How long an engine that ends waits for answers that have arrived to be stored and read.
GRACE_S = 5.0
# Dispatchers that no run uses and whose connections stay open for the next one.
MOST_IDLE = 8
# Closing connections and cancelling tasks take no time; a loop that somebody blocks could take for ever.
_MOST_S = 10.0
# At the end of the process nobody will look at an answer any more; what has arrived is stored all the same.
_EXIT_GRACE_S = 1.0
_CANCELLED_S = 1.0

logger = logging.getLogger("pllm_notebook")


class ManagedRun(Protocol):
    """Something that goes on in an engine, and must not outlive it. Used on the engine's loop."""

    def cancel(self) -> None:
        """Send nothing more, and end as soon as what has arrived is put away."""

    def abort(self) -> None:
        """End at once, whatever is still on its way."""

    def fail(self, error: Exception) -> None:
        """End at once by a fault of ours that nobody in particular has met."""


class Engine:
    """All that is shared by the runs of one process.

    Args:
        where: As for `EngineLoop`.
        rng: Draws the jitter of retries; None for one of its own.
        loop: None to start one as *where* says. A simulation gives one whose time is virtual.
        workers: None for daemon threads, four of which work at once while they make progress.

    Attributes:
        loop: Where network I/O lives.
        workers: Threads for what may block: validators, planning, files.
    """

    def __init__(
        self,
        where: Literal["private", "notebook"] = "private",
        rng: random.Random | None = None,
        *,
        loop: EngineLoop | None = None,
        workers: Executor | None = None,
    ) -> None:
        self.loop = loop or EngineLoop(where)
        self.loop.at_end = self._see_it_ended
        self.loop.at_fault = self._fail
        self._ending = False
        self.workers = workers or DaemonThreads("pllm-work", at_once=4)
        self.rng = rng or random.Random()
        self._dispatchers: dict[tuple[str, ...], Dispatcher] = {}
        self._accounts: dict[tuple[str, ...], AccountRateLimit] = {}
        self._idle: dict[Dispatcher, None] = {}  # those with open connections, in the order they became idle
        self._closing: set[asyncio.Task[None]] = set()
        self._runs: set[ManagedRun] = set()
        # Set by the last that leaves.
        self._emptied = asyncio.Event()

    def __repr__(self) -> str:
        return f"Engine({self.loop!r}, dispatchers={list(self._dispatchers.values())})"

    @property
    def dispatchers(self) -> list[Dispatcher]:
        """One for each provider, account and model that was asked."""
        return list(self._dispatchers.values())

    def dispatcher(
        self,
        identity: tuple[str, ...],
        make: Callable[[Limiter], Dispatcher],
        *,
        slots: int | None,
        learned: Callable[[], LearnedLimits | None],
    ) -> Dispatcher:
        """Return the one dispatcher of an account and model. Call it on the loop.

        Args:
            identity: Provider, account and model.
            make: Makes it on first use.
            slots: Calls the server works on at once, None for unknown.
            learned: Returns what another run learned of its limits, None for nothing; asked on first use.
        """
        dispatcher = self._dispatchers.get(identity)
        if dispatcher is None:
            limiter = Limiter(window=slots or FIRST_WINDOW, **({"max_window": slots} if slots else {}))
            known = learned()
            if known is not None:
                limiter.restore(self.loop.loop.time(), known)
            dispatcher = self._dispatchers[identity] = make(limiter)
            dispatcher.account = self._accounts.setdefault(identity[:-1], AccountRateLimit())
            dispatcher.on_idle = self._on_idle
        return dispatcher

    def _on_idle(self, dispatcher: Dispatcher) -> None:
        """Close the connections of the dispatcher that has been idle for longest, where there are many."""
        self._idle.pop(dispatcher, None)
        self._idle[dispatcher] = None
        for longest in list(self._idle)[:-MOST_IDLE]:
            del self._idle[longest]
            task = self.loop.loop.create_task(self._disconnect(longest))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _disconnect(self, dispatcher: Dispatcher) -> None:
        try:
            await dispatcher.disconnect()
        except Exception:
            logger.debug("%s: its idle connections could not be closed", dispatcher.name, exc_info=True)

    def register(self, one: ManagedRun) -> None:
        """Note what must end before the engine does. Call it on the loop."""
        self._runs.add(one)

    def unregister(self, one: ManagedRun) -> None:
        """Note that it has ended. Call it on the loop; once is enough, and twice does no harm."""
        self._runs.discard(one)
        if not self._runs:
            self._emptied.set()

    def close(self, grace_s: float = GRACE_S) -> None:
        """End every run as its `cancel` would, close the connections, and end the threads.

        Whoever waits for a run is told. From the loop's own thread it returns at once, and the rest follows.

        Args:
            grace_s: Seconds for which answers that have arrived may be stored and read.
        """
        if not self.loop.loop.is_running():  # a notebook's, at the end of its process
            self.workers.shutdown(wait=False, cancel_futures=True)
        elif self.loop.inside():
            self.loop.loop.create_task(self._end(grace_s)).add_done_callback(lambda _: self.loop.stop())
        else:
            ended = asyncio.run_coroutine_threadsafe(self._end(grace_s), self.loop.loop)
            try:
                ended.result(timeout=grace_s + _MOST_S)
            except TimeoutError:
                logger.error("The engine's loop is blocked and was left behind")
            self.loop.stop()

    async def _end(self, grace_s: float) -> None:
        self._ending = True
        try:
            if self._runs:
                self._emptied.clear()
                for one in list(self._runs):
                    one.cancel()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._emptied.wait(), grace_s)
                for one in list(self._runs):
                    one.abort()
            for dispatcher in self._dispatchers.values():
                await dispatcher.aclose()
            await asyncio.gather(*self._closing)
        finally:
            self.workers.shutdown(wait=False, cancel_futures=True)
            if self.loop.where == "private":
                await _end_tasks()

    def _see_it_ended(self) -> None:
        """Where the loop was ended behind our back, end all the same: nobody waits, and no connection stays open."""
        if self._ending:
            return
        for one in list(self._runs):
            one.abort()  # nobody stopped them: it is a fault that they tell of
        self.loop.loop.run_until_complete(self._end(0.0))

    def _fail(self, error: Exception) -> None:
        """End every run, since any of them may wait for the rest of a step that failed."""
        for one in list(self._runs):
            one.fail(error)


async def _end_tasks() -> None:
    """Cancel what still runs on this loop, so that nothing is destroyed while it is pending."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CANCELLED_S)


_lock = threading.Lock()
_engine: Engine | None = None


def engine(where: Literal["private", "notebook"] = "private") -> Engine:
    """Return this process's engine, started on first use and again after a fork."""
    global _engine
    with _lock:
        if _engine is None or not _engine.loop.alive:
            _engine = Engine(where)
        return _engine


def shutdown(grace_s: float = GRACE_S) -> None:
    """End the engine, if there is one, and every run with it as its `cancel` would; the next call starts another."""
    global _engine
    with _lock:
        ended, _engine = _engine, None
    if ended is not None and ended.loop.alive:
        ended.close(grace_s)


def _at_exit() -> None:
    note_exit()
    shutdown(_EXIT_GRACE_S)


atexit.register(_at_exit)
