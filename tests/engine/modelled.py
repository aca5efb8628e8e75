"""A provider modelled in virtual time: its limits, its latencies, its faults, and its way of telling."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.types import Finish, LimitReport, RawReply, Reply, Usage

__all__ = ["INPUT_TOKENS", "ModelServer", "limits", "lognormal", "read"]

INPUT_TOKENS = 10
REFUSAL_S = 0.02
_ODD_ONE = 40


def lognormal(median_s: float = 0.3, sigma: float = 0.5) -> Callable[[random.Random], float]:
    """LatencyTracker like a busy provider's."""
    return lambda rng: median_s * math.exp(rng.gauss(0.0, sigma))


class _Bucket:
    """A limit as the provider keeps it: of *per_min*, holding *burst_s* seconds' worth, or by the clock's minute."""

    def __init__(self, per_min: float, burst_s: float, by_minute: bool) -> None:
        self.per_min, self._burst_s, self._by_minute = per_min, burst_s, by_minute
        self.scale = 1.0
        self.at = 0.0
        self.level = self.capacity

    @property
    def rate(self) -> float:
        return self.per_min * self.scale / 60

    @property
    def capacity(self) -> float:
        return self.per_min * self.scale if self._by_minute else max(1.0, self.rate * self._burst_s)

    def fill(self, now: float) -> None:
        if self._by_minute:
            if now // 60 > self.at // 60:
                self.level = self.capacity
        else:
            self.level = min(self.capacity, self.level + (now - self.at) * self.rate)
        self.at = now

    def wait_s(self, amount: float, underway: float = 0.0) -> float:
        """Seconds until *amount* can be taken after what is *underway* already."""
        short = min(amount, self.capacity) + underway - self.level
        if short <= 1e-6:
            return 0.0
        return 60 - self.at % 60 if self._by_minute else short / self.rate

    def told(self, as_times: bool) -> tuple[str, str, str]:
        """Limit, remaining and reset, as rounded as a header has them: milliseconds to go, or a time of day."""
        full_s = 60 - self.at % 60 if self._by_minute else (self.capacity - self.level) / self.rate
        reset = f"at {math.ceil(self.at + full_s)}" if as_times else str(math.ceil(full_s * 1000) / 1000)
        return str(round(self.per_min * self.scale)), str(max(0, int(self.level))), reset


