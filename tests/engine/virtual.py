"""A loop whose time is virtual, and a provider modelled in it: whole runs in milliseconds, to the float."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pllm_notebook.engine import Feed, Job, Landing, Lane, Limiter
from pllm_notebook.protocols import TransportFault
from pllm_notebook.records import Failure, FailureKind, Finish, LimitReport, RawReply, Reply, Usage

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits: when nothing is ready, its clock jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__(_NeverWaits(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def jump(self, seconds: float | None) -> None:
        if seconds is None:
            raise RuntimeError("deadlock: nothing is ready and nothing is scheduled")
        self.now += max(0.0, seconds)


class _NeverWaits(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout != 0:
            self._loop.jump(timeout)
        return ready


def run_virtual(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run *main* to its end in virtual time."""
    loop = VirtualLoop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@dataclass
class ModelServer:
    """A provider with a request bucket, and a chosen way of telling about it.

    Attributes:
        rpm: Requests a minute, None for no limit.
        burst_s: Seconds' worth that the bucket holds.
        tells: "full" headers, "retry_after" on a 429, or "nothing".
        latency_s: Of each call.
        script: What the nth request meets instead of an answer.
    """

    rpm: float | None = None
    burst_s: float = 1.0
    tells: str = "full"
    latency_s: Callable[[random.Random], float] = lambda rng: 0.3
    script: dict[int, Exception | RawReply] = field(default_factory=dict)
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    requests: int = 0
    refused: int = 0
    in_flight: int = 0
    peak: int = 0
    closed: bool = False
    seen: list[bytes] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    _level: float | None = None
    _at: float = 0.0

    async def post(self, path: str, content: bytes) -> RawReply:
        loop = asyncio.get_running_loop()
        now = loop.time()
        nth, self.requests = self.requests, self.requests + 1
        self.seen.append(content)
        self.starts.append(now)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            headers: dict[str, str] = {}
            if self.rpm is not None:
                rate, capacity = self.rpm / 60, self.rpm / 60 * self.burst_s
                level = capacity if self._level is None else min(capacity, self._level + (now - self._at) * rate)
                self._at = now
                if level < 1:
                    self._level = level
                    self.refused += 1
                    await asyncio.sleep(0.02)
                    wait = {} if self.tells == "nothing" else {"retry-after": str((1 - level) / rate)}
                    return RawReply(429, wait | self._told(level, rate, capacity), b"")
                self._level = level - 1
                headers = self._told(level - 1, rate, capacity)
            await asyncio.sleep(self.latency_s(self.rng))
            met = self.script.get(nth)
            if isinstance(met, Exception):
                raise met
            return met or RawReply(200, headers, content)
        finally:
            self.in_flight -= 1

    async def aclose(self) -> None:
        self.closed = True

    def _told(self, level: float, rate: float, capacity: float) -> dict[str, str]:
        if self.tells != "full":
            return {}
        return {"limit": str(rate * 60), "remaining": str(level), "reset": str((capacity - level) / rate)}


def read(raw: RawReply) -> Reply | Failure:
    """Read the modelled provider's answers."""
    if raw.status == 200:
        return Reply(raw.body.decode(), Finish.COMPLETE, Usage(10, 10), "m")
    kinds = {
        429: FailureKind.RATE_LIMIT,
        400: FailureKind.BAD_REQUEST,
        401: FailureKind.AUTHENTICATION,
        529: FailureKind.OVERLOADED,
    }
    wait = raw.headers.get("retry-after")
    return Failure(
        kinds.get(raw.status, FailureKind.SERVER), "", raw.status, retry_after_s=None if wait is None else float(wait)
    )


def limits(raw: RawReply) -> LimitReport | None:
    """Read the modelled provider's headers."""
    if "limit" not in raw.headers:
        return None
    h = raw.headers
    return LimitReport(float(h["limit"]), float(h["remaining"]), float(h["reset"]))


def lane_to(
    server: ModelServer, limiter: Limiter | None = None, heal: Callable[[Failure, bytes], bool] | None = None
) -> Lane:
    """Make a lane to the modelled provider; its draws are seeded."""
    heal = heal or (lambda failure, content: False)
    return Lane("model", "/", lambda: server, read, heal, limits, limiter or Limiter(), random.Random(1))


class Calls:
    """A run's worth of calls: a source for a feed, and what became of each.

    Args:
        keys: One call each, in order.
    """

    def __init__(self, keys: list[str], **feed: Any) -> None:
        self.keys = keys
        self.landed: dict[int, Landing] = {}
        self.order: list[int] = []
        self._next = 0
        self._all = asyncio.get_running_loop().create_future()
        self.feed = Feed(self._source, **({"max_retries": 5, "timeout_s": 60.0} | feed))

    def _source(self) -> Job | None:
        if self._next == len(self.keys):
            return None
        n, self._next = self._next, self._next + 1
        key = self.keys[n]
        return Job(key, lambda: key.encode(), 20.0, self._done, n)

    def _done(self, job: Job, landing: Landing) -> None:
        assert job.tag not in self.landed, "a call ends once"
        self.landed[job.tag] = landing
        self.order.append(job.tag)
        if len(self.landed) == len(self.keys) and not self._all.done():
            self._all.set_result(None)

    async def all(self) -> None:
        """Wait until every call has ended."""
        await self._all

    def kinds(self) -> list[str]:
        """How each call ended, in order of the calls: "ok" or the failure's kind."""
        ended = (self.landed[n].result for n in range(len(self.keys)) if n in self.landed)
        return [str(result.kind) if isinstance(result, Failure) else "ok" for result in ended]


__all__ = ["Calls", "ModelServer", "TransportFault", "VirtualLoop", "lane_to", "run_virtual"]
