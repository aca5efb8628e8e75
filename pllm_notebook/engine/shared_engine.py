"""The engine of this process: its loop, its dispatchers and the threads that run user code."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Literal, Protocol

from pllm_notebook.engine.dispatcher import Dispatcher
from pllm_notebook.engine.limits.limiter import FIRST_WINDOW, LearnedLimits, Limiter
from pllm_notebook.engine.limits.user_limit import AccountRateLimit
from pllm_notebook.engine.loop import EngineLoop
from pllm_notebook.runtime import RUNTIME, ExitStage, Locked, Slot
from pllm_notebook.threads import DaemonThreads

__all__ = ["Engine", "ManagedRun", "engine"]

# How long a shutdown waits for the answers that have arrived to be stored and read.
GRACE_S = 5.0
# Number of idle dispatchers whose connections stay open for the next run.
MOST_IDLE = 8
# Closing connections and cancelling tasks is quick, but a blocked loop could take forever.
_MOST_S = 10.0
# At the end of the process no more answers are read, but those that have arrived are still stored.
_EXIT_GRACE_S = 1.0
_CANCELLED_S = 1.0

logger = logging.getLogger("pllm_notebook")


class ManagedRun(Protocol):
    """Work that uses an engine and must not outlive it. Its methods are called on the engine's loop."""

    def cancel(self) -> None:
        """Send nothing more, and end as soon as the answers that have arrived are stored."""

    def abort(self) -> None:
        """End at once, even if calls are still in flight."""

    def fail(self, error: Exception) -> None:
        """End at once because of an internal error that no call caused."""


class Engine:
    """The loop, dispatchers and worker threads that the runs of one process share.

    Args:
        where: As for `EngineLoop`.
        rng: Random numbers for the jitter of retries; None for a new generator.
        loop: None to start one according to *where*. A simulation passes one with virtual time.
        workers: None for daemon threads, four of which work at once while they make progress.

    Attributes:
        loop: The loop of all network I/O.
        workers: Threads for work that may block: validators, planning, files.
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
        self.loop.on_end = self._clean_up
        self.loop.on_error = self._fail
        self._ending = False
        self.workers = workers or DaemonThreads("pllm-work", at_once=4)
        self.rng = rng or random.Random()
        self._dispatchers: dict[tuple[str, ...], Dispatcher] = {}
        self._accounts: dict[tuple[str, ...], AccountRateLimit] = {}
        self._idle: dict[Dispatcher, None] = {}  # those with open connections, in the order they became idle
        self._closing: set[asyncio.Task[None]] = set()
        self._runs: set[ManagedRun] = set()
        # Set when the last run ends.
        self._emptied = asyncio.Event()

    def __repr__(self) -> str:
        return f"Engine({self.loop!r}, dispatchers={list(self._dispatchers.values())})"

    @property
    def dispatchers(self) -> list[Dispatcher]:
        """The dispatchers, one for each provider, account and model in use."""
        return list(self._dispatchers.values())

    def dispatcher(
        self,
        identity: tuple[str, ...],
        make: Callable[[Limiter], Dispatcher],
        *,
        max_parallel: int | None,
        learned: Callable[[], LearnedLimits | None],
    ) -> Dispatcher:
        """Return the only dispatcher of an account and model. Call it on the loop.

        Args:
            identity: Provider, account and model.
            make: Creates the dispatcher on first use.
            max_parallel: Number of calls that the server processes at once, None if unknown.
            learned: Returns the limits that another run learned, or None. Called on first use.
        """
        dispatcher = self._dispatchers.get(identity)
        if dispatcher is None:
            limiter = Limiter(
                window=max_parallel or FIRST_WINDOW, **({"max_window": max_parallel} if max_parallel else {})
            )
            known = learned()
            if known is not None:
                limiter.restore(self.loop.loop.time(), known)
            dispatcher = self._dispatchers[identity] = make(limiter)
            dispatcher.account = self._accounts.setdefault(identity[:-1], AccountRateLimit())
            dispatcher.on_idle = self._on_idle
        return dispatcher

    def _on_idle(self, dispatcher: Dispatcher) -> None:
        """Close the connections of the longest-idle dispatchers if more than `MOST_IDLE` are idle."""
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

    def register(self, run: ManagedRun) -> None:
        """Register work that must end before the engine does. Call it on the loop."""
        self._runs.add(run)

    def unregister(self, run: ManagedRun) -> None:
        """Unregister finished work. Call it on the loop; a second call has no effect."""
        self._runs.discard(run)
        if not self._runs:
            self._emptied.set()

    def close(self, grace_s: float = GRACE_S) -> None:
        """Cancel every run, close the connections and end the threads.

        Callers waiting for a run get an error. On the loop's own thread it returns at once and ends in the background.

        Args:
            grace_s: Seconds allowed for storing and reading the answers that have arrived.
        """
        if not self.loop.loop.is_running():  # a notebook's loop, at the end of its process
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
                for run in list(self._runs):
                    run.cancel()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._emptied.wait(), grace_s)
                for run in list(self._runs):
                    run.abort()
            for dispatcher in self._dispatchers.values():
                await dispatcher.aclose()
            await asyncio.gather(*self._closing)
        finally:
            self.workers.shutdown(wait=False, cancel_futures=True)
            if self.loop.where == "private":
                await _end_tasks()

    def _clean_up(self) -> None:
        """Clean up after other code stopped the loop, so that no caller keeps waiting and no connection stays open."""
        if self._ending:
            return
        for run in list(self._runs):
            run.abort()  # an error, not a cancellation: the user did not stop them
        self.loop.loop.run_until_complete(self._end(0.0))

    def _fail(self, error: Exception) -> None:
        """End every run, since any of them may be waiting for the rest of the failed step."""
        for run in list(self._runs):
            run.fail(error)


async def _end_tasks() -> None:
    """Cancel the tasks still running on this loop, so that no pending task is destroyed."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CANCELLED_S)


class _Shared(Locked):
    """This process's engine, None before its first use and after `shutdown`."""

    def __init__(self) -> None:
        super().__init__()
        self.engine: Engine | None = None

    def end(self) -> None:
        shutdown(_EXIT_GRACE_S if RUNTIME.is_exiting else GRACE_S)


_SHARED: Slot[_Shared] = Slot("engine", _Shared, close=_Shared.end, stage=ExitStage.RUNS)


def engine(where: Literal["private", "notebook"] = "private") -> Engine:
    """Return this process's engine. It is started on first use and again after a fork."""
    shared = _SHARED.value
    with shared.lock:
        if shared.engine is None or not shared.engine.loop.alive:
            shared.engine = Engine(where)
        return shared.engine


def shutdown(grace_s: float = GRACE_S) -> None:
    """End the engine, if there is one, and cancel its runs. The next call starts a new engine."""
    shared = _SHARED.value
    with shared.lock:
        ended, shared.engine = shared.engine, None
    if ended is not None and ended.loop.alive:
        ended.close(grace_s)
