"""Find calls that wait in a batch job, so that a live run does not pay for them a second time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from pllm_notebook.batch import count_open_jobs
from pllm_notebook.batch_jobs.service import BatchService
from pllm_notebook.exceptions import StoreError

__all__ = ["JournalLookup"]

logger = logging.getLogger("pllm_notebook")


class JournalLookup:
    """Look up calls that wait in the jobs of one cache directory. Sends nothing.

    Args:
        directory: The cache directory.
        batch_service: Opens the batch service; called only if there are open jobs.
        waits: Whether the run waits for the jobs. If so, they are polled.
    """

    def __init__(self, directory: str, batch_service: Callable[[], BatchService], *, waits: bool) -> None:
        self._directory = directory
        self._batch_service = batch_service
        self._waits = waits

    def any_open(self) -> bool:
        """Return whether there are open jobs now. Does not open the journal."""
        return count_open_jobs(self._directory) > 0

    def waiting(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Return the ids of the jobs in which *keys* wait for an answer. Keys that do not wait are omitted.

        If the journal cannot be read, a live run logs a warning and continues without it.
        """
        try:
            batch_service = self._batch_service()
            found = batch_service.journal.lines.pending(keys)
        except StoreError as error:
            logger.warning("Calls that wait in batch jobs are not known, and may be paid for again: %s", error)
            return {}
        if found and self._waits:
            batch_service.wake()
        return found
