"""The journal of batch jobs: it records on disk what was planned, sent and received, and records intent before acting.

Every change is one commit that survives a power failure. A step is checked: it must be in `job.NEXT`, and its caller
must have the job's lease and know its current state. If two kernels drive one journal, only one at a time moves a job.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sqlite3
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pllm_notebook.batch.job import FINAL, NEXT, DraftLine, Job, JobDraft, JobLine, JobState, LineState, PlannedJobs
from pllm_notebook.batch.job_lines import JobLines
from pllm_notebook.batch.journal_database import JournalDamagedError, JournalDatabase
from pllm_notebook.batch.split import write_jobs
from pllm_notebook.batch.spool import Spool
from pllm_notebook.types import BatchLimits, RemoteJob

__all__ = ["LEASE_S", "InThread", "Journal", "JournalAccess", "LeaseLostError"]

_COLUMNS = tuple(name for name in Job.__slots__)
_JOBS = f"SELECT {', '.join(_COLUMNS)} FROM jobs"
_IN_FINAL = ", ".join(f"'{state}'" for state in sorted(FINAL))
# A lease that ends later than this was written by another clock.
_LONGEST_LEASE_S = 3600.0


LEASE_S = 60.0

InThread = Callable[..., Awaitable[Any]]
"""Runs a blocking function with its arguments in a thread, like `asyncio.to_thread`."""


class LeaseLostError(Exception):
    """Another kernel is moving this job or has moved it. Nothing was changed."""


class Journal:
    """The journal in one cache directory. Thread-safe, and shared with other processes.

    Args:
        database: The open database.
        clock: Returns seconds since the epoch.
        new_id: Returns a new unique id of 32 hex digits.

    Attributes:
        lines: The lines of all jobs.
        spool: The files of all jobs.
    """

    def __init__(
        self,
        database: JournalDatabase,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self.lines = JobLines(database)
        self.spool = Spool(database.folder)

    @classmethod
    def open(cls, directory: str, clock: Callable[[], float] = time.time) -> Journal:
        """Open the journal of a cache directory. Create it if there is none.

        Raises:
            JournalDamagedError: If an existing journal cannot be read.
            StoreError: If it cannot be opened. Nothing was sent.
        """
        journal = cls(JournalDatabase(directory), clock)
        journal.spool.sweep((job.id for job in journal.jobs()), clock)
        return journal

    def close(self) -> None:
        """Close the connections. None may be in use."""
        self._database.close()

    def plan(self, plan: JobDraft, outgoing: Iterable[DraftLine], limits: BatchLimits) -> PlannedJobs:
        """Plan as many jobs for *outgoing* as *limits* requires. Nothing is sent (see `split.write_jobs`)."""
        ids, large = write_jobs(
            self._database, self.spool, plan, outgoing, limits, new_id=self._new_id, now=self._clock()
        )
        return PlannedJobs(tuple(self.job(one) for one in ids), tuple(large))

    def pending(self, keys: Sequence[str]) -> dict[str, Job]:
        """Return the jobs in which *keys* wait for an answer. Keys that do not wait are omitted."""
        waiting = self.lines.pending(keys)
        jobs = {one: self.job(one) for one in set(waiting.values())}
        return {key: jobs[one] for key, one in waiting.items()}

    def jobs(self, cohort: str | None = None, *, unfinished: bool = False) -> list[Job]:
        """Return the jobs, oldest first: of one cohort or of all; if *unfinished*, only those that are not final."""
        conditions = [] if cohort is None else ["cohort = ?"]
        if unfinished:
            conditions.append(f"state NOT IN ({_IN_FINAL})")
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        rows = self._database.query(f"{_JOBS} {where} ORDER BY number", () if cohort is None else (cohort,))
        return [self._read(row) for row in rows]

    def job(self, job: str) -> Job:
        """Return the current state of one job. Raises `KeyError` if no job has that id."""
        rows = self._database.query(f"{_JOBS} WHERE id = ?", (job,))
        if not rows:
            raise KeyError(job)
        return self._read(rows[0])

    def requests(self, job: str, *states: LineState) -> Iterator[tuple[JobLine, bytes]]:
        """Yield a job's lines, those in one of *states* or all, each with its request bytes.

        Yields nothing if the request file is deleted, because every line was answered.
        """
        wanted = self.lines.of(job, *states)
        line = next(wanted, None)
        for number, content in enumerate(self.spool.lines(job)):
            if line is None:
                return
            if line.number == number:
                yield line, content
                line = next(wanted, None)

    def remotes(self, job: Job) -> set[str]:
        """Return the provider's ids of all known jobs of *job*'s account."""
        statement = "SELECT remote FROM jobs WHERE provider = ? AND account = ? AND remote <> ''"
        return {row[0] for row in self._database.query(statement, (job.provider, job.account))}

    def lease(self, job: str, owner: str, until: float) -> bool:
        """Take or renew a job's lease. Return False if another owner has it."""
        now = self._clock()
        with self._database.change() as connection:
            taken = connection.execute(
                "UPDATE jobs SET owner = ?, until = ? WHERE id = ? AND (owner IN ('', ?) OR until <= ? OR until > ?)",
                (owner, until, job, owner, now, now + _LONGEST_LEASE_S),
            ).rowcount
        return taken == 1

    def release(self, job: str, owner: str) -> None:
        """Release a lease. Has no effect if another owner has it now."""
        with self._database.change() as connection:
            connection.execute("UPDATE jobs SET owner = '', until = 0 WHERE id = ? AND owner = ?", (job, owner))

    def move(self, job: Job, to: JobState, owner: str, **values: Any) -> Job:
        """Commit one step of a job, and return the updated job.

        Args:
            job: The job as read. Its state must still be the same.
            to: A state that may follow, or the current state.
            owner: Owner of the lease.
            values: Fields of `Job` to set.

        Raises:
            LeaseLostError: If another owner moved the job or now has the lease.
        """
        with self._database.change() as connection:
            self._move(connection, job, to, owner, values)
        return self.job(job.id)

    def end(self, job: Job, to: JobState, owner: str, line: LineState, failure: str, **values: Any) -> Job:
        """Commit a job's last step, and set its pending lines to the state *line* with *failure*.

        The lines stay pending if an orphan, or the job whose orphan this is, may still answer them.

        Raises:
            LeaseLostError: If another owner moved the job or now has the lease.
        """
        home = job.lines_of
        with self._database.change() as connection:
            self._move(connection, job, to, owner, values)
            others = f"SELECT 1 FROM jobs WHERE (id = ? OR twin_of = ?) AND state NOT IN ({_IN_FINAL}) LIMIT 1"
            if connection.execute(others, (home, home)).fetchone() is None:
                connection.execute(
                    "UPDATE lines SET state = ?, failure = ? WHERE state = 'pending' "
                    "AND job = (SELECT number FROM jobs WHERE id = ?)",
                    (line, failure, home),
                )
            connection.execute(
                "UPDATE jobs SET (answered, failed, cost_usd) = (SELECT coalesce(sum(state = 'answered'), 0), "
                "coalesce(sum(state IN ('failed', 'missing')), 0), "
                "CASE count(*) WHEN count(cost_usd) THEN coalesce(sum(cost_usd), 0) END "
                "FROM lines WHERE job = jobs.number) WHERE id = ?",
                (home,),
            )
        return self.job(job.id)

    def created(self, job: str, remote: RemoteJob) -> Job:
        """Record that the provider has created a job of ours. No lease is needed: this is a fact, not a step.

        If another job of the provider is already known for it, the new one is an orphan. It becomes a separate
        job that answers the same rows, and the younger of the two will be cancelled.
        """
        with suppress(sqlite3.IntegrityError), self._database.change() as connection:  # already known
            now = self._clock()
            adopted = connection.execute(
                "UPDATE jobs SET state = ?, remote = ?, remote_created_at = ?, message = '', changed_at = ? "
                "WHERE id = ? AND remote = '' AND state IN (?, ?, ?)",
                (
                    *(JobState.SUBMITTED, remote.id, remote.created_at, now, job),
                    *(JobState.UPLOADED, JobState.CREATING, JobState.UNCERTAIN),
                ),
            ).rowcount
            if not adopted:
                self._add_twin(connection, job, remote, now)
        return self.job(job)

    def ask_cancel(self, job: str) -> Job:
        """Record a request to cancel a job. No lease is needed. Nothing is sent."""
        with self._database.change() as connection:
            connection.execute("UPDATE jobs SET cancel_asked = 1 WHERE id = ?", (job,))
        return self.job(job)

    def _read(self, row: Sequence[Any]) -> Job:
        try:
            return _job(row)
        except (ValueError, TypeError) as error:  # an unknown state or invalid JSON
            raise JournalDamagedError(self._database.path, f"is damaged ({error})") from error

    def _move(self, connection: sqlite3.Connection, job: Job, to: JobState, owner: str, values: dict[str, Any]) -> None:
        if to is not job.state and to not in NEXT[job.state]:
            raise ValueError(f"no job goes from {job.state} to {to}")
        unknown = values.keys() - set(_COLUMNS)
        if unknown:
            raise ValueError(f"a job has no {sorted(unknown)}")
        values = {"state": to} | {name: _column(value) for name, value in values.items()}
        now = self._clock()
        if to is not job.state:
            values["changed_at"] = now
        sets = ", ".join(f"{name} = ?" for name in values)
        moved = connection.execute(
            f"UPDATE jobs SET {sets} WHERE id = ? AND state = ? AND owner = ? AND until > ?",
            (*values.values(), job.id, job.state, owner, now),
        ).rowcount
        if not moved:
            raise LeaseLostError(job.id)

    def _add_twin(self, connection: sqlite3.Connection, job: str, remote: RemoteJob, now: float) -> None:
        row = connection.execute(f"{_JOBS} WHERE id = ?", (job,)).fetchone()
        first = _job(row)
        if first.remote == remote.id:
            return
        younger = first.final or remote.created_at >= first.remote_created_at
        shared = "cohort, provider, account, target, model, path, attempt, total, bytes, sha256, origin"
        connection.execute(
            f"INSERT INTO jobs ({shared}, id, state, remote, remote_created_at, created_at, changed_at, cost_usd, "
            f"twin_of, cancel_asked) SELECT {shared}, ?, ?, ?, ?, ?, ?, NULL, ?, ? FROM jobs WHERE id = ?",
            (
                *(self._new_id(), JobState.SUBMITTED, remote.id, remote.created_at, now, now),
                *(first.lines_of, younger, job),
            ),
        )
        if not younger:
            connection.execute("UPDATE jobs SET cancel_asked = 1 WHERE id = ?", (job,))


