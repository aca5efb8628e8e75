"""A provider's batch API modelled in memory, and a kernel that can die at any step of driving it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import orjson

from pllm_notebook.batch import DraftLine, Job, JobDraft, custom_id
from pllm_notebook.batch.journal_database import JournalDatabase
from pllm_notebook.failures import FailureKind
from pllm_notebook.protocols import BatchRefused, TransportFault
from pllm_notebook.types import BatchLimits, BatchResult, RawReply, RemoteJob

T = TypeVar("T")

PLAN = JobDraft(
    "cohort", "openai", "account", "openai:gpt-6-luna", "gpt-6-luna", "/chat/completions", "a.ipynb, cell 3"
)
LIMITS = BatchLimits(50_000, 200_000_000)


def outgoing(keys: list[str], estimate_usd: float | None = 0.01) -> Iterator[DraftLine]:
    """One small line for each key."""
    for key in keys:
        yield DraftLine(key, orjson.dumps({"custom_id": custom_id(key), "body": {}}), 100, estimate_usd)


def answer(custom_id: str) -> BatchResult:
    return BatchResult(custom_id, RawReply(200, {}, orjson.dumps({"text": custom_id})))


async def inline(function: Callable[..., T], *args: Any) -> T:
    """Run what may block right here, so that virtual time does not run away from it."""
    return function(*args)


class Died(BaseException):
    """The kernel was killed. Not an Exception: nothing of ours may take it for a fault."""


@dataclass
class Fuse:
    """Kills the kernel at its n-th point, after which it can do nothing more.

    Attributes:
        at: The point, 0 for none.
        passed: Points so far.
        dead: Whether it went off.
    """

    at: int = 0
    passed: int = 0
    dead: bool = False

    def point(self) -> None:
        self.alive()
        self.passed += 1
        if self.passed == self.at:
            self.dead = True
            raise Died

    def alive(self) -> None:
        if self.dead:
            raise Died


class MortalDatabase(JournalDatabase):
    """A journal's file whose every commit is a point before and a point after."""

    def __init__(self, directory: str, fuse: Fuse) -> None:
        self.fuse = fuse
        super().__init__(directory)

    def query(self, statement: str, values: Any = ()) -> list[Any]:
        self.fuse.alive()
        return super().query(statement, values)

    @contextmanager
    def change(self, connection: Any = None) -> Iterator[Any]:
        self.fuse.point()
        with super().change(connection) as inner:
            yield inner
        self.fuse.point()


@dataclass
class Made:
    """A job at the provider."""

    id: str
    label: str
    created_at: float
    ids: list[str]
    run_s: float
    cancelled_at: float | None = None
    ending: str = "ended"


@dataclass
class Provider:
    """What outlives every kernel.

    Attributes:
        clock: Seconds since the epoch.
        keeps_labels: As `BatchAPI.keeps_labels`.
        lag_s: A job is listed so long after it was made.
        run_s: A job takes so long.
        creating: What becomes of the next creations: "lost" (made, and the answer lost), "down" (not made, nobody
            knows), "limited" (a 429) or "refused" (a 400); afterwards they go well.
        stranger_s: How long a stranger's job of the same size takes, made while ours is; None for no stranger.
        results: What a line's result is; None leaves it out.
        extra: Results that nobody sent for.
        ending: How jobs end.
    """

    clock: Callable[[], float]
    keeps_labels: bool = True
    lag_s: float = 0.0
    run_s: float = 300.0
    creating: list[str] = field(default_factory=list)
    stranger_s: float | None = None
    results: Callable[[str], BatchResult | None] = answer
    extra: list[BatchResult] = field(default_factory=list)
    ending: str = "ended"
    jobs: dict[str, Made] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    paid: Counter[str] = field(default_factory=Counter)
    creates: int = 0
    cancels: list[str] = field(default_factory=list)

    def make(self, label: str, ids: list[str], run_s: float | None = None) -> Made:
        name = f"job-{len(self.jobs)}"
        run_s = self.run_s if run_s is None else run_s
        made = Made(name, label if self.keeps_labels else "", self.clock(), ids, run_s, ending=self.ending)
        self.jobs[name] = made
        return made

    def paid_twice(self) -> int:
        return sum(count - 1 for count in self.paid.values() if count > 1)

    def seen(self, made: Made) -> RemoteJob:
        over = made.cancelled_at is not None or self.clock() >= made.created_at + made.run_s
        state: Any = "running" if not over else "cancelled" if made.cancelled_at is not None else made.ending
        return RemoteJob(
            made.id, state, label=made.label, created_at=made.created_at, total=len(made.ids), files=("out", "err")
        )


