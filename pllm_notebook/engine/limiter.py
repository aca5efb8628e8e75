"""A limiter that mirrors the provider's own buckets, learned from what it says and refuses.

Nothing here sleeps or reads a clock: time is an argument. A caller asks how long to wait,
then charges and sends in the same breath; booking after a sleep would let every waiter see
the same free slot.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from pllm_notebook.records import LimitReport

__all__ = ["Bucket", "Limiter", "Stamp"]

# How far our level moves towards what a reply reveals: replies are old by a round trip and noisy.
_TRUST = 0.25
# Where nothing is told: the span over which "what got through" is counted, and how probing goes on.
_SPAN_S = 3.0
_BURST_S = 0.25
_FIRST_PROBE_S = 2.0
_PROBE_EVERY_S = 1.0
_ENOUGH = 10
_ONE_OVERLOAD_S = 1.0

FIRST_WINDOW = 32
FIRST_WINDOW_UNKNOWN_SERVER = 8
WIDEST_WINDOW = 1000  # the SDKs' connection pools


@dataclass(slots=True)
class Bucket:
    """One bucket as the server keeps it: it holds *capacity*, refills at *rate* a second.

    Attributes:
        rate: None until anything is known; an unknown bucket never makes anyone wait.
        level: What was in it at the moment *at*.
        charged: All that was ever taken, so that a reply can tell what left after it was sent.
    """

    rate: float | None = None
    capacity: float = 0.0
    level: float = 0.0
    at: float = 0.0
    charged: float = 0.0

    def _advance(self, now: float) -> None:
        if self.rate is not None and now > self.at:
            self.level = min(self.capacity, self.level + (now - self.at) * self.rate)
        self.at = max(self.at, now)

    def wait_s(self, now: float, need: float) -> float:
        """Give the seconds until *need* can be taken; a need beyond the capacity waits for a full bucket."""
        if self.rate is None:
            return 0.0
        self._advance(now)
        short = min(need, self.capacity) - self.level
        return max(0.0, short / self.rate) if self.rate > 0 else (0.0 if short <= 0 else 60.0)

    def charge(self, now: float, need: float) -> float:
        """Take *need*, below zero if it must be, and return all that was ever taken."""
        self._advance(now)
        if self.rate is not None:
            self.level -= need
        self.charged += need
        return self.charged

    def settle(self, excess: float) -> None:
        """Correct an earlier charge: a positive *excess* was too much."""
        if self.rate is not None:
            self.level = min(self.capacity, self.level + excess)
        self.charged -= excess

    def hear(
        self, now: float, sent_at: float, charged_then: float, limit: float, remaining: float, reset_s: float | None
    ) -> None:
        """Learn from what a reply says of this bucket.

        Args:
            now: When the reply came.
            sent_at: When its request left.
            charged_then: `charged` just after that request was charged.
            limit: A minute's worth.
            remaining: What was left when the server admitted the request.
            reset_s: Seconds until it is full again, None for not said.
        """
        rate = limit / 60
        full = limit if reset_s is None else min(limit, remaining + reset_s * rate)
        full = max(full, 1.0)
        if self.rate is None:
            self.capacity, self.level, self.at = full, remaining, sent_at
        self.rate = rate
        # The stated reset is rounded; follow it slowly.
        self.capacity += _TRUST * (full - self.capacity)
        self._advance(now)
        # Subtract what left since before clamping: with a capacity smaller than a round trip's worth,
        # clamping first would show an empty bucket for ever.
        level = remaining + rate * (now - sent_at) - (self.charged - charged_then)
        self.level += _TRUST * (min(self.capacity, level) - self.level)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a request carried away with it, to be given back with its reply."""

    sent_at: float
    tokens: float
    requests_charged: float
    tokens_charged: float


