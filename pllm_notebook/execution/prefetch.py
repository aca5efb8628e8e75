"""Build the next call's prompt in a worker if prompts contain files, so that a slow disk does not block the loop.

Only the next call is built, so that few files are in memory and each is read as late as possible.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

from pllm_notebook.execution.call_spec import EncodedPrompt
from pllm_notebook.failures import Failure

__all__ = ["Prefetcher"]


class Prefetcher:
    """Build the next call's content in advance. Used on the engine's loop.

    Args:
        make: Builds a call's content, or returns why it cannot be sent; runs in a worker.
        loop: The engine's event loop.
        workers: The worker threads.
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
        """Return a call's content. Return None while it is being built; `ready` is called afterwards.

        Raises:
            Exception: Any exception raised while building it.
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
        """Drop the built content: it has been sent or must be read again."""
        if self._work is not None and self._work.done():
            self._work = None

    def _made(self, work: asyncio.Future[EncodedPrompt | Failure]) -> None:
        if not work.cancelled():
            self._ready()
