"""Poll open jobs in the background, at increasing intervals while nothing changes.

Each job has its own interval, which grows until the job's state changes. Jobs planned by another kernel are
also found. If another kernel is moving a job, this one finds the lease taken and waits.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from pllm_notebook.batch.driver import Driver
from pllm_notebook.batch.job import Job, JobState
from pllm_notebook.formatting import counted

__all__ = ["PollTimes", "Poller"]

_MAX_PARALLEL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PollTimes:
    """The polling intervals of open jobs.

    Attributes:
        first_s: Initial interval in seconds, also used after each change.
        growth: Factor by which the interval grows each time that nothing changed.
        most_s: Maximum interval. New jobs of other kernels are found within this time.
        jitter: Maximum share by which each wait is lengthened, so that kernels do not poll at the same time.
        draw: Returns a random number from [0, 1).
    """

    first_s: float = 5.0
    growth: float = 1.5
    most_s: float = 600.0
    jitter: float = 0.1
    draw: Callable[[], float] = random.random

    def longer(self, interval_s: float) -> float:
        """Return the next interval if nothing changed."""
        return min(self.most_s, interval_s * self.growth)

    def spread(self, interval_s: float) -> float:
        """Return the seconds to wait for an interval, with jitter."""
        return interval_s * (1 + self.jitter * self.draw())


@dataclass(slots=True)
class _Schedule:
    """The time of a job's next poll on the loop's clock, its interval in seconds, and its last state."""

    due: float
    interval_s: float
    state: JobState | None = None


class Poller:
    """Drive every open job of a journal until stopped. Used on one event loop.

    Args:
        driver: Moves the jobs.
        times: The polling intervals.
        now: Returns the time in seconds on the clock of *sleep*; None for the running loop's clock.
        sleep: Waits for a number of seconds.
        changed: Called with each job whose state changed. It must not block.
    """

    def __init__(
        self,
        driver: Driver,
        times: PollTimes = PollTimes(),  # frozen
        *,
        now: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        changed: Callable[[Job], None] = lambda job: None,
    ) -> None:
        self._driver = driver
        self._times = times
        self._now = now
        self._sleep = sleep
        self._changed = changed
        self._watched: dict[str, _Schedule] = {}
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._round = asyncio.Event()

    def __repr__(self) -> str:
        return f"Poller({'on' if self.running else 'off'}, {counted(len(self._watched), 'open job')})"

    @property
    def running(self) -> bool:
        """Whether it is polling."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Start on the running loop. Has no effect if it is already running."""
        if not self.running:
            self._task = asyncio.get_running_loop().create_task(self._poll())

    async def stop(self) -> None:
        """Stop once the current request has ended or is given up. Jobs continue at their provider."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def wake(self) -> None:
        """Poll every job now, and reset the intervals: a job was planned, or the user asked."""
        self._watched.clear()
        self._woken.set()

    async def until_final(self, jobs: Collection[str]) -> list[Job]:
        """Wait until all *jobs* are final, and return them in order. The poller must be running.

        Cancelling this stops only the waiting.

        Raises:
            Exception: The error that ended the poller, if any.
        """
        while True:
            turned = self._round
            now = [await self._driver.read(job) for job in jobs]
            if all(job.final for job in now):
                return now
            if self._task is None:
                raise RuntimeError("the poller is off: nothing would end this wait")
            if self._task.done():
                self._task.result()
            waiter = asyncio.ensure_future(turned.wait())
            try:
                await asyncio.wait({waiter, self._task}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiter.cancel()

    async def _poll(self) -> None:
        while True:
            self._woken.clear()
            await self._poll_due()
            # Callers waiting for a job's end check after each round.
            turned, self._round = self._round, asyncio.Event()
            turned.set()
            await self._sleep_until_due()

    async def _poll_due(self) -> None:
        jobs = await self._driver.open_jobs()
        now = self._clock()
        open_ids = {job.id for job in jobs}
        for gone in self._watched.keys() - open_ids:
            del self._watched[gone]
        due = [job for job in jobs if (watch := self._watched.get(job.id)) is None or watch.due <= now]
        gate = asyncio.Semaphore(_MAX_PARALLEL)

        async def one(job: Job) -> None:
            async with gate:
                self._settle(job, await self._driver.try_drive(job.id))

        tasks = [asyncio.ensure_future(one(job)) for job in due]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            # Each releases its job's lease; otherwise another kernel would wait for it.
            await asyncio.gather(*tasks, return_exceptions=True)

    def _settle(self, before: Job, job: Job) -> None:
        if job.state is not before.state:
            self._changed(job)
        if job.final:
            self._watched.pop(job.id, None)
            return
        watch = self._watched.get(job.id)
        if watch is None or watch.state is not job.state:
            interval_s = self._times.first_s
        else:
            interval_s = self._times.longer(watch.interval_s)
        self._watched[job.id] = _Schedule(self._clock() + self._times.spread(interval_s), interval_s, job.state)

    async def _sleep_until_due(self) -> None:
        now = self._clock()
        due = min((watch.due for watch in self._watched.values()), default=now + self._times.most_s)
        if self._woken.is_set():
            return
        asleep = asyncio.ensure_future(self._sleep(min(max(0.0, due - now), self._times.most_s)))
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait({asleep, woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asleep.cancel()
            woken.cancel()

    def _clock(self) -> float:
        return asyncio.get_running_loop().time() if self._now is None else self._now()
