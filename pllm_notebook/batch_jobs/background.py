"""Resume polling the open jobs of earlier kernels when a kernel uses this package."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from pllm_notebook.batch import count_open_jobs
from pllm_notebook.batch_jobs.service import BatchService, batch_service_for
from pllm_notebook.engine import Engine, engine
from pllm_notebook.exceptions import PllmError
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.runtime import Slot
from pllm_notebook.settings import Options, current

__all__ = ["start_polling"]

logger = logging.getLogger("pllm_notebook")


class _Polling:
    """The engine and service that poll each cache directory; None if no job was open."""

    def __init__(self) -> None:
        self.directories: dict[str, tuple[Engine, BatchService] | None] = {}
        # The loop keeps only weak references to its tasks.
        self.tasks: set[asyncio.Task[None]] = set()


_POLLING: Slot[_Polling] = Slot("polling", _Polling)


def start_polling(resolve: Callable[[Options], ResolvedModel]) -> None:
    """Poll the open jobs of the current cache directory in the background, unless `poll` is off.

    Costs one file system check if there are none. Journal errors are logged, not raised: they are unrelated to the
    current cell.

    Args:
        resolve: Resolves the model of a job (see `JobAccounts`).
    """
    # Imported on use: the database library is not needed to import this package.
    from pllm_notebook.store import chosen_directory, open_store

    settings = current()
    directory = os.path.realpath(chosen_directory(settings.cache_dir)[0])
    if not settings.poll:
        _leave(directory)
        return
    polled = _POLLING.value.directories
    tended = polled.get(directory)
    if directory in polled and (tended is None or tended[0].loop.alive):
        return
    polled[directory] = None
    if not count_open_jobs(directory):
        return
    try:
        running = engine(settings.loop)
        store = open_store(settings.cache_dir)
        opened = batch_service_for(running, store, store.directory, resolve)
    except PllmError as error:
        logger.warning("Batch jobs are not being polled: %s", error)
        return
    polled[directory] = running, opened
    running.loop.call(_begin, running, opened)


def _leave(directory: str) -> None:
    tended = _POLLING.value.directories.pop(directory, None)
    if tended is not None and tended[0].loop.alive:
        running, opened = tended
        running.loop.call(_end, running, opened)


def _begin(running: Engine, opened: BatchService) -> None:
    _keep_task(running.loop.loop.create_task(opened.start_polling()))


def _end(running: Engine, opened: BatchService) -> None:
    _keep_task(running.loop.loop.create_task(opened.leave()))


def _keep_task(task: asyncio.Task[None]) -> None:
    """Keep a reference to a task until it ends, and log its failure."""
    tasks = _POLLING.value.tasks
    tasks.add(task)

    def ended(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.warning("Batch jobs are not being polled: %s", task.exception())

    task.add_done_callback(ended)