class ModelBatchAPI:
    """One kernel's way to the provider."""

    limits = LIMITS

    def __init__(self, provider: Provider, fuse: Fuse | None = None) -> None:
        self.provider = provider
        self.fuse = fuse or Fuse()
        self.keeps_labels = provider.keeps_labels

    def line(self, custom_id: str, body: bytes) -> bytes:
        return body

    async def upload(self, lines: Path, label: str) -> str:
        self.fuse.point()
        name = f"file-{len(self.provider.files)}"
        self.provider.files.add(name)
        self.fuse.point()
        return name

    async def create(self, lines: Path, uploaded: str, label: str) -> RemoteJob:
        provider = self.provider
        self.fuse.point()
        provider.creates += 1
        becomes = provider.creating.pop(0) if provider.creating else "answered"
        if becomes == "refused":
            raise BatchRefused(400, "The file is not JSON.")
        if becomes == "limited":
            raise TransportFault(FailureKind.RATE_LIMIT, "Too many requests.")
        if becomes == "down":
            raise TransportFault(FailureKind.SERVER, "The server said 500.")
        ids = [orjson.loads(line)["custom_id"] for line in lines.read_bytes().splitlines()]
        made = provider.make(label, ids)
        provider.paid.update(ids)
        self.fuse.point()
        if becomes == "lost":
            raise TransportFault(FailureKind.CONNECTION, "The connection was reset.")
        return provider.seen(made)

    async def look(self, job_id: str) -> RemoteJob:
        self.fuse.alive()
        return self.provider.seen(self.provider.jobs[job_id])

    async def recent(self, since: float) -> AsyncIterator[RemoteJob]:
        self.fuse.alive()
        provider = self.provider
        for made in reversed(provider.jobs.values()):
            if made.created_at > since and provider.clock() >= made.created_at + provider.lag_s:
                yield provider.seen(made)
        if provider.stranger_s is not None and not any(made.label == "stranger" for made in provider.jobs.values()):
            stranger_s, provider.stranger_s = provider.stranger_s, None
            provider.make("stranger", ["p1-theirs-0", "p1-theirs-1"], stranger_s)

    async def results(self, job: RemoteJob) -> AsyncIterator[BatchResult]:
        self.fuse.alive()
        made = self.provider.jobs[job.id]
        done = made.cancelled_at is None or made.cancelled_at >= made.created_at + made.run_s
        for one in reversed(made.ids):
            result = self.provider.results(one) if done else BatchResult(one, None, "cancelled")
            if result is not None:
                yield result
        for result in self.provider.extra:
            yield result

    async def cancel(self, job_id: str) -> None:
        self.fuse.alive()
        self.provider.cancels.append(job_id)
        made = self.provider.jobs[job_id]
        if self.provider.clock() >= made.created_at + made.run_s:
            raise BatchRefused(409, "It has ended.")
        if made.cancelled_at is None:
            made.cancelled_at = self.provider.clock()

    async def discard(self, uploaded: str) -> None:
        self.fuse.point()
        self.provider.files.discard(uploaded)


def same(api: ModelBatchAPI) -> Callable[[Job], ModelBatchAPI]:
    return lambda job: api
