"""The queues of a run, one for each spec that its rows are asked, and what they have in common."""

from __future__ import annotations

from pllm_notebook.execution.call_queue import CallQueue
from pllm_notebook.types import JobProgress, Spent

__all__ = ["CallQueues"]


class CallQueues(tuple[CallQueue, ...]):
    """The queues of one run, by the index of their spec. What displays read may be read from any thread."""

    __slots__ = ()

    @property
    def in_flight(self) -> int:
        """Calls on the wire."""
        return sum([queue.run_queue.in_flight for queue in self])

    @property
    def are_submitted(self) -> bool:
        """Whether everything that the run asks is on its way: of a batch, with the provider."""
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
        """What the run's calls have used and cost."""
        first, *others = self
        return sum((queue.spent for queue in others), first.spent) if others else first.spent

    def blocked_by(self) -> str:
        """Describe what holds calls back at this moment, "" for nothing."""
        return "; ".join(dict.fromkeys(note for queue in self if (note := queue.blocked_by())))
