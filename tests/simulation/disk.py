"""A store whose disk outlives the process, and fails as disks do: slow, full for a while, refusing, damaged."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pllm_notebook.exceptions import StoreError
from pllm_notebook.failures import FailedCall
from pllm_notebook.store import MemoryStore
from pllm_notebook.store.codec import DamagedEntry, pack, unpack
from pllm_notebook.stored_reply import StoredReply
from tests.simulation.accounts import Accounts
from tests.simulation.world import Process

__all__ = ["Disk", "DiskFaults", "SimStore"]

Done = Callable[[BaseException | None], None]

_PAUSE_S = 1.0
_PATIENCE_S = 60.0


@dataclass
class Disk:
    """What outlives a process.

    Attributes:
        answers: Key to the bytes of an entry.
        failures: Calls that failed for good and were not answered since, in its `failed`.
    """

    answers: dict[str, bytes] = field(default_factory=dict)
    failures: MemoryStore = field(default_factory=MemoryStore)


@dataclass(frozen=True)
class DiskFaults:
    """What the disk does to those who write.

    Attributes:
        latency_s: Of a commit.
        group: Entries that one commit takes at most.
        refused: Share of commits that fail for good.
        full: From when to when it takes nothing, in seconds of the process.
        weight: Bytes that each waiting entry counts as: a writer that lags stops admission.
    """

    latency_s: float = 0.001
    group: int = 1000
    refused: float = 0.0
    full: tuple[float, float] = (0.0, 0.0)
    weight: int = 1000


class SimStore:
    """The store of one process (see `protocols.Store`) over a disk that outlives it."""

    claims = None
    written_by_others = 0

    def __init__(self, process: Process, disk: Disk, accounts: Accounts, faults: DiskFaults, seed: str) -> None:
        self._process = process
        self._disk = disk
        self._accounts = accounts
        self.faults = faults
        self._rng = random.Random(f"{seed}:{process.number}:disk")
        self._queue: list[tuple[str, StoredReply, Done]] = []
        self._unwritten: dict[str, StoredReply] = {}
        self._writing = False
        self._timer: asyncio.TimerHandle | None = None
        self._full_since: float | None = None
        self.lost: set[str] = set()

    def get_many(self, keys: Sequence[str]) -> dict[str, StoredReply]:
        found = {}
        for key in keys:
            if key in self._disk.answers:
                try:
                    found[key] = unpack(self._disk.answers[key])
                except DamagedEntry:
                    continue
        return found

    def put(self, key: str, entry: StoredReply, done: Done) -> None:
        if self._process.dead:
            return
        self._accounts.queued(key, entry)
        self._queue.append((key, entry, done))
        self._unwritten[key] = entry
        if not self._writing:
            self._writing = True
            self._again(self._latency_s())

    def queued(self, key: str) -> StoredReply | None:
        return self._unwritten.get(key)

    @property
    def backlog_bytes(self) -> int:
        return len(self._unwritten) * self.faults.weight

    @property
    def unwritable(self) -> str:
        return ""

    def is_behind(self, limit_bytes: int) -> bool:
        return self.backlog_bytes > limit_bytes

    def note_failure(self, key: str, tell: Callable[[], FailedCall]) -> None:
        def keep() -> None:
            if not self._process.step("failure kept"):
                self._disk.failures.note_failure(key, tell)

        if not self._process.dead:
            self._process.loop.call_later(self._latency_s(), keep)

    def note_valid(self, keys: Sequence[str]) -> None:
        if not self._process.dead:
            self._disk.failures.note_valid(keys)

    def rejected(self, keys: Sequence[str]) -> dict[str, FailedCall]:
        return self._disk.failures.rejected(keys)

    async def finish(self) -> None:
        """Write what is queued, as the writer does at the end of a process."""
        while self._queue:
            await asyncio.sleep(_PAUSE_S)

    def close(self) -> None:
        """Write no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _again(self, delay_s: float) -> None:
        self._timer = self._process.loop.call_later(delay_s, self._commit)

    def _latency_s(self) -> float:
        return self.faults.latency_s * self._rng.uniform(0.2, 2.0)

    def _commit(self) -> None:
        group = self._queue[: self._rng.randint(1, self.faults.group)]
        if self._process.step("commit", len(group)):
            return
        now = self._process.now()
        refused: StoreError | None = None
        if self.faults.full[0] <= now < self.faults.full[1]:
            self._full_since = now if self._full_since is None else self._full_since
            if now - self._full_since < _PATIENCE_S:
                self._again(_PAUSE_S)
                return
            refused = StoreError("The disk is full.")
        else:
            self._full_since = None
            if self._rng.random() < self.faults.refused:
                refused = StoreError("The cache could not keep an answer.")
        del self._queue[: len(group)]
        for key, entry, _ in group:
            if refused is None:
                self._disk.answers[key] = pack(entry)
                self._disk.failures.failed.pop(key, None)
                self.lost.discard(key)
                self._accounts.committed(key, entry)
            else:
                if not self.get_many([key]):
                    self.lost.add(key)
                self._accounts.refused(entry)
            if self._unwritten.get(key) is entry:
                del self._unwritten[key]
        # Between the commit and the word of it: whoever dies here has the answer, and has not been told.
        if self._process.step("committed", len(group), refused is None):
            return
        for _, _, done in group:
            done(refused)
        if self._queue:
            self._again(self._latency_s())
        else:
            self._writing = False
