"""The one loop that all network I/O lives on, and the ways of waiting for it.

By default it runs in a daemon thread of its own: blocking calls wait for it and stay
interruptible, awaiting calls bridge to it, and nothing of the notebook's is patched. With
`configure(loop="notebook")` it is the notebook's own loop, nested with nest-asyncio2 where a
blocking call needs it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Literal

from pllm_notebook.exceptions import PllmError, UsageError, interrupted
from pllm_notebook.threads import DaemonLoop

__all__ = ["EngineLoop", "hold_at_exit", "note_exit"]

# How long a stopped run may take to put away what has arrived before the wait is given up.
_GRACE_S = 10.0
# The main thread wakes this often to let Python run signal handlers.
_TICK_S = 0.05
# How long a daemon thread is held at exit; one that somebody joins there must end all the same.
_HELD_S = 2.0

# Set when this process exits and its runs end for that reason.
_exiting = threading.Event()

logger = logging.getLogger("pllm_notebook")


class EngineLoop:
    """An event loop and its thread.

    Every callback on it is watched: what one raises, and nobody else looks at, is handed to `at_fault`. A loop alone
    would log it and go on, and whoever waits for the rest of that step would wait for ever.

    Args:
        where: "private" for a thread of our own, "notebook" for the loop that runs now.

    Attributes:
        at_end: Called in the private thread when its loop has ended, whoever ended it.
        at_fault: Called on the loop with what a callback raised.

    Raises:
        UsageError: "notebook" outside a running loop, or with a loop or kernel that cannot be nested.
    """

    def __init__(self, where: Literal["private", "notebook"] = "private") -> None:
        self.where = where
        self.at_end: Callable[[], None] = lambda: None
        self.at_fault: Callable[[Exception], None] = lambda error: None
        self.pid = os.getpid()
        if where == "private":
            self.loop: asyncio.AbstractEventLoop = DaemonLoop()
            self._watch()
            ready = threading.Event()
            self.thread = threading.Thread(target=self._main, args=(ready,), name="pllm-engine", daemon=True)
            self.thread.start()
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
        self.loop.run_forever()
        self.at_end()

    def _watch(self) -> None:
        """Handle what callbacks raise; on a notebook's own loop, only what they raise in this package."""
        before = self.loop.get_exception_handler()
        private = self.where == "private"

        def heard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            error = context.get("exception")
            # Only what a callback raised comes with its handle; what a task raised is kept for who awaits it.
            if isinstance(error, Exception) and "handle" in context and (private or _is_ours(error)):
                logger.error("A step of the engine failed", exc_info=error)
                self.at_fault(error)
            elif before is not None:
                before(loop, context)
            else:
                loop.default_exception_handler(context)

        self.loop.set_exception_handler(heard)

    @property
    def alive(self) -> bool:
        """Whether work can still be given to it: not in a forked child, nor after its end."""
        return self.pid == os.getpid() and self.thread.is_alive() and not self.loop.is_closed()

    def inside(self) -> bool:
        """Whether the caller is on this loop's thread."""
        return threading.current_thread() is self.thread

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Run *function* on the loop soon, from any thread.

        Raises:
            PllmError: When the loop has ended, or is another process's.
        """
        # What a stopped loop is given it keeps for ever, without a word.
        if not self.alive:
            raise self.ended()
        self.loop.call_soon_threadsafe(function, *args)

    def ended(self) -> PllmError:
        """Return the error of one who needs this loop after its end."""
        if self.pid != os.getpid():
            return PllmError(
                "This run belongs to the process that this one was forked from; wait for it there, or run the cell "
                "again here: what is answered is in the cache."
            )
        return PllmError("The engine of this run was shut down. Run the cell again: what is answered is kept.")

    def wait(self, ended: threading.Event, cancel: Callable[[], None]) -> None:
        """Block until *ended* is set, and stay interruptible.

        The first interrupt calls *cancel* and waits for what has arrived to be put away; the second
        gives up waiting. Either ends in KeyboardInterrupt.

        Raises:
            KeyboardInterrupt: After an interrupt.
            PllmError: When the loop ends first, or is another process's.
            UsageError: From the engine's own thread, where waiting would never end.
        """
        if self.where == "private" and self.inside():
            raise UsageError("A blocking call was made from within the engine's own thread; await it instead.")
        hits: list[float] = []

        def pressed(number: int, frame: FrameType | None) -> None:
            hits.append(time.monotonic())
            if len(hits) == 1:
                cancel()

        # A handler of our own: Python's would raise at whatever bytecode happens to run, which with a
        # nested loop is the inside of a call.
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, pressed) if main else None
        try:
            if self.where == "notebook" and self.inside():
                self.loop.run_until_complete(self._until(ended, hits))
            else:
                while not ended.wait(_TICK_S) and not _spent(hits):
                    if not self.alive and not ended.is_set():
                        hold_at_exit()
                        raise self.ended()
        except BaseException:
            if self.alive:
                cancel()
            raise
        finally:
            if main:
                signal.signal(signal.SIGINT, before)
        hold_at_exit()
        if hits:
            raise interrupted("Stopped. What has arrived is kept; run the cell again to continue.")

    @staticmethod
    async def _until(ended: threading.Event, hits: list[float]) -> None:
        while not ended.is_set() and not _spent(hits):
            await asyncio.sleep(_TICK_S / 2)

    def stop(self) -> None:
        """End the private thread; the notebook's own loop is left alone."""
        if self.where == "private" and self.pid == os.getpid() and self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            if not self.inside():
                self.thread.join(timeout=5)
                if not self.thread.is_alive():
                    self.loop.close()


def note_exit() -> None:
    """Note that this process exits: from here on `hold_at_exit` holds."""
    _exiting.set()


def hold_at_exit() -> None:
    """Block a daemon thread of a process that exits; return at once to every other thread.

    Python ends a daemon thread wherever it blocks, in silence. Woken by the end of its run, it would raise an error
    that nobody asked for, and print its traceback if it gets that far before the interpreter goes.

    Raises:
        SystemExit: After some seconds, for whoever joins the thread at exit. A thread ends by it in silence.
    """
    if _exiting.is_set() and threading.current_thread().daemon:
        time.sleep(_HELD_S)
        raise SystemExit


def _is_ours(error: Exception) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith("pllm_notebook."):
            return True
        trace = trace.tb_next
    return False


def _spent(hits: list[float]) -> bool:
    return len(hits) > 1 or (bool(hits) and time.monotonic() - hits[0] > _GRACE_S)


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


os.register_at_fork(after_in_child=_exiting.clear)