class Limiter:
    """One account's limits for one model, shared by all runs.

    Attributes:
        window: Calls that may be in flight.
        paused_until: A moment before which nothing is sent.
    """

    def __init__(self, *, window: int = FIRST_WINDOW, widest: int = WIDEST_WINDOW) -> None:
        self.requests = Bucket()
        self.tokens = Bucket()
        self.window = float(window)
        self.paused_until = 0.0
        self.refused = 0
        self._widest = widest
        self._token_ratio = 1.0
        self._told = False
        self._passed: deque[float] = deque()
        self._first_refusal: float | None = None
        self._next_probe = 0.0
        self._probe_width = 0.01
        self._overloaded = False
        self._halved_until = 0.0

    def __repr__(self) -> str:
        rpm = "?" if self.requests.rate is None else f"{self.requests.rate * 60:,.0f}"
        tpm = "?" if self.tokens.rate is None else f"{self.tokens.rate * 60:,.0f}"
        return f"Limiter({rpm} requests/min, {tpm} tokens/min, window={self.window:.0f}, refused={self.refused})"

    def wait_s(self, now: float, tokens: float) -> float:
        """Give the seconds until a call of *tokens* (as estimated) may leave; 0 for now."""
        need = tokens * self._token_ratio
        return max(self.paused_until - now, self.requests.wait_s(now, 1.0), self.tokens.wait_s(now, need), 0.0)

    def charge(self, now: float, tokens: float) -> Stamp:
        """Take what a call needs, at the moment it leaves."""
        need = tokens * self._token_ratio
        if self._first_refusal is not None and not self._told:
            self._probe(now)
        return Stamp(now, tokens, self.requests.charge(now, 1.0), self.tokens.charge(now, need))

    def replied(self, now: float, stamp: Stamp, report: LimitReport | None, tokens: float | None) -> None:
        """Learn from a success.

        Args:
            now: When it came.
            stamp: What `charge` gave.
            report: The headers' word on limits, None for none.
            tokens: Input and output tokens it took, None for unknown.
        """
        self._pass(now)
        # Doubles each round trip, until an overload shows that calls at once, and not calls a minute,
        # are what is scarce; from then on it grows by one each round trip.
        self.window = min(self._widest, self.window + (1 / self.window if self._overloaded else 1))
        if tokens is not None and stamp.tokens > 0:
            self.tokens.settle(stamp.tokens * self._token_ratio - tokens)
            self._token_ratio += 0.05 * (tokens / stamp.tokens - self._token_ratio)
        if report is not None:
            self._hear(now, stamp, report)

    def refused_at(self, now: float, stamp: Stamp, report: LimitReport | None, retry_after_s: float | None) -> None:
        """Learn from a 429: it was turned away, so nothing was taken, and the server's bucket is empty."""
        self.refused += 1
        if report is not None:
            self._hear(now, stamp, report)
        if self._told and retry_after_s is not None:
            for bucket, cost in ((self.requests, 1.0), (self.tokens, stamp.tokens * self._token_ratio)):
                empty = report is None or bucket.rate is None
                if not empty and bucket.rate is not None and _short(report, bucket is self.requests, cost):
                    bucket.level = min(bucket.level, cost - retry_after_s * bucket.rate)
            return
        if retry_after_s is not None and self.requests.rate is None:
            self.paused_until = max(self.paused_until, now + min(retry_after_s, 60.0))
        self._guess(now)

    def overloaded(self, now: float, retry_after_s: float | None) -> None:
        """Learn from a 503 or 529: fewer at once, and a pause where one was asked for."""
        if now >= self._halved_until:  # the calls of one overload all report it; it is one event
            self.window = max(1.0, self.window / 2)
            self._halved_until = now + _ONE_OVERLOAD_S
        self._overloaded = True
        if retry_after_s is not None:
            self.paused_until = max(self.paused_until, now + min(retry_after_s, 60.0))

    def _hear(self, now: float, stamp: Stamp, report: LimitReport) -> None:
        self._told = True
        if report.limit_requests and report.remaining_requests is not None:
            self.requests.hear(
                now, stamp.sent_at, stamp.requests_charged,
                report.limit_requests, report.remaining_requests, report.reset_requests_s,
            )  # fmt: skip
        if report.limit_tokens and report.remaining_tokens is not None:
            self.tokens.hear(
                now, stamp.sent_at, stamp.tokens_charged,
                report.limit_tokens, report.remaining_tokens, report.reset_tokens_s,
            )  # fmt: skip

    def _pass(self, now: float) -> None:
        self._passed.append(now)
        while self._passed and self._passed[0] < now - _SPAN_S:
            self._passed.popleft()

    def _guess(self, now: float) -> None:
        """Nothing is told: the rate is what got through since refusals began."""
        while self._passed and self._passed[0] < now - _SPAN_S:
            self._passed.popleft()
        if self._first_refusal is None:
            self._first_refusal = now
        if len(self._passed) < _ENOUGH and self.requests.rate is None:
            # The first calls are still on their way back: too early to know a rate, but not to ease off.
            self.paused_until = max(self.paused_until, now + _BURST_S)
            return
        span = max(0.5, min(_SPAN_S, now - self._passed[0])) if self._passed else _SPAN_S
        rate = max(0.2, len(self._passed) / span)
        if self.requests.rate is not None:
            rate = min(rate, self.requests.rate)  # a refusal never speaks for a higher one
        bucket = self.requests
        bucket.rate, bucket.capacity, bucket.level, bucket.at = rate, max(1.0, rate * _BURST_S), 0.0, now
        self._next_probe = now + _FIRST_PROBE_S
        self._probe_width = 0.01

    def _probe(self, now: float) -> None:
        if now >= self._next_probe and self.requests.rate is not None:
            self.requests.rate *= 1 + self._probe_width
            self.requests.capacity = max(1.0, self.requests.rate * _BURST_S)
            self._probe_width = min(1.0, self._probe_width * 1.5)
            self._next_probe = now + _PROBE_EVERY_S


def _short(report: LimitReport | None, requests: bool, cost: float) -> bool:
    """Tell whether *report* shows this bucket to be the one that was short."""
    if report is None:
        return False
    remaining = report.remaining_requests if requests else report.remaining_tokens
    return remaining is not None and remaining < cost
