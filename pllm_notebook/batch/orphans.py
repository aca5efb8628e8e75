"""Find a job that was created and not recorded: its response was lost, or this process ended.

By its label where the provider keeps one. Elsewhere by time and count, and then by the ids in its results,
which are known only when it has ended; so a stranger's running job of the same size is waited for, and one
that turned out to be a stranger's is never looked into again.
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

# How far our clock may be ahead of the provider's. A wide margin costs nothing: what was there before is known.
CLOCK_SKEW_S = 3600.0
# Results may hold a few ids that were never sent; a stranger's job is made of them.
_MAX_FOREIGN_SHARE = 0.01
_GROUP = 1000

Ours = Callable[[Sequence[str]], Awaitable[Collection[str]]]
"""Tells which of some keys are lines of the job."""


@dataclass(frozen=True, slots=True)
class OrphanSearch:
    """What was found.

    Attributes:
        ours: Jobs of the provider that are ours, oldest first.
        maybe: Whether there is one that can only be judged when it has ended.
        strangers: Ids of those that turned out not to be ours.
    """

    ours: tuple[RemoteJob, ...]
    maybe: bool
    strangers: frozenset[str]


def since(creating_at: float) -> float:
    """Return the time from which to list jobs for one whose creation began at *creating_at*; both since the epoch."""
    return creating_at - CLOCK_SKEW_S


async def find_orphans(job: Job, api: BatchAPI, taken: Collection[str], ours: Ours) -> OrphanSearch:
    """Look for jobs of the provider that are *job*'s. Costs nothing.

    Args:
        job: Its creation has begun.
        api: Of its account.
        taken: Ids that belong to jobs of the journal.
        ours: Tells which of some keys are its lines.

    Raises:
        BatchRefused, TransportFault: If the list cannot be read. A job whose results are refused is a stranger's
            for us: nothing could be taken from it.
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
