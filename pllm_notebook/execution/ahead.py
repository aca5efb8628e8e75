"""Prompts that show files are made beside the loop: a slow disk would make it deaf to everything else.

One at a time, and only when it is the next to be sent, so that few files are held and each is read as late as can be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

from pllm_notebook.execution.call_spec import EncodedPrompt
from pllm_notebook.records import Failure

__all__ = ["Ahead"]


class Ahead:
    """Make the words of the next call in a worker thread. Used on the engine's loop.

    Args:
        make: Gives a call's words, or says why there are none; called in the thread.
        loop: The engine's.
        workers: The threads.
        ready: Called on the loop when words have been made.
    """

    def __init__(
        self,
        make: Callable[[int], EncodedPrompt | Failure],
        loop: asyncio.AbstractEventLoop,
        workers: Executor,
        ready: Callable[[], None],
    ) -> None:
        self._make = make
        self._loop = loop
        self._workers = workers
        self._ready = ready
        self._call = -1
        self._work: asyncio.Future[EncodedPrompt | Failure] | None = None

    def encoded(self, call: int) -> EncodedPrompt | Failure | None:
        """Return a call's words; None where they are being made, and `ready` will be called.

        Raises:
            Exception: Whatever making them raised.
        """
        if self._work is None:
            self._call = call
            self._work = self._loop.run_in_executor(self._workers, self._make, call)
            self._work.add_done_callback(self._made)
        if not self._work.done():
            return None
        if self._call == call:
            return self._work.result()
        self.forget()  # it was answered meanwhile
        return self.encoded(call)

    def forget(self) -> None:
        """Let go of what was made: it is on its way, or would be read anew."""
        if self._work is not None and self._work.done():
            self._work = None

    def _made(self, work: asyncio.Future[EncodedPrompt | Failure]) -> None:
        if not work.cancelled():
            self._ready()
