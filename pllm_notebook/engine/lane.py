"""One dispatcher for one account and model: no row has a task until it may start.

`pump` does everything that can be done now and sets one timer for what cannot. It runs on the
engine's loop, whenever a call ends, a run arrives or the timer fires. Only calls on the wire
have tasks.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from pllm_notebook.engine.feed import Exchange, Feed, Job, Landing
from pllm_notebook.engine.limiter import Limiter, Stamp
from pllm_notebook.engine.retry import retry_delay_s
from pllm_notebook.protocols import Transport, TransportFault
from pllm_notebook.records import Failure, FailureKind, LimitReport, RawReply, Reply

__all__ = ["Lane"]

logger = logging.getLogger("pllm_notebook")

# A call is sent again after a server's quirk was learned; more than this is not learning.
_MOST_HEALS = 4


class Lane:
    """Send the calls of all runs for one account and model.

    Args:
        name: For the log.
        path: The URL's path.
        transport: Made on first use; None until then.
        read: Turns a response into a reply or failure.
        heal: Learns from a rejected request; True when it is worth sending again.
        limits: Reads limits from headers.
        limiter: The account's limits.
        rng: Draws the jitter.

    Attributes:
        limiter: The account's limits.
        landed: Replies that came back, whoever asked: a run compares it with its own.
    """

    def __init__(
        self,
        name: str,
        path: str,
        transport: Callable[[], Transport],
        read: Callable[[RawReply], Reply | Failure],
        heal: Callable[[Failure, bytes], bool],
        limits: Callable[[RawReply], LimitReport | None],
        limiter: Limiter,
        rng: random.Random,
    ) -> None:
        self.name = name
        self.limiter = limiter
        self.landed = 0
        self._path = path
        self._connect = transport
        self._transport: Transport | None = None
        self._read = read
        self._heal = heal
        self._limits = limits
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._feeds: deque[Feed] = deque()
        self._flights: dict[str, _Flight] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False
        self._pause_told = 0.0

    def __repr__(self) -> str:
        return f"Lane({self.name}, runs={len(self._feeds)}, in_flight={len(self._flights)}, {self.limiter!r})"

    @property
    def in_flight(self) -> int:
        """Requests on the wire."""
        return len(self._flights)

    def attach(self, feed: Feed) -> None:
        """Start sending a run's calls.

        Raises:
            UsageError: When the transport cannot be opened (no key, no package); nothing was sent.
        """
        if self._transport is None:
            self._transport = self._connect()
        self._feeds.append(feed)
        self.poke()

    def poke(self) -> None:
        """Look again soon: a run has something new, or has room."""
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def detach(self, feed: Feed) -> None:
        """Stop sending a run's calls: what waits is dropped, what is on the wire for it alone is cancelled.

        Each dropped call's `done` is called with `FailureKind.CANCELLED`.
        """
        with suppress(ValueError):
            self._feeds.remove(feed)
        for job in feed.close():
            job.done(job, _cancelled(job, 0.0))
        for flight in list(self._flights.values()):
            if flight.leave(feed) and not flight.passengers:
                flight.task.cancel()
                if not flight.departed:  # a task cancelled before its first step never runs at all
                    self._land(flight, None, flight.stamp, self._loop.time(), b"")

    async def aclose(self) -> None:
        """Cancel what is on the wire and close the connections."""
        if self._timer is not None:
            self._timer.cancel()
        for feed in list(self._feeds):
            self.detach(feed)
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    def _pump(self) -> None:
        self._pumping = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        wake = float("inf")
        idle = 0  # feeds in a row that had nothing to send
        while idle < len(self._feeds):
            feed = self._feeds[0]
            self._feeds.rotate(-1)  # one call each in turn, so that a preview does not wait behind a long run
            job = feed.next(now)
            if job is None:
                due = feed.due()
                wake = wake if due is None else min(wake, due)
                idle += 1
                continue
            # Joining costs nothing, so neither a full window nor a limit keeps a run from it: a call that it
            # does not join now may have landed when its turn comes, and would be paid for again.
            if job.key in self._flights:
                self._flights[job.key].join(feed, job)
                feed.in_flight += 1
                idle = 0
                continue
            full = len(self._flights) >= int(self.limiter.window)
            own = max(feed.requests.wait_s(now, 1.0), feed.tokens.wait_s(now, job.tokens))
            wait = max(own, self.limiter.wait_s(now, job.tokens))
            if full or wait > 0:
                feed.first(job)
                wake = wake if full else min(wake, now + wait)
                idle += 1
                continue
            idle = 0
            self._launch(feed, job, now)
        if wake < float("inf"):
            # A timer that fires a hair early would find nothing and spin.
            self._timer = self._loop.call_at(wake + 1e-4, self._pump)

    def _launch(self, feed: Feed, job: Job, now: float) -> None:
        feed.requests.charge(now, 1.0)
        feed.tokens.charge(now, job.tokens)
        stamp = self.limiter.charge(now, job.tokens)
        feed.in_flight += 1
        flight = _Flight(feed, job, stamp)
        self._flights[job.key] = flight
        flight.task = self._loop.create_task(self._fly(flight, job, feed.timeout_s))

    async def _fly(self, flight: _Flight, job: Job, timeout_s: float) -> None:
        loop = self._loop
        stamp = flight.stamp
        flight.departed = True
        content = b""
        try:
            content = job.content()
            exchange = await self._exchange(content, timeout_s)
        except asyncio.CancelledError:
            # Nothing arrived. No await follows an arrival, so an answer that is here is never cancelled.
            self._land(flight, None, stamp, loop.time(), content)
            raise
        except Exception as error:  # a fault of ours must not leave rows waiting for ever
            logger.exception("%s: a request could not be made", self.name)
            failed = Failure(FailureKind.INPUT, f"{type(error).__name__}: {error}")
            exchange = Exchange(failed, None, None)
        self._land(flight, exchange, stamp, loop.time(), content)

    async def _exchange(self, content: bytes, timeout_s: float) -> Exchange:
        assert self._transport is not None
        try:
            async with asyncio.timeout(timeout_s):
                raw = await self._transport.post(self._path, content)
        except TimeoutError:
            message = f"No whole reply within timeout_s={timeout_s:g} s."
            return Exchange(Failure(FailureKind.TIMEOUT, message), None, None)
        except TransportFault as fault:
            return Exchange(Failure(fault.kind, fault.message), None, None)
        return Exchange(self._read(raw), raw, self._limits(raw))

    def _land(self, flight: _Flight, exchange: Exchange | None, stamp: Stamp, now: float, content: bytes) -> None:
        """End a flight: tell the limiter, then each run that was aboard."""
        self._flights.pop(flight.key, None)
        if exchange is not None:
            self.landed += isinstance(exchange.result, Reply)
            self._teach(exchange, stamp, now)
        latency = now - stamp.sent_at
        healed = (
            exchange is not None
            and isinstance(exchange.result, Failure)
            and exchange.result.kind is FailureKind.BAD_REQUEST
            and self._heal(exchange.result, content)
        )
        leader = True
        for feed, job in flight.passengers:
            feed.in_flight -= 1
            job.sent += 1 if leader else 0
            if exchange is not None:
                self._conclude(feed, job, exchange, now, latency, healed)
            elif feed.closed:
                job.done(job, _cancelled(job, latency))
            else:  # it joined after the others had left and the request was cancelled
                feed.first(job)
            leader = False
        for job in flight.left:
            job.maybe_paid += flight.departed
            job.done(job, _cancelled(job, latency))
        self.poke()

    def _conclude(self, feed: Feed, job: Job, exchange: Exchange, now: float, latency: float, healed: bool) -> None:
        result = exchange.result
        if isinstance(result, Failure):
            if result.kind.maybe_paid:
                job.maybe_paid += 1
            if healed and job.heals < _MOST_HEALS and not feed.closed:
                job.heals += 1
                feed.first(job)
                return
            if result.kind is FailureKind.RATE_LIMIT:
                job.refusals += 1
                feed.refused += 1
            else:
                job.attempts += 1
            delay = retry_delay_s(
                result.kind,
                attempts=job.attempts,
                refusals=job.refusals,
                retry_after_s=result.retry_after_s,
                max_retries=feed.max_retries,
                draw=self._rng.random(),
            )
            if delay is not None and not feed.closed:
                feed.retries += 1
                logger.info("%s: %s, again in %.2f s", self.name, result.kind, delay)
                feed.again(job, now + delay)
                return
        job.done(job, Landing(result, exchange.raw, job.sent, latency, job.maybe_paid))

    def _teach(self, exchange: Exchange, stamp: Stamp, now: float) -> None:
        result = exchange.result
        if isinstance(result, Reply):
            tokens = None if result.usage is None else result.usage.input_tokens + result.usage.output_tokens
            self.limiter.replied(now, stamp, exchange.limits, tokens)
            return
        if result.kind is FailureKind.RATE_LIMIT:
            self.limiter.refused_at(now, stamp, exchange.limits, result.retry_after_s)
        elif result.kind is FailureKind.OVERLOADED:
            self.limiter.overloaded(now, result.retry_after_s)
        pause = self.limiter.paused_until - now
        if pause > 0 and self.limiter.paused_until > self._pause_told:
            self._pause_told = self.limiter.paused_until
            logger.info("%s: pausing %.2f s (%s)", self.name, pause, result.kind)


class _Flight:
    """One request on the wire, and the runs that wait for it."""

    __slots__ = ("departed", "key", "left", "passengers", "stamp", "task")

    task: asyncio.Task[None]

    def __init__(self, feed: Feed, job: Job, stamp: Stamp) -> None:
        self.key = job.key
        self.stamp = stamp
        self.departed = False
        self.passengers: list[tuple[Feed, Job]] = [(feed, job)]
        self.left: list[Job] = []

    def join(self, feed: Feed, job: Job) -> None:
        self.passengers.append((feed, job))

    def leave(self, feed: Feed) -> bool:
        """Take a run's calls off; True when it had any. They end when the flight lands or is cancelled."""
        mine = [job for owner, job in self.passengers if owner is feed]
        self.passengers = [(owner, job) for owner, job in self.passengers if owner is not feed]
        feed.in_flight -= len(mine)
        self.left += mine
        return bool(mine)


def _cancelled(job: Job, latency: float) -> Landing:
    return Landing(
        Failure(FailureKind.CANCELLED, "Stopped before it was answered."), None, job.sent, latency, job.maybe_paid
    )