@dataclass(frozen=True, slots=True)
class JournalAccess:
    """One kernel's access to a journal that it shares with others.

    Attributes:
        journal: The journal.
        owner: This kernel's name in leases.
        lease_s: Duration of a lease in seconds: for so long, other kernels cannot move a job after this one died.
        clock: Returns seconds since the epoch.
        in_thread: Runs a blocking function in a thread.
    """

    journal: Journal
    owner: str = field(default_factory=lambda: f"{os.getpid()}-{uuid.uuid4().hex}")
    lease_s: float = LEASE_S
    clock: Callable[[], float] = time.time
    in_thread: InThread = asyncio.to_thread

    async def lease(self, job_id: str) -> bool:
        """Take or renew a job's lease. Return False if another kernel has it."""
        taken: bool = await self.in_thread(self.journal.lease, job_id, self.owner, self.clock() + self.lease_s)
        return taken

    async def release(self, job_id: str) -> None:
        """Release this kernel's lease."""
        await self.in_thread(self.journal.release, job_id, self.owner)

    async def read(self, job_id: str) -> Job:
        """Return the journal's record of a job. Raises `KeyError` if no job has that id."""
        job: Job = await self.in_thread(self.journal.job, job_id)
        return job


def _column(value: Any) -> Any:
    if isinstance(value, frozenset):
        return json.dumps(sorted(value))
    return json.dumps(value) if isinstance(value, tuple) else value


def _job(row: Sequence[Any]) -> Job:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["state"] = JobState(values["state"])
    values["files"] = tuple(json.loads(values["files"]))
    values["known"] = frozenset(json.loads(values["known"]))
    values["cancel_asked"] = bool(values["cancel_asked"])
    return Job(**values)
