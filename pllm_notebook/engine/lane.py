"""One dispatcher for one account and model: no row has a task until it may start.

`pump` does everything that can be done now and sets one timer for what cannot. It runs on the
engine's loop, whenever a call ends, a run arrives or the timer fires. Only calls on the wire
have tasks, and the task whose call has landed carries the next one: a task for each call costs
more than its making, since a burst of calls that end before a burst that begins makes Python
collect its garbage again and again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from pllm_notebook.engine.alarm import Alarm
from pllm_notebook.engine.ceiling import AccountCeiling
from pllm_notebook.engine.exchanges import limits_in, strand, surprised, teach, too_late
from pllm_notebook.engine.feed import Exchange, Feed, Job, Landing
from pllm_notebook.engine.flight import Flight, cancelled
from pllm_notebook.engine.hedging import Hedging
from pllm_notebook.engine.limiter import Limiter
from pllm_notebook.engine.retry import retried_as, retry_delay_s, with_wait
from pllm_notebook.engine.traffic import Traffic
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
        account: What the runs that state limits of their own keep together at this account, None for nothing.
        rested: Called when the lane has become idle, None for nobody.
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
        self.account: AccountCeiling | None = None
        self.rested: Callable[[Lane], None] | None = None
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
        self._traffic = Traffic(self._loop, limiter)
        self._hedging = Hedging(name, self._traffic, limiter)
        self._alarm = Alarm(self._loop, self._pump)
        self._pumping = False

    def __repr__(self) -> str:
        return f"Lane({self.name}, runs={len(self._feeds)}, in_flight={self.in_flight}, {self.limiter!r})"

    @property
    def in_flight(self) -> int:
        """Requests on the wire."""
        return self._traffic.requests

    @property
    def idle(self) -> bool:
        """Whether no run uses it and nothing is on the wire."""
        return not self._feeds and not self._traffic.requests

    def holds(self, now: float) -> str:
        """Say what keeps calls back, "" for nothing."""
        return self.limiter.holds(now)

    def expect(self, feed: Feed) -> None:
        """Register a run that is being planned; here its calls leave as they come."""

    def submitted(self, feed: Feed) -> bool:
        """Return whether everything that a run has handed over is on its way."""
        return feed.waiting == 0

    def attach(self, feed: Feed) -> None:
        """Start sending a run's calls.

        Raises:
            UsageError: When the transport cannot be opened (no key, no package); nothing was sent.
        """
        if self._transport is None:
            self._transport = self._connect()
        if self.account is not None and feed.ceilings:
            stated = feed.ceilings
            feed.keep(self.account)
            self.account.enter(self._loop.time(), feed, stated)
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
            job.done(job, cancelled(job, 0.0))
        now = self._loop.time()
        for flight in list(self._traffic.flights.values()):
            self._hedging.leave(flight, feed)
            if flight.leave(feed) and not flight.passengers:
                if flight.departed:
                    flight.task.cancel()
                else:  # nothing was sent: its task will find it over
                    self._land(flight, None, now, b"")
        if self.account is not None:
            self.account.leave(now, feed)
        self.poke()
        self._rest()

    @property
    def connected(self) -> bool:
        """Whether its connections are open."""
        return self._transport is not None

    async def disconnect(self) -> None:
        """Close the connections of an idle lane; the next run opens others. What was learned of the limits stays."""
        if self.idle and self._transport is not None:
            transport, self._transport = self._transport, None
            await transport.aclose()

    async def aclose(self) -> None:
        """Cancel what is on the wire and close the connections."""
        self._alarm.cancel()
        for feed in list(self._feeds):
            self.detach(feed)
        tasks = [flight.task for flight in self._traffic.flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._traffic.close()
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    def _pump(self, carrier: asyncio.Task[None] | None = None) -> Flight | None:
        """Send what may be sent now (see `_dispatch`)."""
        try:
            return self._dispatch(carrier)
        except Exception as error:
            self._break(error)
            return None

    def _break(self, error: Exception) -> None:
        """End every run: a fault of ours in the lane itself must not leave them waiting for ever."""
        logger.error("%s: the dispatcher failed", self.name, exc_info=error)
        for feed in list(self._feeds):
            if feed.fault is not None:
                feed.fault(error)

    def _dispatch(self, carrier: asyncio.Task[None] | None) -> Flight | None:
        """Send what may be sent now.

        Args:
            carrier: The running task, whose own flight has landed, to carry the first that leaves.

        Returns:
            The carrier's next flight, None when there is none for it.
        """
        if carrier is None:
            self._pumping = False
        now = self._loop.time()
        wake = float("inf")
        idle = 0  # feeds in a row that had nothing to send
        held = False
        mine: Flight | None = None
        feeds, traffic = self._feeds, self._traffic
        while idle < len(feeds):
            feed = feeds[0]
            if len(feeds) > 1:
                feeds.rotate(-1)  # one call each in turn, so that a preview does not wait behind a long run
            job = feed.next(now)
            if job is None:
                feed.when_free(self.poke)
                due = feed.due()
                wake = wake if due is None else min(wake, due)
                idle += 1
                for stranded in feed.stranded():
                    self._give_up(stranded)
                continue
            # Joining costs nothing, so neither a full window nor a limit keeps a run from it: a call that it
            # does not join now may have landed when its turn comes, and would be paid for again.
            if job.request in traffic.flights:
                traffic.flights[job.request].join(feed, job)
                idle = 0
                continue
            full, wait = traffic.gate(feed, job, now)
            if full or wait > 0:
                feed.first(job)
                wake = wake if full else min(wake, now + wait)
                idle += 1
                held = True
                continue
            idle = 0
            if (job.attempts or job.refusals or job.heals) and feed.answered is not None and feed.answered(job):
                continue
            flight = traffic.launch(feed, job, now, [(feed, job)])
            traffic.flights[job.request] = flight
            mine = self._depart(flight, carrier, mine)
        if not held:
            for feed in list(feeds):
                if feed.spare is not None:
                    second, again = self._hedging.second(feed, now)
                    while second is not None:
                        mine = self._depart(second, carrier, mine)
                        second, again = self._hedging.second(feed, now)
                    wake = min(wake, again)
        self._alarm.set(wake)
        return mine

    def _depart(self, flight: Flight, carrier: asyncio.Task[None] | None, mine: Flight | None) -> Flight | None:
        """Assign *flight* a task: the carrier's own if it carries nothing yet."""
        if carrier is not None and mine is None:
            flight.task = carrier
            return flight
        flight.task = self._loop.create_task(self._carry(flight))
        return mine

    async def _carry(self, first: Flight) -> None:
        """Carry one flight after another, for as long as there is one."""
        me = first.task
        flight: Flight | None = first
        while flight is not None:
            if not flight.over:
                try:
                    await self._fly(flight)
                except Exception as error:
                    self._wreck(flight, error)
                    self._break(error)
            flight = self._pump(me)

    async def _fly(self, flight: Flight) -> None:
        loop = self._loop
        assert self._transport is not None
        flight.departed = True
        content = b""
        raw: RawReply | None = None
        try:
            job = flight.passengers[0][1]
            flight.limit = job.wire_limit
            content = job.content()
            raw = await self._transport.post(self._path, content)
            exchange = Exchange(self._read(raw), raw, limits_in(self.name, self._limits, raw))
        except asyncio.CancelledError:
            # Nothing arrived. No await follows an arrival, so an answer that is here is never cancelled.
            if not flight.late or flight.task.uncancel():
                self._land(flight, None, loop.time(), content)
                self.poke()
                raise
            exchange = too_late(flight)
        except TimeoutError:  # a transport's own
            exchange = too_late(flight)
        except TransportFault as fault:
            exchange = Exchange(Failure(fault.kind, fault.message), None, None)
        except Exception as error:  # a fault of ours must not leave rows waiting for ever
            exchange = surprised(self.name, error, content, raw)
        self._land(flight, exchange, loop.time(), content)

    def _wreck(self, flight: Flight, error: Exception) -> None:
        """Clean up after a landing that failed halfway: no later call may join a flight that is over."""
        if flight.twin is not None:
            self._hedging.abandon(flight.twin)
        if self._traffic.flights.get(flight.key) is flight:
            del self._traffic.flights[flight.key]
        if not flight.over:
            flight.over = True
            self._traffic.over(flight)
            for feed, _ in flight.passengers:
                feed.in_flight -= 1
        strand(self.name, flight, error)

    def _land(self, flight: Flight, exchange: Exchange | None, now: float, content: bytes) -> None:
        """End a flight: tell the limiter, then each run that was aboard."""
        if flight.over:
            return
        if exchange is None:
            self.limiter.ended(flight.stamp)
        else:
            self.landed += isinstance(exchange.result, Reply)
            teach(self.name, self.limiter, exchange, flight.stamp, now)
        if flight.twin is not None:
            if exchange is None or isinstance(exchange.result, Failure):
                self._hedging.failed(flight, exchange)
                return
            self._hedging.abandon(flight.twin)
        flight.over = True
        self._traffic.over(flight)
        self._traffic.flights.pop(flight.key, None)
        latency = now - flight.stamp.sent_at
        healed = (
            exchange is not None
            and isinstance(exchange.result, Failure)
            and exchange.result.kind is FailureKind.BAD_REQUEST
            and self._heal(exchange.result, content)
        )
        leader = True
        while flight.passengers:
            # Taken off first: whoever has been told is not told again, whatever fails on the way.
            feed, job = flight.passengers.pop(0)
            feed.in_flight -= 1
            job.sent += 1 if leader else 0
            if exchange is not None:
                self._conclude(feed, job, exchange, now, latency, healed, flight.limit)
            elif feed.closed:
                job.done(job, cancelled(job, latency))
            else:  # it joined after the others had left and the request was cancelled
                feed.first(job)
            leader = False
        for job in flight.left:
            job.maybe_paid += flight.departed
            job.done(job, cancelled(job, latency))
        self._rest()

    def _rest(self) -> None:
        if not self._feeds and self.rested is not None and self.idle:
            self.rested(self)

    def _conclude(
        self, feed: Feed, job: Job, exchange: Exchange, now: float, latency: float, healed: bool, limit: int | None
    ) -> None:
        result = exchange.result
        if isinstance(result, Failure):
            if result.kind.maybe_paid:
                job.maybe_paid += 1
            if healed and job.heals < _MOST_HEALS and not feed.closed:
                job.heals += 1
                feed.first(job)
                return
            job.failed(result.kind, now, self.landed)
            feed.refused += result.kind is FailureKind.RATE_LIMIT
            delay = retry_delay_s(
                retried_as(result),
                attempts=job.attempts,
                refusals=job.refusals,
                retry_after_s=result.retry_after_s,
                max_retries=feed.max_retries,
                draw=self._rng.random(),
                refused_for_s=now - job.refused_since if job.refusals else 0.0,
                others_pass=self.landed > job.landed_then,
            )
            if delay is not None and not feed.closed and not feed.gives_up(job, now, delay, self):
                feed.retries += 1
                logger.info("%s: %s, again in %.2f s", self.name, result.kind, delay)
                job.last = Landing(result, exchange.raw, job.sent, latency, job.maybe_paid)
                feed.again(job, now + delay)
                return
        elif feed.spare is not None:
            feed.latencies.add(latency)
        job.done(job, Landing(with_wait(result), exchange.raw, job.sent, latency, job.maybe_paid, output_limit=limit))

    def _give_up(self, job: Job) -> None:
        """End a call, soon, that would be sent again if there were the money: its run may stop at that."""
        assert job.last is not None  # it has failed, or it would have the money for its first request
        self._loop.call_soon(job.done, job, replace(job.last, short=True))
