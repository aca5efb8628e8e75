"""The lines of all jobs: which row waits in which job, and the state of each.

Lookups are in bulk by key, since a run looks up 100,000 rows at once. An answered line normally keeps that state.
Results may come twice, in any order, from a job and from its orphan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pllm_notebook.batch.job import JobLine, LineOutcome, LineState
from pllm_notebook.batch.journal_database import JournalDatabase

__all__ = ["JobLines"]

_KEYS_A_QUERY = 5000
_FIELDS = "jobs.id, lines.number, lines.key, lines.output_limit, lines.state, lines.failure"
_OF_JOB = "(SELECT number FROM jobs WHERE id = ?)"


class JobLines:
    """The lines in *database*. Thread-safe."""

    def __init__(self, database: JournalDatabase) -> None:
        self._database = database

    def pending(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the ids of the jobs in which *keys* wait for an answer. Keys that do not wait are omitted."""
        found: dict[str, str] = {}
        for some in _key_groups(keys):
            found.update(
                self._database.query(
                    "SELECT lines.key, jobs.id FROM lines JOIN jobs ON jobs.number = lines.job "
                    f"WHERE lines.state = 'pending' AND lines.key IN ({_placeholders(some)})",
                    some,
                )
            )
        return found

    def of(self, job: str, *states: LineState) -> Iterator[JobLine]:
        """Yield a job's lines in file order: those in one of *states*, or all if empty.

        An orphan has no lines of its own; use those of `Job.lines_of`.
        """
        also = f"AND lines.state IN ({_placeholders(states)})" if states else ""
        last = -1
        while True:
            page = self._database.query(
                f"SELECT {_FIELDS} FROM lines JOIN jobs ON jobs.number = lines.job "
                f"WHERE lines.job = {_OF_JOB} AND lines.number > ? {also} ORDER BY lines.number LIMIT {_KEYS_A_QUERY}",
                (job, last, *states),
            )
            if not page:
                return
            last = page[-1][1]
            for row in page:
                yield JobLine(*row)

    def find(self, job: str, keys: Sequence[str]) -> dict[str, JobLine]:
        """Return the lines of a job by key. Keys that are not in the job are omitted."""
        found: dict[str, JobLine] = {}
        for some in _key_groups(keys):
            rows = self._database.query(
                f"SELECT {_FIELDS} FROM lines JOIN jobs ON jobs.number = lines.job "
                f"WHERE lines.job = {_OF_JOB} AND lines.key IN ({_placeholders(some)})",
                (job, *some),
            )
            found.update((row[2], JobLine(*row)) for row in rows)
        return found

    def to_resubmit(self, job: str) -> Iterator[JobLine]:
        """Yield the lines that ended without an answer: failed, expired, cancelled or missing.

        Lines whose key is answered or waits in another job are omitted. Nothing is sent.
        """
        for line in self.of(job, "failed", "missing"):
            better = "SELECT 1 FROM lines WHERE key = ? AND state IN ('pending', 'answered') LIMIT 1"
            if not self._database.query(better, (line.key,)):
                yield line

    def settle(self, job: str, outcomes: Sequence[tuple[str, LineOutcome]]) -> None:
        """Commit the outcomes of some lines, by key. Committing them twice changes nothing."""
        answered = [(one.cost_usd, job, key) for key, one in outcomes if not one.failure]
        failed = [(one.failure, one.cost_usd, job, key) for key, one in outcomes if one.failure]
        where = f"WHERE job = {_OF_JOB} AND key = ? AND state"
        with self._database.change() as connection:
            new = connection.executemany(
                f"UPDATE lines SET state = 'answered', failure = '', cost_usd = ? {where} "
                "IN ('pending', 'failed', 'missing')",
                answered,
            ).rowcount
            connection.executemany(f"UPDATE lines SET cost_usd = ? {where} = 'superseded'", answered)
            connection.executemany(
                "UPDATE lines SET state = 'superseded', failure = '' WHERE key = ? AND state IN ('failed', 'missing')",
                [(key,) for _, _, key in answered],
            )
            connection.executemany(
                f"UPDATE lines SET state = 'failed', failure = ?, cost_usd = ? {where} "
                "IN ('pending', 'failed', 'missing')",
                failed,
            )
            connection.execute("UPDATE jobs SET answered = answered + ? WHERE id = ?", (max(new, 0), job))

    def reopen(self, job: str, keys: Sequence[str]) -> None:
        """Reopen lines whose answers are not in the store."""
        with self._database.change() as connection:
            # A line that was resubmitted in the meantime waits in its new job.
            again = connection.executemany(
                f"UPDATE OR IGNORE lines SET state = 'pending' WHERE job = {_OF_JOB} AND key = ? "
                "AND state = 'answered'",
                [(job, key) for key in keys],
            ).rowcount
            connection.execute("UPDATE jobs SET answered = answered - ? WHERE id = ?", (max(again, 0), job))

    def superseded(self, keys: Sequence[str]) -> int:
        """Mark lines whose keys have been answered live, and return their number.

        The batch's own answer is still delivered to the caller when it arrives.
        """
        count = 0
        with self._database.change() as connection:
            for some in _key_groups(keys):
                count += connection.execute(
                    "UPDATE lines SET state = 'superseded', failure = '' "
                    f"WHERE state IN ('pending', 'failed', 'missing') AND key IN ({_placeholders(some)})",
                    some,
                ).rowcount
        return count


def _key_groups(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), _KEYS_A_QUERY):
        yield keys[start : start + _KEYS_A_QUERY]


def _placeholders(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
