"""Build the prompt of the next call again, in a worker where prompts show files: a slow disk must not block the loop.

One at a time, and only the next to be sent, so that few files are in memory and each is read as late as possible.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

from pllm_notebook.execution.call_spec import EncodedPrompt
from pllm_notebook.failures import Failure

__all__ = ["Prefetcher"]


class Prefetcher:
    """Build one call's content ahead of its turn. Used on the engine's loop.

    Args:
        make: Builds a call's content, or says why it cannot be sent; runs in a worker.
        loop: The engine's.
        workers: The threads.
        ready: Called on the loop when the content has been built.
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
        """Return a call's content; None while it is being built, and `ready` will be called.

        Raises:
            Exception: Whatever building it raised.
        """
        if self._work is None:
            self._call = call
            self._work = self._loop.run_in_executor(self._workers, self._make, call)
            self._work.add_done_callback(self._made)
        if not self._work.done():
            return None
        if self._call == call:
            return self._work.result()
        self.forget()  # that call was answered in the meantime
        return self.encoded(call)

    def forget(self) -> None:
        """Drop what was built: it has been sent, or must be read again."""
        if self._work is not None and self._work.done():
            self._work = None

    def _made(self, work: asyncio.Future[EncodedPrompt | Failure]) -> None:
        if not work.cancelled():
            self._ready()
