"""The event loop for all network I/O: in its own thread by default, or the notebook's loop.

Why a separate loop: a blocking cell also blocks the kernel's loop, so a blocking call there would have to nest the
loop in itself, and nesting patches asyncio for the whole process. With nest-asyncio 1.6 on ipykernel 7.1 to 7.4, a
shell message that arrives while a nested loop runs (the next cell of "Run All", a completion, a click) is dropped, and
that cell never ends. ipykernel also raises KeyboardInterrupt at an arbitrary bytecode: with a nested loop, 15 of 20
interrupts were raised inside the coroutine of a call. With a loop in a thread, the main thread only waits (see
`waiting`): no message is lost, an interrupt cancels only the run, widgets still redraw, and the same code works in
scripts, under pytest and inside a running loop. Awaited calls leave the notebook's loop free.

`configure(loop="notebook")` is for objects that are bound to the notebook's loop. It needs nest-asyncio2 (1.7.4), which
defers messages instead of dropping them. uvloop cannot be nested.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Literal

from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.threads import ENGINE_THREAD, DaemonLoop

__all__ = ["EngineLoop"]

logger = logging.getLogger("pllm_notebook")


class EngineLoop:
    """An event loop and its thread.

    An exception raised by a callback on the loop is passed to `on_error`. A plain loop would log it and continue, and
    a caller waiting for the rest of that step would wait forever.

    Args:
        where: "private" for a separate thread, "notebook" for the loop that is running now.

    Attributes:
        on_end: Called in the private thread when its loop has ended, for any reason.
        on_error: Called on the loop with the exception that a callback raised.

    Raises:
        UsageError: If *where* is "notebook" and there is no running loop, or the loop or kernel cannot be nested.
    """

    def __init__(self, where: Literal["private", "notebook"] = "private") -> None:
        self.where = where
        self.on_end: Callable[[], None] = lambda: None
        self.on_error: Callable[[Exception], None] = lambda error: None
        self.pid = os.getpid()
        self._is_stopped = False
        if where == "private":
            self.loop: asyncio.AbstractEventLoop = DaemonLoop()
            self._watch()
            ready = threading.Event()
            self.thread = threading.Thread(target=self._main, args=(ready,), name=ENGINE_THREAD, daemon=True)
            try:
                self.thread.start()
            except BaseException:  # no thread can start: too many, or the interpreter ends
                self.loop.close()
                raise
            ready.wait()
        else:
            self.loop = _notebook_loop()
            self._watch()
            self.thread = threading.current_thread()

    def __repr__(self) -> str:
        state = "running" if self.loop.is_running() else "stopped"
        return f"EngineLoop({self.where!r}, {state}, thread={self.thread.name!r})"

    def _main(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(ready.set)
        try:
            self.loop.run_forever()
            self._is_stopped = True
            self.on_end()
        finally:
            self.loop.close()

    def _watch(self) -> None:
        """Handle exceptions raised by callbacks; on the notebook's loop, only those raised in this package."""
        before = self.loop.get_exception_handler()
        private = self.where == "private"

        def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            error = context.get("exception")
            # Only an exception from a callback comes with a handle. A task's exception is kept for its awaiters.
            if isinstance(error, Exception) and "handle" in context and (private or _is_ours(error)):
                logger.error("A step of the engine failed", exc_info=error)
                self.on_error(error)
            elif before is not None:
                before(loop, context)
            else:
                loop.default_exception_handler(context)

        self.loop.set_exception_handler(handle)

    @property
    def alive(self) -> bool:
        """Whether the loop still accepts work. It does not in a forked child or after it has stopped."""
        return self._has_thread and not self._is_stopped

    @property
    def _has_thread(self) -> bool:
        return self.pid == os.getpid() and self.thread.is_alive() and not self.loop.is_closed()

    def inside(self) -> bool:
        """Return whether the caller is on this loop's thread."""
        return threading.current_thread() is self.thread

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Schedule *function* on the loop, from any thread.

        Raises:
            PllmError: If the loop has ended or belongs to another process.
        """
        # A stopped loop silently accepts callbacks but never runs them, except those of its own cleanup.
        if not (self.alive or (self.inside() and self._has_thread)):
            raise self.ended()
        self.loop.call_soon_threadsafe(function, *args)

    def ended(self) -> PllmError:
        """Build the error for a caller that needs this loop after its end."""
        if self.pid != os.getpid():
            return PllmError(
                "This run belongs to the process that this one was forked from; wait for it there, or run the cell "
                "again here: what is answered is in the cache."
            )
        return PllmError("The engine of this run was shut down. Run the cell again: what is answered is kept.")

    def stop(self) -> None:
        """End the private thread. The notebook's loop is left running."""
        if self.where == "private" and self.pid == os.getpid() and self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            if not self.inside():
                self.thread.join(timeout=5)


def _is_ours(error: Exception) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith("pllm_notebook."):
            return True
        trace = trace.tb_next
    return False


def _notebook_loop() -> asyncio.AbstractEventLoop:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise UsageError(
            "loop='notebook' needs a running event loop, as a Jupyter kernel has; there is none here. "
            "Leave it at loop='private'."
        ) from None
    if type(loop).__module__.startswith("uvloop"):
        raise UsageError("loop='notebook' cannot nest in uvloop. Leave it at loop='private'.")
    try:
        import nest_asyncio2
    except ImportError:
        kernel = sys.modules.get("ipykernel")
        version = getattr(kernel, "__version__", "")
        raise UsageError(
            "loop='notebook' needs the package nest-asyncio2 (1.7.4 or newer): the older nest-asyncio loses cells "
            f"on ipykernel 7{f' (this is {version})' if version else ''}. Run: pip install nest-asyncio2"
        ) from None
    nest_asyncio2.apply(loop)
    return loop
