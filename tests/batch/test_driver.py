from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from pllm_notebook.batch import (
    AnswerSink,
    Driver,
    Job,
    JobResult,
    JobState,
    Journal,
    JournalAccess,
    LineOutcome,
    Poller,
    PollTimes,
    Recreation,
)
from pllm_notebook.batch.ingest import Present
from pllm_notebook.exceptions import UsageError
from pllm_notebook.types import BatchResult, RawReply
from tests.batch.conftest import Clock
from tests.batch.modelled import LIMITS, PLAN, ModelBatchAPI, Provider, answer, inline, outgoing
from tests.engine.virtual import run_virtual


class Store:
    """What `take` kept, and how often it was asked."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}
        self.broken = 0

    async def take(self, job: Job, arrivals: Sequence[JobResult]) -> list[LineOutcome]:
        if self.broken:
            self.broken -= 1
            raise OSError("The disk is full.")
        outcomes = []
        for one in arrivals:
            if one.result.raw is not None and one.result.raw.status == 200:
                self.kept[one.line.key] = self.kept.get(one.line.key, 0) + 1
                outcomes.append(LineOutcome(cost_usd=0.5))
            else:
                outcomes.append(LineOutcome(one.result.failure or "overloaded"))
        return outcomes


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def provider(clock: Clock) -> Provider:
    return Provider(clock, run_s=100.0)


@pytest.fixture
def driver(journal: Journal, provider: Provider, store: Store, clock: Clock) -> Driver:
    return driver_of(journal, provider, store, clock)


def driver_of(
    journal: Journal, provider: Provider, store: Store, clock: Clock, *, present: Present | None = None, **more: Any
) -> Driver:
    api = ModelBatchAPI(provider)
    access = JournalAccess(journal, clock=clock, in_thread=inline)
    return Driver(access, lambda job: api, AnswerSink(store.take, present), **more)


def planned(journal: Journal, *keys: str) -> Job:
    return journal.plan(PLAN, outgoing(list(keys)), LIMITS).jobs[0]


def drive(driver: Driver, clock: Clock, job: Job) -> Job:
    """Submit a job, let its time pass, and take it in."""
    asyncio.run(driver.drive(job.id))
    clock.now += 100
    return asyncio.run(driver.drive(job.id))


def test_each_advance_is_one_step(driver: Driver, journal: Journal, clock: Clock) -> None:
    job = planned(journal, "a")
    states = []

    while not job.final:
        job = asyncio.run(driver.advance(job.id))
        states.append(job.state)
        if job.state is JobState.RUNNING:
            clock.now += 100

    assert states == ["uploaded", "submitted", "running", "ended", "ingesting", "done"]


def test_partly_answered_jobs_are_taken_in_as_far_as_they_go(
    driver: Driver, journal: Journal, provider: Provider, store: Store, clock: Clock
) -> None:
    keys = [f"k{n:04}" for n in range(1000)]
    unwell = {f"p1-{key}" for key in keys[:40]}
    gone = {f"p1-{key}" for key in keys[40:50]}
    failed = RawReply(503, {}, b"{}")
    provider.results = lambda one: None if one in gone else BatchResult(one, failed) if one in unwell else answer(one)
    provider.extra = [answer("p1-nobody's"), answer("p1-" + keys[999])]

    done = drive(driver, clock, planned(journal, *keys))

    assert (done.state, done.answered, done.failed, done.unknown, done.cost_usd) == (JobState.DONE, 950, 50, 1, 475.0)
    assert set(store.kept.values()) == {1}
    assert journal.spool.unknown(done.id).read_bytes().count(b"\n") == 1
    again = [line.failure for line in journal.lines.to_resubmit(done.id)]
    assert again == ["overloaded"] * 40 + ["missing"] * 10


def test_an_intake_that_fails_is_made_again_from_what_was_saved(
    driver: Driver, journal: Journal, provider: Provider, store: Store, clock: Clock
) -> None:
    job = planned(journal, "a", "b")
    store.broken = 1

    with pytest.raises(OSError, match="The disk is full"):
        drive(driver, clock, job)
    provider.jobs.clear()  # the provider has nothing more to give

    assert asyncio.run(driver.drive(job.id)).answered == 2


def test_a_job_is_not_done_while_an_answer_cannot_be_read_from_the_store(
    journal: Journal, provider: Provider, store: Store, clock: Clock
) -> None:
    lost = {"a"}
    driver = driver_of(journal, provider, store, clock, present=lambda keys: set(keys) - lost)
    job = planned(journal, "a", "b")

    waiting = drive(driver, clock, job)
    lost.clear()
    done = asyncio.run(driver.drive(job.id))

    assert (waiting.state, done.state) == (JobState.INGESTING, JobState.DONE)
    assert store.kept == {"a": 2, "b": 1}
    assert not journal.spool.results(job.id).exists()
    assert list(journal.spool.lines(job.id)) == []


@pytest.mark.parametrize(("ending", "failure"), [("expired", "expired"), ("failed", "failed"), ("ended", "missing")])
def test_lines_without_a_result_are_found_by_difference(
    driver: Driver, journal: Journal, provider: Provider, clock: Clock, ending: str, failure: str
) -> None:
    provider.ending = ending
    provider.results = lambda one: answer(one) if one == "p1-a" else None

    done = drive(driver, clock, planned(journal, "a", "b"))

    assert (done.ending, done.answered, done.failed) == (ending, 1, 1)
    assert [line.failure for line in journal.lines.of(done.id)] == ["", failure]


def test_a_refused_job_frees_its_rows_and_its_file(
    driver: Driver, journal: Journal, provider: Provider, clock: Clock
) -> None:
    provider.creating = ["refused"]

    job = drive(driver, clock, planned(journal, "a"))

    assert (job.state, job.message) == (JobState.REJECTED, "The file is not JSON.")
    assert provider.files == set()
    assert journal.pending(["a"]) == {}


def test_too_many_requests_are_a_no_and_not_a_doubt(
    driver: Driver, journal: Journal, provider: Provider, clock: Clock
) -> None:
    provider.creating = ["limited"]
    job = planned(journal, "a")

    states = [asyncio.run(driver.advance(job.id)).state for _ in range(3)]

    assert states == ["uploaded", "uploaded", "submitted"]


def test_a_changed_request_file_is_never_sent(driver: Driver, journal: Journal, provider: Provider) -> None:
    job = planned(journal, "a")
    journal.spool.requests(job.id).write_bytes(b"something else\n")

    assert asyncio.run(driver.drive(job.id)).state is JobState.REJECTED
    assert provider.files == set()


def test_cancelling_before_anything_was_sent_sends_nothing(
    driver: Driver, journal: Journal, provider: Provider
) -> None:
    job = asyncio.run(driver.cancel(planned(journal, "a").id))

    assert (job.state, job.ending, provider.creates) == (JobState.DONE, "cancelled", 0)
    assert [line.failure for line in journal.lines.of(job.id)] == ["cancelled"]


def test_cancelling_a_running_job_asks_the_provider_and_keeps_what_is_done(
    driver: Driver, journal: Journal, provider: Provider, clock: Clock
) -> None:
    job = planned(journal, "a")
    asyncio.run(driver.drive(job.id))

    asyncio.run(driver.cancel(job.id))
    done = asyncio.run(driver.drive(job.id))

    assert provider.cancels == ["job-0"]
    assert (done.state, done.ending, done.failed) == (JobState.DONE, "cancelled", 1)


def test_an_orphan_found_later_is_cancelled_and_both_are_taken_in(
    journal: Journal, provider: Provider, store: Store, clock: Clock
) -> None:
    provider.lag_s, provider.creating = 3600.0, ["lost"]
    provider.run_s = 10_000.0
    driver = driver_of(journal, provider, store, clock, recreation=Recreation(lambda job: True))
    job = planned(journal, "a")

    asyncio.run(driver.drive(job.id))
    clock.now += 1801
    asyncio.run(driver.drive(job.id))
    clock.now += 1801
    asyncio.run(driver.refresh())  # found
    asyncio.run(driver.refresh())  # and cancelled
    clock.now += 10_000
    first, twin = asyncio.run(driver.refresh())

    assert provider.creates == 2
    assert provider.cancels[0] == "job-1"  # the younger
    assert (first.ending, twin.ending, twin.twin_of) == ("cancelled", "ended", job.id)
    assert (first.answered, first.failed, store.kept) == (1, 0, {"a": 1})


def test_a_person_may_create_an_uncertain_job_again_after_the_grace_period_alone(
    driver: Driver, journal: Journal, provider: Provider, clock: Clock
) -> None:
    provider.creating = ["down"]
    job = planned(journal, "a")
    assert asyncio.run(driver.drive(job.id)).state is JobState.UNCERTAIN

    with pytest.raises(UsageError, match="may still be found at the provider"):
        asyncio.run(driver.recreate(job.id))
    clock.now += 1800
    assert asyncio.run(driver.drive(job.id)).state is JobState.UNCERTAIN

    again = asyncio.run(driver.recreate(job.id))
    assert (again.state, again.attempt, provider.creates) == (JobState.RUNNING, 2, 2)


def test_an_abandoned_job_frees_its_rows(driver: Driver, journal: Journal, provider: Provider, clock: Clock) -> None:
    provider.creating = ["down"]
    job = planned(journal, "a")
    assert asyncio.run(driver.drive(job.id)).state is JobState.UNCERTAIN

    assert asyncio.run(driver.abandon(job.id)).state is JobState.ABANDONED
    assert journal.pending(["a"]) == {}


def test_only_a_job_with_trouble_is_abandoned_while_its_account_is_available(
    driver: Driver, journal: Journal, clock: Clock
) -> None:
    job = planned(journal, "a")
    found: dict[JobState, str] = {}

    while not job.final:
        with pytest.raises(UsageError, match=r"^Batch job .* instead.*\. Nothing was changed\.$") as refused:
            asyncio.run(driver.abandon(job.id))
        found[job.state] = str(refused.value).split(":")[1]
        clock.now += 100 * (job.state is JobState.RUNNING)
        job = asyncio.run(driver.advance(job.id))

    assert {state: "cancel it" in way for state, way in found.items()} == {
        JobState.PLANNED: True,
        JobState.UPLOADED: True,
        JobState.SUBMITTED: True,
        JobState.RUNNING: True,
        JobState.ENDED: False,
        JobState.INGESTING: False,
    }


@pytest.mark.parametrize("trouble", ["unreachable", "with a message", "cancelled in vain"])
def test_a_running_job_that_is_stuck_can_be_abandoned(
    trouble: str, driver: Driver, journal: Journal, clock: Clock
) -> None:
    job = planned(journal, "a")
    asyncio.run(driver.drive(job.id))
    if trouble == "with a message":
        journal.lease(job.id, "before", clock.now + 60)
        journal.move(journal.job(job.id), JobState.RUNNING, "before", message="The provider has no such job.")
        journal.release(job.id, "before")
    elif trouble == "cancelled in vain":
        journal.ask_cancel(job.id)

    ended = asyncio.run(driver.abandon(job.id, reachable=trouble != "unreachable"))

    assert ended.state is JobState.ABANDONED


@pytest.mark.parametrize("state", [JobState.PLANNED, JobState.UPLOADED, JobState.CREATING])
def test_a_job_whose_account_is_gone_can_be_abandoned_before_it_was_sent(
    state: JobState, driver: Driver, journal: Journal, clock: Clock
) -> None:
    job = planned(journal, "a")
    for step in (JobState.UPLOADED, JobState.CREATING):
        if job.state is not state:
            journal.lease(job.id, "before", clock.now + 60)
            job = journal.move(journal.job(job.id), step, "before")
            journal.release(job.id, "before")

    assert asyncio.run(driver.abandon(job.id, reachable=False)).state is JobState.ABANDONED
    assert journal.pending(["a"]) == {}


def test_a_job_that_another_kernel_moves_is_left_alone(
    driver: Driver, journal: Journal, provider: Provider, clock: Clock
) -> None:
    job = planned(journal, "a")
    journal.lease(job.id, "another", clock.now + 60)

    assert asyncio.run(driver.drive(job.id)).state is JobState.PLANNED
    clock.now += 60
    assert asyncio.run(driver.drive(job.id)).state is JobState.RUNNING


def test_a_job_whose_account_is_not_at_hand_is_left_alone(journal: Journal, store: Store) -> None:
    driver = Driver(JournalAccess(journal, in_thread=inline), lambda job: None, AnswerSink(store.take))

    assert asyncio.run(driver.drive(planned(journal, "a").id)).state is JobState.PLANNED


def test_two_tasks_of_one_kernel_take_turns(journal: Journal, provider: Provider, store: Store, clock: Clock) -> None:
    class Slow(ModelBatchAPI):
        async def create(self, *args: Any) -> Any:
            for _ in range(100):
                await asyncio.sleep(0)  # the other task comes to its step meanwhile
            return await super().create(*args)

    api = Slow(provider)
    driver = Driver(JournalAccess(journal, clock=clock, in_thread=inline), lambda job: api, AnswerSink(store.take))
    job = planned(journal, "a")

    async def both() -> None:
        await asyncio.gather(driver.drive(job.id), driver.drive(job.id))

    asyncio.run(both())

    assert provider.creates == 1
    assert journal.job(job.id).uncertain_at == 0.0


def test_the_poller_looks_less_and_less_often_and_at_once_when_it_is_woken(
    journal: Journal, provider: Provider, store: Store
) -> None:
    looks: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        begin = provider.clock()

        class Watched(ModelBatchAPI):
            async def look(self, job_id: str) -> Any:
                looks.append(loop.time())
                return await super().look(job_id)

        provider.run_s = 1e9
        clock = lambda: begin + loop.time()  # noqa: E731  # three words
        api = Watched(provider)
        driver = Driver(JournalAccess(journal, clock=clock, in_thread=inline), lambda job: api, AnswerSink(store.take))
        planned(journal, "a")
        poller = Poller(driver, PollTimes(first_s=10.0, most_s=40.0, draw=lambda: 0.0))
        poller.start()
        await asyncio.sleep(120)
        poller.wake()
        await asyncio.sleep(12)
        await poller.stop()
        await asyncio.sleep(1000)

    run_virtual(main)

    assert looks == [0.0, 0.0, 10.0, 25.0, 47.5, 81.25, 120.0, 130.0]
