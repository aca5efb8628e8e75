"""Daemon threads for work that may block, or never return: user code, planning, files.

Not `concurrent.futures`' pools: the interpreter closes those when the main thread ends, so that a run in another
thread could not go on, and joins their threads at exit, so that one function that never returns would keep the
process alive. It also lets a fixed number of stuck functions block everything behind them for good.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar, TypeVarTuple

from pllm_notebook.runtime import RUNTIME

__all__ = ["ENGINE_THREAD", "DaemonLoop", "DaemonThreads", "weak_callback"]

ENGINE_THREAD = "pllm-engine"
"""The name of a thread that runs an engine's loop."""

# A thread that has had nothing to do for this long ends.
_IDLE_S = 10.0
# Work that no busy thread takes up within this time gets a thread of its own: the others may be stuck.
_PATIENCE_S = 0.25

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_Work = tuple["Future[Any]", Callable[[], Any]]


class DaemonThreads(Executor):
    """An executor whose threads are daemons, reused while they return, and never a limit when they do not.

    Whatever a function raises, SystemExit included, is the result of its future; no thread ends by it.

    Args:
        name: Prefix of the threads' names.
        at_once: How many threads work at once while they make progress; None for as many as there is work. Where
            no thread has become free within *patience_s*, one more begins.
        patience_s: Seconds.
    """

    def __init__(self, name: str, at_once: int | None = None, patience_s: float = _PATIENCE_S) -> None:
        self._name = name
        self._patience_s = patience_s
        self._at_once = at_once
        self._numbers = itertools.count(1)
        self._closed = False
        self.reset_after_fork()
        RUNTIME.register_fork_aware(self)

    def __repr__(self) -> str:
        return f"DaemonThreads({self._name!r}, busy={self._busy}, idle={self._idle}, queued={len(self._queue)})"

    def reset_after_fork(self) -> None:
        """Begin without threads and work, as a forked child does: no thread has come along."""
        self._changed = threading.Condition(threading.Lock())
        self._queue: deque[_Work] = deque()
        self._busy = 0
        # Started threads that have no work yet, those that are just beginning included. There are never more pieces
        # of work in the queue than idle threads, unless `at_once` threads are busy.
        self._idle = 0
        # Threads beyond `at_once`, begun since the others did not return; fewer again as idle ones end.
        self._beyond = 0
        # Whether a thread waits for the patience of the queue to end.
        self._relief = False

    def submit(self, function: Callable[P, T], /, *args: P.args, **named: P.kwargs) -> Future[T]:
        """Run *function* in some thread, soon.

        Raises:
            RuntimeError: After `shutdown`.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError(f"The threads {self._name!r} take no more work after shutdown.")
            self._queue.append((future, partial(function, *args, **named)))
            if len(self._queue) > self._idle:
                self._grow()
            elif self._relief:  # it waits for the same condition, and would swallow a single notification
                self._changed.notify_all()
            else:
                self._changed.notify()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work.

        Args:
            wait: Whether to wait for the work that was given; user code may never return.
            cancel_futures: Whether work that has not begun is cancelled; it is done otherwise.
        """
        with self._changed:
            self._closed = True
            waiting = list(self._queue) if cancel_futures else []
            if cancel_futures:
                self._queue.clear()
            self._changed.notify_all()
        for future, _ in waiting:
            future.cancel()
        if wait:
            with self._changed:
                self._changed.wait_for(lambda: not self._busy and not self._queue)

    def _grow(self) -> None:
        """Start a thread, or one that waits first where enough are busy. With the lock held."""
        if self._at_once is None or self._busy + self._idle < self._at_once + self._beyond:
            self._idle += 1
            self._start(self._work)
        elif not self._relief:
            self._relief = True
            self._start(self._relieve)

    def _start(self, main: Callable[[], None]) -> None:
        try:
            threading.Thread(target=main, name=f"{self._name}-{next(self._numbers)}", daemon=True).start()
        except RuntimeError:  # at the very end of the process, or at the system's limit of threads
            if main == self._relieve:
                self._relief = False
            else:
                self._idle -= 1
            if not self._busy and not self._idle:
                raise

    def _relieve(self) -> None:
        """Begin to work, in a thread of its own, once the first of the queue has waited too long."""
        with self._changed:
            while self._queue:
                first = self._queue[0]
                if not self._changed.wait_for(lambda first=first: self._taken(first), self._patience_s):  # type: ignore[misc]
                    break
            self._relief = False
            if not self._queue:
                return
            self._idle += 1
            self._beyond += 1
            if len(self._queue) > self._idle:
                self._grow()
        self._work()

    def _taken(self, first: _Work) -> bool:
        return not self._queue or self._queue[0] is not first

    def _work(self) -> None:
        """Work, in a thread, until there has been nothing to do for a while."""
        with self._changed:
            while self._changed.wait_for(lambda: self._queue or self._closed, _IDLE_S) and self._queue:
                future, function = self._queue.popleft()
                self._idle -= 1
                self._busy += 1
                self._changed.release()
                try:
                    _run(future, function)
                    del future, function  # what they hold must not live until the next piece of work
                finally:
                    self._changed.acquire()
                    self._busy -= 1
                    self._idle += 1
                    if self._closed:
                        self._changed.notify_all()
            self._idle -= 1
            self._beyond = max(0, self._beyond - 1)


def _run(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:  # user code may raise anything; it ends nothing but its own future
        future.set_exception(error)
    else:
        future.set_result(result)


class DaemonLoop(asyncio.SelectorEventLoop):
    """An event loop whose own threads (names are looked up there, and files read) are daemons too."""

    def __init__(self) -> None:
        super().__init__()
        self._threads = DaemonThreads("pllm-io")

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run *func* in a thread; what comes after the end of the loop is dropped in silence."""
        future: asyncio.Future[T] = self.create_future()
        work = (executor or self._threads).submit(func, *args)
        future.add_done_callback(lambda _: work.cancel())

        def over(ended: Future[T]) -> None:
            # Of the argument: a future that its own callback refers to is a circle, and would keep its result.
            # asyncio's own bridge raises in the thread where the loop was closed in the meantime.
            with suppress(RuntimeError):
                self.call_soon_threadsafe(_pass_on, ended, future)

        work.add_done_callback(over)
        return future


def _pass_on(work: Future[T], future: asyncio.Future[T]) -> None:
    if future.done() or work.cancelled():
        future.cancel()
    elif (error := work.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(work.result())


def weak_callback(method: Callable[[], Any]) -> Callable[[], Any]:
    """Return what calls *method* for as long as somebody holds its object, and does nothing after that."""
    held = weakref.WeakMethod(method)

    def call() -> Any:
        found = held()
        return None if found is None else found()

    return call
