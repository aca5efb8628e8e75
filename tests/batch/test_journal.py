from __future__ import annotations

import os
import resource
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from pllm_notebook.batch import (
    NEXT,
    DraftLine,
    JobState,
    Journal,
    JournalDamagedError,
    LeaseLostError,
    LineOutcome,
    PendingElsewhereError,
    custom_id,
    set_aside,
)
from pllm_notebook.batch.journal_database import JournalDatabase
from pllm_notebook.exceptions import StoreError
from pllm_notebook.types import BatchLimits, RemoteJob
from tests.batch.conftest import Clock
from tests.batch.modelled import LIMITS, PLAN, outgoing


def test_a_plan_is_split_by_count_and_by_bytes_and_its_lines_keep_their_order(journal: Journal) -> None:
    keys = [f"k{n}" for n in range(7)]
    size = len(next(outgoing(keys)).line) + 1

    by_count = journal.plan(PLAN, outgoing(keys[:3]), BatchLimits(2, 10**6))
    by_bytes = journal.plan(PLAN, outgoing(keys[3:]), BatchLimits(100, 2 * size))

    assert [job.total for job in by_count.jobs] == [2, 1]
    assert [job.total for job in by_bytes.jobs] == [2, 2]
    sent = [line.key for job in journal.jobs() for line, _ in journal.requests(job.id)]
    assert sent == keys
    assert [job.bytes for job in by_bytes.jobs] == [2 * size, 2 * size]
    assert by_count.jobs[0].estimate_usd == 0.02


def test_a_line_larger_than_any_job_is_named_and_the_rest_is_planned(journal: Journal) -> None:
    lines = [DraftLine("small", b"x"), DraftLine("large", b"x" * 100), DraftLine("after", b"y")]

    planned = journal.plan(PLAN, lines, BatchLimits(10, 50))

    assert planned.too_large == ("large",)
    assert sorted(journal.pending(["small", "large", "after"])) == ["after", "small"]


def test_a_key_that_comes_twice_is_sent_once(journal: Journal) -> None:
    (job,) = journal.plan(PLAN, outgoing(["a", "a", "b"]), LIMITS).jobs

    assert job.total == 2
    assert [orjson.loads(line)["custom_id"] for line in journal.spool.lines(job.id)] == ["p1-a", "p1-b"]


def test_rows_that_another_kernel_planned_meanwhile_are_refused_and_nothing_is_left_behind(
    journal: Journal, tmp_path: Path
) -> None:
    journal.plan(PLAN, outgoing(["a"]), LIMITS)
    before = sorted(os.listdir(tmp_path / "jobs"))

    with pytest.raises(PendingElsewhereError) as refused:
        journal.plan(PLAN, outgoing(["b", "a"]), LIMITS)

    assert refused.value.jobs == {"a": "job0"}
    assert sorted(os.listdir(tmp_path / "jobs")) == before
    assert journal.pending(["b"]) == {}


def test_a_plan_whose_lines_end_in_an_error_leaves_nothing(journal: Journal, tmp_path: Path) -> None:
    def lines() -> object:
        yield from outgoing(["a"])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        journal.plan(PLAN, lines(), LIMITS)  # type: ignore[arg-type]

    assert journal.jobs() == []
    assert os.listdir(tmp_path / "jobs") == ["journal"]


def test_the_journal_may_be_read_while_its_lines_are_made(journal: Journal) -> None:
    def lines() -> object:
        for one in outgoing(["a", "b"]):
            assert journal.lease("nobody", "me", 0.0) is False
            yield one

    assert journal.plan(PLAN, lines(), LIMITS).jobs[0].total == 2  # type: ignore[arg-type]


def test_only_the_steps_of_the_graph_are_taken(journal: Journal, clock: Clock) -> None:
    (job,) = journal.plan(PLAN, outgoing(["a"]), LIMITS).jobs
    journal.lease(job.id, "me", clock.now + 60)

    for to in set(JobState) - NEXT[JobState.PLANNED] - {JobState.PLANNED}:
        with pytest.raises(ValueError, match=f"no job goes from planned to {to}"):
            journal.move(job, to, "me")

    assert journal.move(job, JobState.UPLOADED, "me", uploaded="file-1").uploaded == "file-1"


