"""One request on the wire, the runs that wait for it, and the time it may take."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from pllm_notebook.engine.feed import Feed, Job, Landing
from pllm_notebook.engine.limiter import Stamp
from pllm_notebook.records import Failure, FailureKind

__all__ = ["Deadlines", "Flight", "cancelled"]


class Flight:
    """One request, and the runs that wait for it.

    A call that is sent twice has two flights with one list of passengers; each is the other's `twin`,
    and only the older one is known to the lane by its key.

    Attributes:
        ceilings: The caller's limits that it counts against until it is over.
        task: What carries it. It may carry another flight before and after, never two at once.
        deadline: The loop's time at which it is given up.
        departed: Whether the provider may have seen it.
        over: Whether it has ended for all who waited; its task may not have noticed yet.
        late: Whether it was cancelled for its deadline.
        left: Calls of runs that were stopped; they end with the flight.
        limit: `Job.wire_limit` of the call whose request it carries, whoever joins it.
        payer: Of a call that is sent twice, the run and call that wanted it.
    """

    __slots__ = (
        "ceilings", "deadline", "departed", "key", "late", "left", "limit", "over", "passengers", "payer", "stamp",
        "task", "timeout_s", "twin",
    )  # fmt: skip

    task: asyncio.Task[None]

    def __init__(self, feed: Feed, job: Job, stamp: Stamp, passengers: list[tuple[Feed, Job]]) -> None:
        self.key = job.request
        self.ceilings = feed.ceilings
        self.stamp = stamp
        self.timeout_s = feed.timeout_s
        self.deadline = stamp.sent_at + feed.timeout_s
        self.departed = self.over = self.late = False
        self.passengers = passengers
        self.left: Sequence[Job] = ()
        self.limit: int | None = None
        self.twin: Flight | None = None
        self.payer: tuple[Feed, Job] | None = None

    def join(self, feed: Feed, job: Job) -> None:
        self.passengers.append((feed, job))
        feed.in_flight += 1

    def leave(self, feed: Feed) -> bool:
        """Take a run's calls off; True when it had any. They end when the flight lands or is cancelled."""
        mine = [job for owner, job in self.passengers if owner is feed]
        self.passengers[:] = [(owner, job) for owner, job in self.passengers if owner is not feed]
        feed.in_flight -= len(mine)
        self.left = [*self.left, *mine]
        return bool(mine)

    def job_of(self, feed: Feed) -> Job | None:
        """Return the call of a run that waits for this one, None for none."""
        return next((job for owner, job in self.passengers if owner is feed), None)


def cancelled(job: Job, latency_s: float) -> Landing:
    """Make the end of a call that its run no longer wants."""
    failure = Failure(FailureKind.CANCELLED, "Stopped before it was answered.")
    return Landing(failure, None, job.sent, latency_s, job.maybe_paid)


class Deadlines:
    """Cancel requests that take too long, with one timer for all of them.

    A timer for each request costs more than all else that a lane does for it. This one is set for the earliest
    deadline; when it fires, that request has nearly always landed, and it is set for the earliest of those that
    are then on the wire.

    Args:
        loop: Gives the time.
        flights: What is on the wire, by key.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, flights: Mapping[tuple[str, int | None], Flight]) -> None:
        self._loop = loop
        self._flights = flights
        self._timer: asyncio.TimerHandle | None = None
        self._at = float("inf")

    def add(self, flight: Flight) -> None:
        """Watch *flight* until it has landed."""
        if flight.deadline < self._at:
            self._set(flight.deadline)

    def close(self) -> None:
        """Watch nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._at = None, float("inf")

    def _set(self, at: float) -> None:
        self.close()
        if at < float("inf"):
            self._timer, self._at = self._loop.call_at(at, self._sweep), at

    def _sweep(self) -> None:
        due = self._at  # not the time now, which may be a hair before it
        next_ = float("inf")
        for flight in self._all():
            if flight.late:
                continue
            if flight.deadline > due:
                next_ = min(next_, flight.deadline)
            elif flight.departed:
                flight.late = True
                flight.task.cancel()
            else:  # its task has yet to take the first step; look again as soon as it has
                next_ = min(next_, self._loop.time())
        self._at = float("inf")
        self._set(next_)

    def _all(self) -> Iterator[Flight]:
        for flight in self._flights.values():
            yield flight
            if flight.twin is not None:
                yield flight.twin
