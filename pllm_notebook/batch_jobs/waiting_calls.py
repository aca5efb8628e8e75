"""Calls that wait for the answers of batch jobs: which runs wait, and what an answer that was cut off is to them."""

from __future__ import annotations

from dataclasses import dataclass

from pllm_notebook.engine import RunQueue
from pllm_notebook.pending_call import PendingCall
from pllm_notebook.records import Failure, Finish, Reply

__all__ = ["JobGroup", "WaitingCall", "truncated_below"]


@dataclass(eq=False, slots=True)
class JobGroup:
    """Calls that are journalled together.

    Attributes:
        jobs: Ids of the jobs that they are in, planned by any kernel; None until that is known.
    """

    jobs: frozenset[str] | None = None


@dataclass(eq=False, slots=True)
class WaitingCall:
    """A call that waits for an answer.

    Attributes:
        cohort: With which it is journalled.
        passengers: The runs that wait for it, and what each asked; whoever joins it waits for its cohort.
    """

    cohort: JobGroup
    waiters: list[tuple[RunQueue, PendingCall]]


def truncated_below(call: PendingCall, result: Reply | Failure, limit: int) -> bool:
    """Return whether an answer was cut off at a limit below that of the request which waits for it."""
    if not isinstance(result, Reply) or result.finish is not Finish.TRUNCATED or limit == 0:
        return False
    allowed = call.wire_limit or call.output_limit
    return not allowed or allowed > limit
