"""An account's limits are divided among the processes of this machine that send for it.

Each process sees in a reply what is left for all of them, and would take all of it: three kernels with one key are
refused more often than they are answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress

from pllm_notebook.engine.limits.limiter import Limiter

__all__ = ["LimitDivision"]

COUNT_EVERY_S = 1.0
# Hardly any provider answers sooner, and until an answer nothing is known of its limits. A process that is done by then
# need not say that it sends.
_FIRST_AFTER_S = 0.1

logger = logging.getLogger("pllm_notebook")


class LimitDivision:
    """Keep a limiter at this process's part of the limits while it sends. Used on the engine's loop.

    Args:
        limiter: The limits.
        workers: Threads for *count* and *stop*, which read a file.
        count: Says that this process sends, and returns how many do.
        stop: Says that it sends no more.
    """

    def __init__(
        self, limiter: Limiter, workers: Executor, count: Callable[[], int], stop: Callable[[], object]
    ) -> None:
        self._limiter = limiter
        self._workers = workers
        self._count = count
        self._stop = stop
        self._task: asyncio.Task[None] | None = None
        self._has_counted = False

    def begin(self) -> None:
        """Count the processes from now on."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._follow())

    def end(self) -> None:
        """Count no more, and let the others have this part."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._has_counted:
            self._has_counted = False
            self._limiter.divide(1)
            with suppress(RuntimeError):  # at the end of the process there are no workers; others notice in seconds
                self._workers.submit(self._stop)

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(_FIRST_AFTER_S)
        self._has_counted = True
        while True:
            try:
                self._limiter.divide(max(1, await loop.run_in_executor(self._workers, self._count)))
            except Exception:
                logger.debug("The processes that send could not be counted", exc_info=True)
            await asyncio.sleep(COUNT_EVERY_S)
