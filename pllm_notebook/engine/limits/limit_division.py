"""Division of an account's limits among the processes of this machine that send calls for it.

A reply reports what is left for all processes, and without a division each would use all of it: three kernels with one
key get more refusals (429) than answers.
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
# Hardly any provider answers sooner, and no limit is known before the first answer. A process that is done by then
# need not be counted.
_FIRST_AFTER_S = 0.1

logger = logging.getLogger("pllm_notebook")


class LimitDivision:
    """This process's share of the limits. The limiter is set to it while the process sends. Used on the engine's loop.

    Args:
        limiter: The limits.
        workers: Threads for *count* and *stop*, which use a file.
        count: Records that this process is sending, and returns how many processes are.
        stop: Records that this process no longer sends.
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
        """Start counting the processes that send."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._follow())

    def end(self) -> None:
        """Stop counting, and leave this share to the other processes."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._has_counted:
            self._has_counted = False
            self._limiter.divide(1)
            with suppress(RuntimeError):  # no workers while the process exits; the others notice within seconds
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
