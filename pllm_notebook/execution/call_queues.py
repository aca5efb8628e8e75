"""The queues of a run, one for each spec, and their totals."""

from __future__ import annotations

from pllm_notebook.execution.call_queue import CallQueue
from pllm_notebook.types import JobProgress, Spent

__all__ = ["CallQueues"]


class CallQueues(tuple[CallQueue, ...]):
    """The queues of one run, by the index of their spec. Displays may read the totals from any thread."""

    __slots__ = ()

    @property
    def in_flight(self) -> int:
        """Number of calls on the wire."""
        return sum([queue.run_queue.in_flight for queue in self])

    @property
    def are_submitted(self) -> bool:
        """Whether all calls have been sent; for a batch, submitted to the provider."""
        return all(queue.submitted for queue in self)

    @property
    def jobs(self) -> tuple[JobProgress, ...]:
        """The batch jobs that the run waits for, or waited for until it ended."""
        if not hasattr(self[-1], "dispatcher"):  # not begun yet
            return ()
        jobs = {job.id: job for queue in self for job in queue.dispatcher.jobs_of(queue.run_queue)}
        return tuple(jobs.values())

    @property
    def spent(self) -> Spent:
        """Usage and cost of the run's calls."""
        first, *others = self
        return sum((queue.spent for queue in others), first.spent) if others else first.spent

    def blocked_by(self) -> str:
        """Describe what delays calls at present, "" for nothing."""
        return "; ".join(dict.fromkeys(note for queue in self if (note := queue.blocked_by())))
