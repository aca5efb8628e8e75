"""Leases, when whoever holds one is cancelled: none stays behind for another kernel to wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from pllm_notebook.batch import AnswerSink, Driver, Job, JobResult, Journal, JournalAccess, LineOutcome, Poller
from tests.batch.conftest import Clock
from tests.batch.modelled import LIMITS, PLAN, ModelBatchAPI, Provider, outgoing

PATIENCE_S = 180


@pytest.fixture
def workers() -> Iterator[ThreadPoolExecutor]:
    """One thread, so that what is given back is given back in turn."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def driver_of(journal: Journal, api: ModelBatchAPI, clock: Clock, **access: Any) -> Driver:
    return Driver(JournalAccess(journal, clock=clock, **access), lambda job: api, AnswerSink(take_nothing))


async def take_nothing(job: Job, arrivals: Sequence[JobResult]) -> list[LineOutcome]:
    return [LineOutcome("overloaded") for _ in arrivals]


class Hanging(ModelBatchAPI):
    """An upload that ends when the test says so."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider)
        self.begun = 0
        self.goes_on = asyncio.Event()

    async def upload(self, *args: Any) -> str:
        self.begun += 1
        await self.goes_on.wait()
        return await super().upload(*args)


def planned(journal: Journal, key: str) -> Job:
    return journal.plan(PLAN, outgoing([key]), LIMITS).jobs[0]


def is_free(journal: Journal, job: Job, clock: Clock) -> bool:
    return journal.lease(job.id, "another kernel", clock.now + 60)


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not so():
            await asyncio.sleep(0.001)


def test_a_lease_that_was_being_taken_when_its_task_was_cancelled_is_given_back(
    journal: Journal, clock: Clock, workers: ThreadPoolExecutor
) -> None:
    job = planned(journal, "a")
    taken, goes_on = threading.Event(), threading.Event()

    def held(function: Callable[..., Any], *args: Any) -> Any:
        result = function(*args)
        if function == journal.lease:
            taken.set()
            assert goes_on.wait(PATIENCE_S)
        return result

    async def main() -> None:
        def in_thread(function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
            return asyncio.get_running_loop().run_in_executor(workers, held, function, *args)

        api = ModelBatchAPI(Provider(clock))
        driver = driver_of(journal, api, clock, in_thread=in_thread)
        task = asyncio.create_task(driver.advance(job.id))
        await until(taken.is_set)

        task.cancel()
        # It ends when the thread has.
        await asyncio.wait([task], timeout=0.05)
        goes_on.set()
        with suppress(asyncio.CancelledError):
            await task

        assert task.cancelled()

    asyncio.run(main())

    assert is_free(journal, job, clock)


@pytest.mark.parametrize("cancelled", [1, 2, 3])
def test_a_lease_is_given_back_however_often_its_task_is_cancelled(
    journal: Journal, clock: Clock, workers: ThreadPoolExecutor, cancelled: int
) -> None:
    job = planned(journal, "a")

    async def main() -> None:
        def in_thread(function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
            return asyncio.get_running_loop().run_in_executor(workers, function, *args)

        api = Hanging(Provider(clock))
        driver = driver_of(journal, api, clock, in_thread=in_thread)
        task = asyncio.create_task(driver.advance(job.id))
        await until(lambda: api.begun == 1)

        for _ in range(cancelled):
            task.cancel()
            await asyncio.sleep(0)  # it hears of each
        with suppress(asyncio.CancelledError):
            await task

        assert task.cancelled()

    asyncio.run(main())

    assert is_free(journal, job, clock)


def test_a_poller_that_is_stopped_has_given_back_every_lease(
    journal: Journal, clock: Clock, workers: ThreadPoolExecutor
) -> None:
    jobs = [planned(journal, key) for key in "abcd"]
    free = []

    def slowly(function: Callable[..., Any], *args: Any) -> Any:
        if function == journal.release:
            threading.Event().wait(0.02)
        return function(*args)

    async def main() -> None:
        def in_thread(function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
            return asyncio.get_running_loop().run_in_executor(workers, slowly, function, *args)

        api = Hanging(Provider(clock))
        driver = driver_of(journal, api, clock, in_thread=in_thread)
        poller = Poller(driver)
        poller.start()
        await until(lambda: api.begun == len(jobs))

        await poller.stop()

        free.extend(is_free(journal, job, clock) for job in jobs)

    asyncio.run(main())

    assert free == [True] * len(jobs)


def test_a_lease_that_was_being_prolonged_when_its_turn_ended_is_given_back(journal: Journal, clock: Clock) -> None:
    job = planned(journal, "a")
    beating, released = threading.Event(), threading.Event()
    leases = 0

    def held(function: Callable[..., Any], *args: Any) -> Any:
        nonlocal leases
        leases += function == journal.lease
        if function == journal.lease and leases > 1:
            beating.set()
            # Time enough for a turn that would not wait for this.
            released.wait(0.3)
        result = function(*args)
        if function == journal.release:
            released.set()
        return result

    async def main() -> None:
        api = Hanging(Provider(clock))

        def in_thread(function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
            return asyncio.get_running_loop().run_in_executor(None, held, function, *args)

        driver = driver_of(journal, api, clock, lease_s=0.03, in_thread=in_thread)
        task = asyncio.create_task(driver.advance(job.id))
        await until(beating.is_set)

        api.goes_on.set()
        await task
        assert released.is_set()

    asyncio.run(main())

    # By the clock that stands still, a lease that was left would last.
    assert is_free(journal, job, clock)
