"""Where tools are run: in threads of their own, several rows at once, and never on the engine's loop.

A slow tool holds up its own row alone: replies of other rows are read by other threads meanwhile, and a tool that
does not return within `tool_timeout_s` is left behind. A result is
stored before the model hears of it, so that nothing is run twice for one turn.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from pllm_notebook.engine import Engine
from pllm_notebook.execution.arrivals import Arrival, Calling
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.outcomes import Outcome
from pllm_notebook.execution.settle import Settled, with_results
from pllm_notebook.execution.tool_results import result_key, run_tool, timeout_result
from pllm_notebook.execution.user_code import USER_THREADS
from pllm_notebook.messages_types import Prompt
from pllm_notebook.protocols import Store
from pllm_notebook.records import Failure, FailureKind
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.tools import ReadCall

__all__ = ["Workshop"]

logger = logging.getLogger("pllm_notebook")

# Tools of one run at once. They wait for other machines more often than they compute.
_AT_ONCE = 16


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
        ask: CallSpec,
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
        self._at_once = asyncio.Semaphore(_AT_ONCE)
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

    async def _run(self, calling: Calling, at: int) -> StoredReply:
        read = calling.read[at]
        key = result_key(calling.arrival, at, read.call)
        running = _Running(read, key, self._store)
        async with self._at_once:
            work = self._loop.loop.run_in_executor(USER_THREADS, running.run)
            done, _ = await asyncio.wait([work], timeout=self._ask.options.tool_timeout_s)
        if not done and running.end():
            entry, kept = running.late(self._ask.options.tool_timeout_s)
        else:
            entry, kept = await work
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


class _Running:
    """One call of a tool: it ends by itself, or by its time, and only one of the two is stored.

    Args:
        read: The call.
        key: Of its result.
        store: None to keep nothing.
    """

    def __init__(self, read: ReadCall, key: str, store: Store | None) -> None:
        self._read = read
        self._key = key
        self._store = store
        self._lock = threading.Lock()
        self._over = False

    def end(self) -> bool:
        """Whether the caller is the one that ends it."""
        with self._lock:
            first, self._over = not self._over, True
            return first

    def run(self) -> tuple[StoredReply, Future[BaseException | None]]:
        """In a tool's thread: run it, and store what it gave, whoever still waits for it."""
        entry = run_tool(self._read)
        return (entry, self._keep(entry)) if self.end() else (entry, _kept(None))

    def late(self, timeout_s: float) -> tuple[StoredReply, Future[BaseException | None]]:
        """Store that it did not return in time. Its thread is left behind, and what it gives later is dropped."""
        entry = timeout_result(self._read, timeout_s)
        return entry, self._keep(entry)

    def _keep(self, entry: StoredReply) -> Future[BaseException | None]:
        if self._store is None:
            return _kept(None)
        kept: Future[BaseException | None] = Future()
        kept.set_running_or_notify_cancel()  # from here on nobody can cancel it, and the writer may always set it
        try:
            self._store.put(self._key, entry, kept.set_result)
        except Exception as error:  # a store that was closed under us
            kept.set_result(error)
        return kept


def _kept(error: BaseException | None) -> Future[BaseException | None]:
    kept: Future[BaseException | None] = Future()
    kept.set_result(error)
    return kept
