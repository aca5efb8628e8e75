"""Daemon threads for work that may block or never return: user code, planning, files.

`concurrent.futures` pools do not fit: the interpreter closes them when the main thread ends, so that a run in another
thread could not continue, and joins their threads at exit, so that one function that never returns would keep the
process alive. In such a pool, a fixed number of stuck functions also blocks all later work forever.
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

# A thread that has been idle for this long ends.
_IDLE_S = 10.0
# Work that no thread starts within this time gets a new thread: the others may be stuck.
_PATIENCE_S = 0.25

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_Work = tuple["Future[Any]", Callable[[], Any]]


class DaemonThreads(Executor):
    """An executor with daemon threads. They are reused while functions return; stuck ones do not limit new work.

    Any exception of a function, SystemExit included, becomes the result of its future and does not end the thread.

    Args:
        name: Prefix of the threads' names.
        at_once: Number of threads that work at once while they make progress; None for no limit. If no thread becomes
            free within *patience_s*, one more is started.
        patience_s: Seconds to wait for a free thread.
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
        """Start without threads and work, as in a forked child, where the parent's threads do not exist."""
        self._changed = threading.Condition(threading.Lock())
        self._queue: deque[_Work] = deque()
        self._busy = 0
        # Started threads without work, including those that are just starting. The queue is never longer than the
        # number of idle threads, unless `at_once` threads are busy.
        self._idle = 0
        # Threads beyond `at_once`, started because the others did not return. It falls as idle threads end.
        self._beyond = 0
        # Whether a thread waits for the queue's patience to end.
        self._relief = False

    def submit(self, function: Callable[P, T], /, *args: P.args, **named: P.kwargs) -> Future[T]:
        """Schedule *function* on a thread.

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
            elif self._relief:  # it waits for the same condition and would consume a single notification
                self._changed.notify_all()
            else:
                self._changed.notify()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more work.

        Args:
            wait: Whether to wait for the submitted work, without a time limit: user code may never return.
            cancel_futures: Whether to cancel work that has not started. Otherwise it is still done.
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
        """Start a thread, or one that waits first if enough threads are busy. Requires the lock."""
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
        """Start working in a new thread once the first item of the queue has waited too long."""
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
        """Work in a thread until it has been idle for a while."""
        with self._changed:
            while self._changed.wait_for(lambda: self._queue or self._closed, _IDLE_S) and self._queue:
                future, function = self._queue.popleft()
                self._idle -= 1
                self._busy += 1
                self._changed.release()
                try:
                    _run(future, function)
                    del future, function  # do not keep their objects alive until the next piece of work
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
    except BaseException as error:  # user code may raise anything; it affects only its own future
        future.set_exception(error)
    else:
        future.set_result(result)


class DaemonLoop(asyncio.SelectorEventLoop):
    """An event loop whose executor threads (for name lookups and file reads) are also daemons."""

    def __init__(self) -> None:
        super().__init__()
        self._threads = DaemonThreads("pllm-io")

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run *func* in a thread. A result that arrives after the end of the loop is silently dropped."""
        future: asyncio.Future[T] = self.create_future()
        work = (executor or self._threads).submit(func, *args)
        future.add_done_callback(lambda _: work.cancel())

        def over(ended: Future[T]) -> None:
            # Use the argument: a future referenced by its own callback is a cycle and would keep its result alive.
            # asyncio's own bridge raises in the thread if the loop was closed meanwhile.
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
    """Return a function that calls *method* while its object is alive and does nothing afterwards."""
    held = weakref.WeakMethod(method)

    def call() -> Any:
        found = held()
        return None if found is None else found()

    return call
