"""Interruptible waiting for the end of work on another thread.

`block_until` is for a caller that may block, `await_end` for a caller with an event loop of its own. Both cancel the
work when they are interrupted, and give what has arrived a few seconds to be stored.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType

from pllm_notebook.engine.loop import EngineLoop
from pllm_notebook.exceptions import UsageError, interrupted, show_in_one_line
from pllm_notebook.runtime import RUNTIME
from pllm_notebook.threads import ENGINE_THREAD

__all__ = ["EndEvent", "await_end", "block_until", "hold_at_exit"]

# How long stopped work may take to store what has arrived before the wait is given up.
_GRACE_S = 10.0
# A blocked main thread wakes this often, to let Python run signal handlers.
_TICK_S = 0.05
# ipykernel hands an interrupt to the caller's loop without waking it: an idle loop would notice it only at the end.
_WAKE_S = 0.1
# How long a daemon thread is held at exit. It must end all the same if another thread joins it.
_HELD_S = 2.0


def _what_is_kept() -> str:
    return "Stopped. What has arrived is kept. Run the cell again to continue."


class EndEvent(threading.Event):
    """An event that also calls back, once for each time that a callback is given."""

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: list[Callable[[], None]] = []
        self._guard = threading.Lock()

    def set(self) -> None:
        """Set it, and call back on this thread."""
        for callback in self.mark():
            callback()

    def mark(self) -> list[Callable[[], None]]:
        """Set it, and return the callbacks: for a caller that holds a lock, and calls them once it has released it."""
        with self._guard:
            super().set()
            callbacks, self._callbacks = self._callbacks, []
        return callbacks

    def when_set(self, callback: Callable[[], None]) -> None:
        """Call *callback* when it is set next; at once if it is set."""
        with self._guard:
            if not self.is_set():
                self._callbacks.append(callback)
                return
        callback()


def block_until(
    event: threading.Event,
    cancel: Callable[[], object],
    *,
    loop: EngineLoop | None,
    message: Callable[[], str] = _what_is_kept,
    timeout_s: float | None = None,
) -> None:
    """Block until *event* is set, and stay interruptible.

    The first interrupt calls *cancel* and waits for what has arrived to be stored; the second gives up waiting. Either
    ends in KeyboardInterrupt with *message*.

    Args:
        event: Set by the work at its end.
        cancel: Stops the work. From any thread.
        loop: The engine's loop that the work needs, None where it needs none.
        message: Called after an interrupt.
        timeout_s: Return after this time in any case, None for no bound.

    Raises:
        KeyboardInterrupt: After an interrupt.
        PllmError: If the loop ends first, or belongs to another process.
        UsageError: On the engine's own thread, where waiting would never end.
    """
    thread = threading.current_thread()
    is_inside = loop is not None and thread is loop.thread
    if loop is not None and is_inside and loop.where == "private":
        raise UsageError("A blocking call was made from within the engine's own thread; await it instead.")
    wait = _Wait(event, cancel, timeout_s)
    # A handler of our own: Python's raises at whatever bytecode happens to run, with a nested loop inside a call.
    main = thread is threading.main_thread()
    before = signal.signal(signal.SIGINT, wait.interrupt) if main else None
    try:
        if loop is not None and is_inside and loop.where == "notebook":
            loop.loop.run_until_complete(wait.poll())
        else:
            while not wait.over and not event.wait(_TICK_S):
                if loop is not None and not loop.alive and not event.is_set():
                    hold_at_exit()
                    raise loop.ended()
    except BaseException:
        if loop is None or loop.alive:
            cancel()
        raise
    finally:
        if main:
            signal.signal(signal.SIGINT, before)
    hold_at_exit()
    if wait.interrupts:
        raise interrupted(message())


class _Wait:
    """One blocking wait: when it began, and when it was interrupted."""

    def __init__(self, event: threading.Event, cancel: Callable[[], object], timeout_s: float | None) -> None:
        self._event = event
        self._cancel = cancel
        self._until = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        self.interrupts: list[float] = []

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupts.append(time.monotonic())
        if len(self.interrupts) == 1:
            self._cancel()

    @property
    def over(self) -> bool:
        now = time.monotonic()
        if len(self.interrupts) > 1 or now >= self._until:
            return True
        return self._event.is_set() or (bool(self.interrupts) and now - self.interrupts[0] > _GRACE_S)

    async def poll(self) -> None:
        while not self.over:
            await asyncio.sleep(_TICK_S / 2)


async def await_end(
    event: EndEvent,
    cancel: Callable[[], object] | None = None,
    *,
    loop: EngineLoop | None = None,
    message: Callable[[], str] = _what_is_kept,
) -> None:
    """Wait for *event* on the caller's own loop, passing cancellation on, which a notebook shows as one line.

    Args:
        event: Set by the work at its end.
        cancel: Stops the work when the wait is cancelled, None to let it go on.
        loop: The engine's loop that the work needs, None where it needs none.
        message: Called after a cancellation, for that line.

    Raises:
        PllmError: If the engine's loop ends first.
    """
    here = asyncio.get_running_loop()
    woken: asyncio.Future[None] = here.create_future()
    event.when_set(partial(_wake, here, woken))
    try:
        while not (woken.done() or event.is_set()):
            if loop is not None and not loop.alive:
                hold_at_exit()
                raise loop.ended()
            await asyncio.wait([woken], timeout=_WAKE_S)
        hold_at_exit()
    except asyncio.CancelledError as cancelled:
        last = cancelled
        if cancel is not None:
            cancel()
            try:
                # What has arrived is stored before the cancellation goes on; a second one does not wait.
                await asyncio.wait([woken], timeout=_GRACE_S)
            except asyncio.CancelledError as second:
                last = second
        show_in_one_line(last, message())
        raise last from None


def _wake(loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> None:
    def finish() -> None:
        if not woken.done():
            woken.set_result(None)

    if not loop.is_closed():
        loop.call_soon_threadsafe(finish)


def hold_at_exit() -> None:
    """Block a daemon thread of a process that exits; return at once to every other thread, and to an engine's own.

    Python ends a daemon thread wherever it blocks, in silence. Woken by the end of its run, it would raise an
    unrelated error, and print its traceback if it gets that far before the interpreter goes.

    Raises:
        SystemExit: After some seconds, for a thread that another one joins at exit. A thread ends by it in silence.
    """
    thread = threading.current_thread()
    # An engine's thread must end what is still to be ended: the exit waits for it.
    if RUNTIME.is_exiting and thread.daemon and not thread.name.startswith(ENGINE_THREAD):
        time.sleep(_HELD_S)
        raise SystemExit