def test_a_step_needs_the_lease_and_the_state_that_was_read(journal: Journal, clock: Clock) -> None:
    (job,) = journal.plan(PLAN, outgoing(["a"]), LIMITS).jobs

    with pytest.raises(LeaseLostError):
        journal.move(job, JobState.UPLOADED, "me")
    assert journal.lease(job.id, "me", clock.now + 60)
    assert not journal.lease(job.id, "you", clock.now + 60)
    journal.move(job, JobState.UPLOADED, "me")
    with pytest.raises(LeaseLostError):
        journal.move(job, JobState.UPLOADED, "me")

    clock.now += 61
    assert journal.lease(job.id, "you", clock.now + 60)
    with pytest.raises(LeaseLostError):
        journal.move(journal.job(job.id), JobState.CREATING, "me")


def test_a_lease_from_a_clock_that_was_set_back_does_not_last_for_ever(journal: Journal, clock: Clock) -> None:
    (job,) = journal.plan(PLAN, outgoing(["a"]), LIMITS).jobs
    journal.lease(job.id, "dead", clock.now + 60)

    clock.now -= 10 * 86_400

    assert journal.lease(job.id, "me", clock.now + 60)


def test_a_creation_is_recorded_whoever_has_the_lease_and_a_second_one_is_an_orphan(
    journal: Journal, clock: Clock
) -> None:
    (job,) = journal.plan(PLAN, outgoing(["a"]), LIMITS).jobs
    journal.lease(job.id, "me", clock.now + 60)
    journal.move(journal.move(job, JobState.UPLOADED, "me"), JobState.CREATING, "me")
    journal.lease(job.id, "you", clock.now + 60)

    first = journal.created(job.id, RemoteJob("r1", "running", created_at=100.0))
    journal.created(job.id, RemoteJob("r1", "running", created_at=100.0))
    journal.created(job.id, RemoteJob("r2", "running", created_at=200.0))

    assert (first.state, first.remote, first.cancel_asked) == (JobState.SUBMITTED, "r1", False)
    assert [(one.remote, one.twin_of, one.cancel_asked) for one in journal.jobs()] == [
        ("r1", "", False),
        ("r2", job.id, True),
    ]


def test_of_two_jobs_for_the_same_rows_the_younger_is_cancelled(journal: Journal, clock: Clock) -> None:
    (job,) = journal.plan(PLAN, outgoing(["a"]), LIMITS).jobs
    journal.lease(job.id, "me", clock.now + 60)
    journal.move(journal.move(job, JobState.UPLOADED, "me"), JobState.CREATING, "me")
    journal.created(job.id, RemoteJob("young", "running", created_at=200.0))

    journal.created(job.id, RemoteJob("old", "running", created_at=100.0))

    assert {one.remote: one.cancel_asked for one in journal.jobs()} == {"young": True, "old": False}


def test_an_answer_stays_an_answer_and_frees_what_failed_elsewhere(journal: Journal, clock: Clock) -> None:
    (first,) = journal.plan(PLAN, outgoing(["a", "b", "c"]), LIMITS).jobs
    journal.lines.settle(first.id, [("a", LineOutcome(cost_usd=0.5)), ("b", LineOutcome("overloaded"))])
    journal.lines.settle(first.id, [("a", LineOutcome("server_error"))])
    (second,) = journal.plan(PLAN, outgoing(["b"]), LIMITS).jobs

    assert journal.job(first.id).answered == 1
    assert list(journal.lines.to_resubmit(first.id)) == []  # "b" waits in the second job
    journal.lines.settle(second.id, [("b", LineOutcome())])
    journal.lines.superseded(["c"])

    assert [line.state for line in journal.lines.of(first.id)] == ["answered", "superseded", "superseded"]


def test_what_ended_without_an_answer_can_be_sent_again_with_its_own_bytes(journal: Journal, clock: Clock) -> None:
    (job,) = journal.plan(PLAN, outgoing(["a", "b", "c"]), LIMITS).jobs
    journal.lines.settle(job.id, [("a", LineOutcome()), ("b", LineOutcome("overloaded"))])
    journal.lease(job.id, "me", clock.now + 60)
    journal.spool.compress(job.id)

    journal.end(job, JobState.DONE, "me", "missing", "missing")

    assert [(line.key, line.failure) for line in journal.lines.to_resubmit(job.id)] == [
        ("b", "overloaded"),
        ("c", "missing"),
    ]
    again = [orjson.loads(content)["custom_id"] for _, content in journal.requests(job.id, "failed", "missing")]
    assert again == [custom_id("b"), custom_id("c")]
    assert not journal.spool.requests(job.id).exists()


