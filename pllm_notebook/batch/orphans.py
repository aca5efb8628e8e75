"""Find a job that was created but not recorded, because its response was lost or this process ended.

If the provider keeps labels, the job is found by its label. Otherwise it is found by time and number of lines, and
then by the ids in its results, which are available only when it has ended. The search therefore waits for a running
job of the same size, even if it may be foreign. A job that proved foreign is never examined again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from pllm_notebook.batch.job import Job, key_in
from pllm_notebook.protocols import BatchAPI, BatchRefused
from pllm_notebook.types import RemoteJob

__all__ = ["CLOCK_SKEW_S", "OrphanSearch", "find_orphans", "since"]

# How far our clock may be ahead of the provider's. A wide margin is free, since older jobs are already known.
CLOCK_SKEW_S = 3600.0
# Results may contain a few ids that were never sent. A foreign job contains only such ids.
_MAX_FOREIGN_SHARE = 0.01
_GROUP = 1000

Ours = Callable[[Sequence[str]], Awaitable[Collection[str]]]
"""Returns which of some keys are lines of the job."""


@dataclass(frozen=True, slots=True)
class OrphanSearch:
    """The result of a search.

    Attributes:
        ours: The provider's jobs that are ours, oldest first.
        maybe: Whether there is a candidate that can be checked only when it has ended.
        strangers: Ids of jobs that proved not to be ours.
    """

    ours: tuple[RemoteJob, ...]
    maybe: bool
    strangers: frozenset[str]


def since(creating_at: float) -> float:
    """Return the time from which to list jobs if creation began at *creating_at*. Both are seconds since the epoch."""
    return creating_at - CLOCK_SKEW_S


async def find_orphans(job: Job, api: BatchAPI, taken: Collection[str], ours: Ours) -> OrphanSearch:
    """Search the provider's jobs for those created for *job*. Free of charge.

    Args:
        job: A job whose creation has begun.
        api: The batch API of its account.
        taken: The provider's ids of jobs already in the journal.
        ours: Returns which of some keys are its lines.

    Raises:
        BatchRefused: If the list is refused. A job whose results are refused counts as foreign: its answers could not
            be used.
        TransportFault: If the list, or the results of a candidate, cannot be read.
    """
    found: list[RemoteJob] = []
    strangers: set[str] = set()
    maybe = False
    stream: Any = api.recent(since(job.creating_at))
    async with aclosing(stream) as listed:
        async for remote in listed:
            if remote.id in taken or remote.id in job.known:
                continue
            if api.keeps_labels:
                if remote.label == job.label:
                    found.append(remote)
            elif remote.total in (job.total, None):
                found.append(remote)
    if not api.keeps_labels:
        candidates, found = found, []
        for remote in candidates:
            if remote.state == "running":
                maybe = True
            elif await _is_ours(remote, job, api, ours):
                found.append(remote)
            else:
                strangers.add(remote.id)
    found.sort(key=lambda remote: remote.created_at)
    return OrphanSearch(tuple(found), maybe, frozenset(strangers))


async def _is_ours(remote: RemoteJob, job: Job, api: BatchAPI, ours: Ours) -> bool:
    allowed = 1 + int(_MAX_FOREIGN_SHARE * job.total)
    seen = foreign = 0
    group: list[str] = []

    async def judge() -> None:
        nonlocal seen, foreign
        known = await ours([key for key in group if key])
        seen += len(known)
        foreign += len(group) - len(known)
        group.clear()

    try:
        stream: Any = api.results(remote)
        async with aclosing(stream) as results:
            async for result in results:
                group.append(key_in(result.custom_id))
                if len(group) >= _GROUP:
                    await judge()
                    if foreign > allowed:
                        return False
    except BatchRefused:
        return False
    await judge()
    return seen > 0 and seen >= foreign and foreign <= allowed