@dataclass
class ModelServer:
    """A provider with limits, and a chosen way of telling about them.

    Attributes:
        rpm: Requests a minute, None for no limit.
        tpm: Tokens a minute, None for no limit: input is taken at admission, output with the reply.
        burst_s: Seconds' worth that the buckets hold.
        by_minute: Whether limits are counted by the clock's minute in place of a bucket.
        tells: "full" headers; the same as "times", resets being whole seconds of the clock and waits whole seconds;
            on a 429 "retry_after" in whole seconds, or "delay" to the millisecond; "nothing".
        charge_refused: Whether a refused request drains the bucket too.
        squeeze: From when to when all limits are how many times as wide.
        slots: Calls worked on at once; further ones wait in line. None for no end of them.
        on_the_way_s: Of each request, from its departure until it is admitted or refused.
        latency_s: Of each call, once it is worked on.
        output_tokens: Of each call.
        error_500: Share of the admitted that fail.
        hang: Share of the admitted that never answer.
        noise: Share of all requests that are refused whatever the limits are, as by an upstream that others fill.
        noise_from_s: When those refusals begin.
        noise_until_s: When they end.
        noise_wait_s: The wait that is told with those, None for none.
        told_once: Requests a minute that a 429 tells in headers, to the 40th request alone, and no other answer does.
        script: What the nth request meets instead of an answer.
    """

    rpm: float | None = None
    tpm: float | None = None
    burst_s: float = 1.0
    by_minute: bool = False
    tells: str = "full"
    charge_refused: bool = False
    squeeze: tuple[float, float, float] | None = None
    slots: int | None = None
    on_the_way_s: Callable[[random.Random], float] | None = None
    latency_s: Callable[[random.Random], float] = lambda rng: 0.3
    output_tokens: Callable[[random.Random], int] = lambda rng: 10
    error_500: float = 0.0
    hang: float = 0.0
    noise: float = 0.0
    noise_from_s: float = 0.0
    noise_until_s: float = math.inf
    noise_wait_s: float | None = None
    told_once: float | None = None
    script: dict[int, Exception | RawReply] = field(default_factory=dict)
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    requests: int = 0
    refused: int = 0
    noisy: int = 0
    admitted: int = 0
    in_flight: int = 0
    peak: int = 0
    closed: bool = False
    tokens: int = 0
    seen: list[bytes] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.buckets = [
            None if per_min is None else _Bucket(per_min, self.burst_s, self.by_minute)
            for per_min in (self.rpm, self.tpm)
        ]
        self._line = asyncio.Semaphore(self.slots or 10**9)
        self._noise_rng = random.Random(self.rng.random()) if self.noise else None

    async def post(self, path: str, content: bytes) -> RawReply:
        now = asyncio.get_running_loop().time()
        nth, self.requests = self.requests, self.requests + 1
        self.seen.append(content)
        self.starts.append(now)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            if self._is_noise(now):
                self.noisy += 1
                await asyncio.sleep(REFUSAL_S)
                told = {} if self.noise_wait_s is None else {"retry-after": str(self.noise_wait_s)}
                return RawReply(429, told | self._told(), b"")
            if self.told_once is not None and nth == _ODD_ONE:
                self.noisy += 1
                await asyncio.sleep(REFUSAL_S)
                headers = {"limit-requests": str(self.told_once), "remaining-requests": "0", "reset-requests": "30"}
                return RawReply(429, headers | {"retry-after": "1"}, b"")
            if self.on_the_way_s is not None:
                await asyncio.sleep(self.on_the_way_s(self.rng))
            wait_s = self._admit(asyncio.get_running_loop().time())
            if wait_s > 0:
                self.refused += 1
                await asyncio.sleep(REFUSAL_S)
                return RawReply(429, self._wait_told(wait_s) | self._told(), b"")
            self.admitted += 1
            headers = self._told()
            output = self.output_tokens(self.rng)
            latency, fault = self.latency_s(self.rng), self.rng.random()
            if fault < self.hang:
                await asyncio.sleep(1e6)
            async with self._line:
                await asyncio.sleep(latency)
            met = self.script.get(nth)
            if isinstance(met, Exception):
                raise met
            if met is not None:
                return met
            if fault < self.hang + self.error_500:
                return RawReply(500, headers, b"")
            self.tokens += INPUT_TOKENS + output
            if (bucket := self.buckets[1]) is not None:
                bucket.level -= output
            return RawReply(200, headers | {"output": str(output)}, content)
        finally:
            self.in_flight -= 1

    async def aclose(self) -> None:
        self.closed = True

    def _is_noise(self, now: float) -> bool:
        if self._noise_rng is None or not self.noise_from_s <= now < self.noise_until_s:
            return False
        return self._noise_rng.random() < self.noise

    def fill(self, now: float) -> None:
        """Bring the limits up to date."""
        for bucket in self.buckets:
            if bucket is not None:
                bucket.fill(now)
                if self.squeeze is not None:
                    start, end, scale = self.squeeze
                    bucket.scale = scale if start <= now < end else 1.0
                    bucket.level = min(bucket.level, bucket.capacity)

    def _admit(self, now: float) -> float:
        """Charge a request, or give the seconds until it could be."""
        self.fill(now)
        wait_s = 0.0
        for bucket, amount in zip(self.buckets, (1, INPUT_TOKENS), strict=True):
            if bucket is not None:
                wait_s = max(wait_s, bucket.wait_s(amount))
        for bucket, amount in zip(self.buckets, (1, INPUT_TOKENS), strict=True):
            if bucket is not None and wait_s == 0:
                bucket.level -= amount
            elif bucket is not None and self.charge_refused:
                bucket.level = max(0.0, bucket.level - amount)
        return wait_s

    def _told(self) -> dict[str, str]:
        if self.tells not in ("full", "times"):
            return {}
        told = {}
        for name, bucket in zip(("requests", "tokens"), self.buckets, strict=True):
            if bucket is not None:
                told |= dict(zip(_names(name), bucket.told(self.tells == "times"), strict=True))
        return told

    def _wait_told(self, wait_s: float) -> dict[str, str]:
        if self.tells == "nothing":
            return {}
        exact = math.ceil(wait_s * 1000) / 1000
        return {"retry-after": str(max(1, math.ceil(wait_s)) if self.tells in ("retry_after", "times") else exact)}


def _names(of: str) -> tuple[str, str, str]:
    return f"limit-{of}", f"remaining-{of}", f"reset-{of}"


def read(raw: RawReply) -> Reply | Failure:
    """Read the modelled provider's answers."""
    if raw.status == 200:
        output = int(raw.headers.get("output", "10"))
        return Reply(raw.body.decode(), Finish.COMPLETE, Usage(INPUT_TOKENS, output), "m")
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


def limits(headers: Mapping[str, str]) -> LimitReport | None:
    """Read the modelled provider's headers."""
    numbers = [_number(headers.get(name)) for of in ("requests", "tokens") for name in _names(of)]
    return None if numbers == [None] * 6 else LimitReport(*numbers)


def _number(told: str | None) -> float | None:
    if told is None or not told.startswith("at "):
        return None if told is None else float(told)
    return max(0.0, float(told[3:]) - asyncio.get_running_loop().time())
