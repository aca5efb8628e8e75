"""Where tools are run: in threads of their own, several rows at once, and never on the engine's loop.

A slow tool holds up its own row alone: replies of other rows are read by other threads meanwhile. A result is
stored before the model hears of it, so that nothing is run twice for one turn.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from pllm_notebook.conversation import Prompt
from pllm_notebook.engine import Engine
from pllm_notebook.entry import Entry
from pllm_notebook.protocols import Store
from pllm_notebook.records import Failure, FailureKind
from pllm_notebook.run.arrivals import Arrival, Calling
from pllm_notebook.run.ask import Ask
from pllm_notebook.run.outcomes import Outcome
from pllm_notebook.run.settle import Settled, with_results
from pllm_notebook.run.tool_results import result_key, run_tool
from pllm_notebook.tools import ReadCall

__all__ = ["Workshop"]

logger = logging.getLogger("pllm_notebook")

# Tools wait for other machines more often than they compute.
_THREADS = 16

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


class Workshop:
    """Run the tools that one run's replies call. Used on the engine's loop alone.

    Args:
        ask: The question.
        engine: Whose loop and workers are used, besides the tools' own threads.
        store: None to keep nothing.
        prompt: Makes one row's prompt.
        settled: Called on the loop with each reply whose tools have been run, and what becomes of it.
    """

    def __init__(
        self,
        ask: Ask,
        engine: Engine,
        store: Store | None,
        prompt: Callable[[int], Prompt],
        settled: Callable[[list[tuple[Arrival, Settled]]], None],
    ) -> None:
        self._ask = ask
        self._loop = engine.loop
        self._workers = engine.workers
        self._store = store
        self._prompt = prompt
        self._give = settled
        self._working: set[asyncio.Task[Settled]] = set()

    def __repr__(self) -> str:
        return f"Workshop(working={len(self._working)})"

    @property
    def working(self) -> int:
        """Replies whose tools are being run, or wait for it."""
        return len(self._working)

    def take(self, calling: Calling) -> None:
        """Run the tools that a reply calls, at once where there are several."""
        task = self._loop.loop.create_task(self._work(calling))
        self._working.add(task)
        task.add_done_callback(partial(self._ended, calling))

    def let_go(self) -> int:
        """Wait for none of them any longer, and give how many there were.

        Tools that have not begun are not run. One that is running cannot be stopped; what it gives is stored.
        """
        count = len(self._working)
        working, self._working = self._working, set()
        for task in working:
            task.cancel()
        return count

    async def _work(self, calling: Calling) -> Settled:
        left = [at for at in range(len(calling.read)) if at not in calling.results]
        made = await asyncio.gather(*(self._run(calling, at) for at in left))
        results = {**calling.results, **dict(zip(left, made, strict=True))}
        return await self._loop.loop.run_in_executor(
            self._workers, with_results, self._ask, self._store, self._prompt, calling, results
        )

    async def _run(self, calling: Calling, at: int) -> Entry:
        read = calling.read[at]
        key = result_key(calling.arrival, at, read.call)
        entry, kept = await self._loop.loop.run_in_executor(_threads(), _run_and_keep, read, key, self._store)
        error = await asyncio.wrap_future(kept)
        if error is not None:
            logger.error("What the tool %s gave cannot be saved to the cache: %s", read.call.name, error)
        return entry

    def _ended(self, calling: Calling, task: asyncio.Task[Settled]) -> None:
        if task not in self._working:
            return  # let go
        self._working.remove(task)
        settled: Settled
        try:
            settled = task.result()
        except BaseException as error:  # ours or the interpreter's: the row must not wait for ever
            logger.exception("Tools could not be run")
            arrival = calling.arrival
            failure = Failure(FailureKind.TOOL_CALL, f"{type(error).__name__}: {error}")
            metas = (*arrival.metas, arrival.entry.meta)
            settled = Outcome(None, failure, arrival.key, metas, False, arrival.entry)
        if self._store is None and isinstance(settled, Outcome) and settled.entry is None:
            settled.entry = calling.arrival.entry
        self._give([(calling.arrival, settled)])


def _run_and_keep(read: ReadCall, key: str, store: Store | None) -> tuple[Entry, Future[BaseException | None]]:
    """In a tool's thread: run it, and store what it gave, whoever still waits for it."""
    kept: Future[BaseException | None] = Future()
    kept.set_running_or_notify_cancel()  # from here on nobody can cancel it, and the writer may always set it
    entry = run_tool(read)
    if store is None:
        kept.set_result(None)
        return entry, kept
    try:
        store.put(key, entry, kept.set_result)
    except Exception as error:  # a store that was closed under us
        kept.set_result(error)
    return entry, kept


def _threads() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="pllm-tool")
        return _pool


def _forget() -> None:
    """In a forked process: no thread has come along."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
