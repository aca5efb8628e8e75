"""Plan jobs for calls: build each call's line, or use the job of another kernel that was quicker."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from pllm_notebook.batch import DraftLine, JobDraft, Journal, PendingElsewhereError, custom_id
from pllm_notebook.batch import Job as BatchJob
from pllm_notebook.pending_call import PendingCall
from pllm_notebook.prices import Rate
from pllm_notebook.protocols import BatchAPI
from pllm_notebook.providers import BYTES_PER_TOKEN, ResolvedModel
from pllm_notebook.types import Usage

__all__ = ["JobPlanner"]


class JobPlanner:
    """Plan the jobs of one account and model. Sends nothing.

    Args:
        target: The model.
        journal: The journal in which jobs are planned.
        rate: The model's batch price, None if unknown.
        origin: Origin of the calls, shown in job listings.
    """

    def __init__(self, target: ResolvedModel, journal: Journal, rate: Rate | None, origin: str) -> None:
        self._target = target
        self._journal = journal
        self._rate = rate
        self._origin = origin

    @property
    def label(self) -> str:
        """The model as the user writes it."""
        return self._target.label

    def waiting(self, keys: Sequence[str]) -> Mapping[str, BatchJob]:
        """Return the open jobs in which *keys* wait. Blocking."""
        return self._journal.pending(keys)

    def plan(self, api: BatchAPI, calls: Sequence[PendingCall]) -> tuple[list[BatchJob], list[str]]:
        """Record the calls that wait in no job as new jobs. Blocking.

        Args:
            api: The batch API, which builds the lines and knows the limits of a job.
            calls: The calls.

        Returns:
            The jobs of the calls, and the keys of calls that are too large for any job.

        Raises:
            StoreError: If the journal cannot be written. Nothing is planned then.
        """
        target = self._target
        cohort = f"{time.time_ns():x}"
        plan = JobDraft(
            cohort, target.provider, target.account, target.label, target.model, target.path, origin=self._origin
        )
        adopted: dict[str, BatchJob] = {}
        waiting: Mapping[str, BatchJob] = {}
        while calls:
            rest = (call for call in calls if call.key not in waiting)
            try:
                planned = self._journal.plan(plan, self._outgoing(api, rest), api.limits)
            except PendingElsewhereError:  # another kernel was quicker: wait for its job
                waiting = self._journal.pending([call.key for call in calls])
                adopted = {job.id: job for job in waiting.values()}
                continue
            return [*adopted.values(), *planned.jobs], list(planned.too_large)
        return [], []

    def _outgoing(self, api: BatchAPI, calls: Iterator[PendingCall]) -> Iterator[DraftLine]:
        for call in calls:
            content = call.content()
            usage = Usage(len(content) // BYTES_PER_TOKEN, round(call.answer_tokens))
            estimate = None if self._rate is None else self._rate.cost_usd(usage)
            yield DraftLine(
                call.key, api.line(custom_id(call.key), content), call.wire_limit or call.output_limit, estimate
            )
