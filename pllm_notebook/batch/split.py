"""Plan jobs: stream the lines into request files, and add all jobs of a plan to the journal in one commit.

Before that commit nothing can be sent and the journal has no trace of the plan. A crash leaves only files, which are
removed later. Until then the lines are in a temporary table, so that memory does not grow with them and no lock is
held while the caller builds them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing

from pllm_notebook.batch.job import DraftLine, JobDraft
from pllm_notebook.batch.journal_database import JournalDatabase
from pllm_notebook.batch.spool import RequestFile, Spool
from pllm_notebook.exceptions import StoreError
from pllm_notebook.types import BatchLimits

__all__ = ["PendingElsewhereError", "write_jobs"]

_WAITING = (
    "CREATE TEMP TABLE waiting (key TEXT PRIMARY KEY, job TEXT, number INTEGER, output_limit INTEGER, "
    "estimate_usd REAL) WITHOUT ROWID"
)
_JOB = (
    "INSERT INTO jobs (id, cohort, provider, account, target, model, path, origin, state, total, bytes, sha256, "
    "created_at, changed_at, estimate_usd) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'planned', ?, ?, ?, ?, ?, "
    "(SELECT CASE count(*) WHEN count(estimate_usd) THEN sum(estimate_usd) END FROM temp.waiting WHERE job = ?))"
)
_LINES = (
    "INSERT INTO main.lines (job, number, key, output_limit) SELECT jobs.number, waiting.number, waiting.key, "
    "waiting.output_limit FROM temp.waiting JOIN main.jobs ON jobs.id = waiting.job ORDER BY 1, 2"
)
_PENDING_ELSEWHERE = (
    "SELECT waiting.key, jobs.id FROM temp.waiting JOIN main.lines ON lines.key = waiting.key "
    "AND lines.state = 'pending' JOIN main.jobs ON jobs.number = lines.job"
)


class PendingElsewhereError(StoreError):
    """Rows of a plan are pending in another job, planned since the caller checked. Nothing was planned or sent.

    Attributes:
        jobs: Id of the job in which each key is pending, by key.
    """

    def __init__(self, jobs: dict[str, str]) -> None:
        self.jobs = jobs
        super().__init__(
            f"{len(jobs):,} of the rows became part of another batch job in the meantime. Run again to wait for "
            f"that job. Nothing was planned, and nothing was sent."
        )


def write_jobs(
    database: JournalDatabase,
    spool: Spool,
    plan: JobDraft,
    outgoing: Iterable[DraftLine],
    limits: BatchLimits,
    *,
    new_id: Callable[[], str],
    now: float,
) -> tuple[list[str], list[str]]:
    """Write request files and record the jobs in the journal.

    Args:
        database: The journal's database.
        spool: The spool for the files.
        plan: The fields shared by the jobs.
        outgoing: The lines, read once. Duplicate keys are omitted.
        limits: Limits of one job. If the next line would exceed them, a new job begins.
        new_id: Returns a new job id.
        now: Current time in seconds since the epoch.

    Returns:
        Ids of the jobs in the order of their lines, and keys of lines too large for any job.

    Raises:
        PendingElsewhereError: If a key is pending in another job.
        StoreError: If a file or the journal cannot be written. Nothing is planned then.
    """
    written: list[tuple[RequestFile, str]] = []
    large: list[str] = []
    database.require_current()
    # Use a separate connection: the producer of the lines may read the journal at the same time.
    with closing(database.connect()) as connection:
        try:
            connection.execute(_WAITING)
            _write_lines(connection, spool, outgoing, limits, new_id, written, large)
            with database.change(connection):
                taken = dict(connection.execute(_PENDING_ELSEWHERE).fetchall())
                if taken:
                    raise PendingElsewhereError(taken)
                for file, sha256 in written:
                    about = (plan.cohort, plan.provider, plan.account, plan.target, plan.model, plan.path, plan.origin)
                    made = (file.count, file.size, sha256, now, now, file.job)
                    connection.execute(_JOB, (file.job, *about, *made))
                connection.execute(_LINES)
        except BaseException as error:
            for file, _ in written:
                # An interrupt can come after the commit; the file is then needed.
                if not connection.execute("SELECT 1 FROM main.jobs WHERE id = ?", (file.job,)).fetchone():
                    file.drop()
            if isinstance(error, OSError | sqlite3.OperationalError):
                raise StoreError(f"The batch could not be planned: {error}. Nothing was sent.") from error
            raise
    return [file.job for file, _ in written], large


def _write_lines(
    connection: sqlite3.Connection,
    spool: Spool,
    outgoing: Iterable[DraftLine],
    limits: BatchLimits,
    new_id: Callable[[], str],
    written: list[tuple[RequestFile, str]],
    large: list[str],
) -> None:
    file: RequestFile | None = None
    # This changes only the temporary table, so it takes no lock on the journal.
    connection.execute("BEGIN")
    for one in outgoing:
        size = len(one.line) + 1
        if size > limits.bytes:
            large.append(one.key)
            continue
        full = file is not None and (file.count >= limits.lines or file.size + size > limits.bytes)
        place = None if file is None or full else file
        row = (one.key, "" if place is None else place.job, 0 if place is None else place.count)
        fields = (*row, one.output_limit, one.estimate_usd)
        if not connection.execute("INSERT OR IGNORE INTO waiting VALUES (?, ?, ?, ?, ?)", fields).rowcount:
            continue
        if place is None:
            if file is not None:
                written[-1] = (file, file.finish())
            file = RequestFile(spool, new_id())
            written.append((file, ""))
            connection.execute("UPDATE waiting SET job = ? WHERE key = ?", (file.job, one.key))
        else:
            file = place
        file.add(one.line)
    if file is not None:
        written[-1] = (file, file.finish())
    connection.execute("COMMIT")
