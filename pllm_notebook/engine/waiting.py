"""Interruptible waiting for the end of work on another thread.

`block_until` is for a caller that may block, `await_end` for a caller with its own event loop. Both cancel the work
when interrupted, and allow a few seconds for storing the answers that have arrived.
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

# How long stopped work may take to store what has arrived before waiting ends.
_GRACE_S = 10.0
# A blocked main thread wakes this often so that Python can run signal handlers.
_TICK_S = 0.05
# ipykernel passes an interrupt to the caller's loop without waking it. An idle loop would notice it only at the end.
_WAKE_S = 0.1
# How long a daemon thread is blocked at exit. It must still end if another thread joins it.
_HELD_S = 2.0


def _what_is_kept() -> str:
    return "Stopped. What has arrived is kept. Run the cell again to continue."


class EndEvent(threading.Event):
    """An event that also runs callbacks. Each registered callback runs once."""

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: list[Callable[[], None]] = []
        self._guard = threading.Lock()

    def set(self) -> None:
        """Set the event, and run the callbacks on this thread."""
        for callback in self.mark():
            callback()

    def mark(self) -> list[Callable[[], None]]:
        """Set the event and return the callbacks, for a caller that runs them after it has released a lock."""
        with self._guard:
            super().set()
            callbacks, self._callbacks = self._callbacks, []
        return callbacks

    def when_set(self, callback: Callable[[], None]) -> None:
        """Call *callback* when the event is next set; at once if it is already set."""
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
    """Block until *event* is set, but stay interruptible.

    The first interrupt calls *cancel* and waits for the arrived answers to be stored; the second stops waiting. Both
    end in KeyboardInterrupt with *message*.

    Args:
        event: Set by the work at its end.
        cancel: Stops the work. Works from any thread.
        loop: The engine's loop if the work needs it, else None.
        message: Returns the text of the interrupt. Called after an interrupt.
        timeout_s: Maximum seconds to wait, None for no bound.

    Raises:
        KeyboardInterrupt: After an interrupt.
        PllmError: If the loop ends first or belongs to another process.
        UsageError: On the engine's own thread, where waiting would never end.
    """
    thread = threading.current_thread()
    is_inside = loop is not None and thread is loop.thread
    if loop is not None and is_inside and loop.where == "private":
        raise UsageError("A blocking call was made from within the engine's own thread; await it instead.")
    wait = _Wait(event, cancel, timeout_s)
    # Python's own handler raises at an arbitrary bytecode; with a nested loop that may be inside a call's coroutine.
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
    """One blocking wait: its time limit and its interrupts."""

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
    """Wait for *event* on the caller's loop. A cancellation is raised again; a notebook shows it as one line.

    Args:
        event: Set by the work at its end.
        cancel: Stops the work when the wait is cancelled, None to let it continue.
        loop: The engine's loop if the work needs it, else None.
        message: Returns the text of that line. Called after a cancellation.

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
                # Arrived answers are stored before the cancellation is raised; a second one does not wait.
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
    """Block the calling thread if it is a daemon thread of an exiting process and not an engine's; else return at once.

    Python silently ends a blocked daemon thread at exit. If the end of its run woke the thread first, it would raise
    an unrelated error and might print a traceback before the interpreter exits.

    Raises:
        SystemExit: After some seconds, in case another thread joins this one at exit. It ends a thread silently.
    """
    thread = threading.current_thread()
    # An engine's thread must finish its cleanup: the exit waits for it.
    if RUNTIME.is_exiting and thread.daemon and not thread.name.startswith(ENGINE_THREAD):
        time.sleep(_HELD_S)
        raise SystemExit