def test_everything_is_for_its_owner_alone(journal: Journal, tmp_path: Path) -> None:
    (job,) = journal.plan(PLAN, outgoing(["a"]), LIMITS).jobs

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}

    assert modes["jobs"] == 0o700
    assert modes["jobs.db"] == modes["jobs.db-wal"] == modes[f"{job.id}.jsonl"] == modes["journal"] == 0o600


@pytest.mark.parametrize("harm", ["gone", "emptied", "cut", "overwritten", "exchanged"])
def test_a_damaged_journal_is_told_and_never_taken_for_an_empty_one(tmp_path: Path, harm: str) -> None:
    journal = Journal.open(str(tmp_path))
    journal.plan(PLAN, outgoing([f"k{n}" for n in range(500)]), LIMITS)
    journal.close()
    path = tmp_path / "jobs.db"
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    elif harm == "emptied":
        path.write_bytes(b"")
    elif harm == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif harm == "overwritten":
        path.write_bytes(content[:4096] + os.urandom(len(content) - 4096))
    else:
        path.unlink()
        other = Journal.open(str(tmp_path / "other"))
        other.close()
        path.write_bytes((tmp_path / "other" / "jobs.db").read_bytes())

    for _ in range(2):
        with pytest.raises(JournalDamagedError, match="batch jobs are disabled until you decide"):
            Journal.open(str(tmp_path))

    set_aside(str(tmp_path))
    assert Journal.open(str(tmp_path)).jobs() == []


def test_a_journal_removed_while_it_is_open_takes_nothing_more(journal: Journal, tmp_path: Path) -> None:
    (tmp_path / "jobs.db").unlink()

    with pytest.raises(JournalDamagedError, match="was removed or replaced while it was open"):
        journal.plan(PLAN, outgoing(["a"]), LIMITS)


def test_a_journal_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    Journal.open(str(tmp_path)).close()
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection, connection:
        connection.execute("PRAGMA user_version = 2")

    with pytest.raises(StoreError, match="was written by a later version"):
        Journal.open(str(tmp_path))


def test_threads_share_a_journal(journal: Journal) -> None:
    def plan(n: int) -> None:
        journal.plan(PLAN, outgoing([f"{n}-{m}" for m in range(20)]), LIMITS)

    threads = [threading.Thread(target=plan, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(job.total for job in journal.jobs()) == [20] * 8


def test_closing_waits_for_the_change_that_a_worker_is_making(tmp_path: Path) -> None:
    database = JournalDatabase(str(tmp_path))
    begun, go_on = threading.Event(), threading.Event()

    def change() -> None:
        with database.change() as connection:
            begun.set()
            go_on.wait(60)
            connection.execute("UPDATE journal SET id = 'changed'")

    with ThreadPoolExecutor(2) as workers:
        changing = workers.submit(change)
        begun.wait(60)
        closing = workers.submit(database.close)
        # Time enough to close, for one that does not wait.
        wait([closing], timeout=0.2)
        go_on.set()
        changing.result(20)
        closing.result(20)

    assert database.query("SELECT id FROM journal") == [("changed",)]


def test_a_thread_that_ends_leaves_no_connection_open(tmp_path: Path) -> None:
    database = JournalDatabase(str(tmp_path))
    used: list[sqlite3.Connection] = []

    def read() -> None:
        database.query("SELECT id FROM journal")
        used.append(database.connection)

    for _ in range(3):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()

    for connection in used:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


def test_a_journal_that_is_let_go_of_leaves_no_connection_open(tmp_path: Path) -> None:
    database = JournalDatabase(str(tmp_path))
    database.query("SELECT id FROM journal")
    connection = database.connection

    del database

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_a_hundred_thousand_lines_are_planned_as_they_stream_by(journal: Journal) -> None:
    body = b"x" * 2000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    planned = journal.plan(PLAN, (DraftLine(f"{n:043}", body) for n in range(100_000)), LIMITS)

    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert [job.total for job in planned.jobs] == [50_000, 50_000]
    assert grown_mb < 80  # the lines alone are 200 MB
    assert len(journal.pending([f"{n:043}" for n in range(100_000)])) == 100_000
