"""Run tools in their own threads, for several rows at once, and never on the engine's loop.

A slow tool delays only its own row: other threads read the replies of other rows, and a tool that does not return
within `tool_timeout_s` is abandoned. A result is stored before the model sees it, so that nothing runs twice for one
turn.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future

from pllm_notebook.execution.follow_ups import ToolCalls
from pllm_notebook.execution.outcome import Outcome
from pllm_notebook.execution.replies import ReplyParser, Step
from pllm_notebook.execution.services import RunServices
from pllm_notebook.execution.tool_results import result_key, run_tool, timeout_result
from pllm_notebook.execution.user_code import user_threads
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.protocols import Store
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.tools import ReadCall

__all__ = ["ToolRunner"]

logger = logging.getLogger("pllm_notebook")

# Maximum number of tools of one run at once. They wait for other machines more often than they compute.
_AT_ONCE = 16


class ToolRunner:
    """Run the tools that one spec's replies call. Used on the engine's loop alone."""

    def __init__(self, parser: ReplyParser, services: RunServices) -> None:
        self._parser = parser
        self._loop = services.engine.loop
        self._workers = services.engine.workers
        self._store = parser.store
        self._timeout_s = parser.spec.options.tool_timeout_s
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._running: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"ToolRunner(working={self.working})"

    @property
    def working(self) -> int:
        """Number of replies whose tools are running or waiting to run."""
        return len(self._running)

    def add(self, task: asyncio.Task[None]) -> None:
        """Register the task that will call `run` for a reply; `abandon` cancels it."""
        self._running.add(task)

    def abandon(self) -> int:
        """Stop waiting for all tools; return how many replies were waiting for theirs.

        Tools that have not begun do not run. A running tool cannot be stopped; its result is stored.
        """
        running, self._running = self._running, set()
        for task in running:
            task.cancel()
        return len(running)

    async def run(self, calling: ToolCalls) -> Step:
        """Run the tools that a reply calls, several at once; return the next step of the row."""
        step: Step
        try:
            step = await self._run_all(calling)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # our bug or the interpreter's: the row must not wait forever
            logger.exception("Tools could not be run")
            reply = calling.reply
            failure = Failure(FailureKind.TOOL_CALL, f"{type(error).__name__}: {error}")
            step = Outcome(None, failure, reply.key, reply.paid, False, reply.entry)
        if self._store is None and isinstance(step, Outcome) and step.entry is None:
            step.entry = calling.reply.entry
        task = asyncio.current_task()
        assert task is not None
        self._running.discard(task)
        return step

    async def _run_all(self, calling: ToolCalls) -> Step:
        left = [at for at in range(len(calling.read)) if at not in calling.results]
        made = await asyncio.gather(*(self._run(calling, at) for at in left))
        results = {**calling.results, **dict(zip(left, made, strict=True))}
        return await self._loop.loop.run_in_executor(self._workers, self._parser.with_results, calling, results)

    async def _run(self, calling: ToolCalls, at: int) -> StoredReply:
        read = calling.read[at]
        key = result_key(calling.reply, at, read.call)
        running = _Running(read, key, self._store)
        async with self._limit:
            work = self._loop.loop.run_in_executor(user_threads(), running.run)
            done, _ = await asyncio.wait([work], timeout=self._timeout_s)
        if not done and running.end():
            entry, kept = running.late(self._timeout_s)
        else:
            entry, kept = await work
        error = await asyncio.wrap_future(kept)
        if error is not None:
            logger.error("The result of the tool %s cannot be saved to the cache: %s", read.call.name, error)
        return entry


class _Running:
    """One tool call: either it returns or it times out, and only the first of the two is stored.

    Args:
        read: The call.
        key: Key of its result.
        store: Keeps the result; None to keep nothing.
    """

    def __init__(self, read: ReadCall, key: str, store: Store | None) -> None:
        self._read = read
        self._key = key
        self._store = store
        self._lock = threading.Lock()
        self._over = False

    def end(self) -> bool:
        """Mark the call as over; return whether this was the first time."""
        with self._lock:
            first, self._over = not self._over, True
            return first

    def run(self) -> tuple[StoredReply, Future[BaseException | None]]:
        """Run the tool in its thread, and store its result unless it timed out, even if the run was abandoned."""
        entry = run_tool(self._read)
        return (entry, self._keep(entry)) if self.end() else (entry, _kept(None))

    def late(self, timeout_s: float) -> tuple[StoredReply, Future[BaseException | None]]:
        """Store that the tool did not return in time. Its thread keeps running, and its later result is dropped."""
        entry = timeout_result(self._read, timeout_s)
        return entry, self._keep(entry)

    def _keep(self, entry: StoredReply) -> Future[BaseException | None]:
        if self._store is None:
            return _kept(None)
        kept: Future[BaseException | None] = Future()
        kept.set_running_or_notify_cancel()  # from here on it cannot be cancelled, so the writer can always set it
        try:
            self._store.put(self._key, entry, kept.set_result)
        except Exception as error:  # the store was closed in the meantime
            kept.set_result(error)
        return kept


def _kept(error: BaseException | None) -> Future[BaseException | None]:
    kept: Future[BaseException | None] = Future()
    kept.set_result(error)
    return kept
