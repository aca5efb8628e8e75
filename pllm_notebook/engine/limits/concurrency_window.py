"""How many calls may be in flight: more while it buys throughput, fewer when only latency grows.

Calls are observed in groups that were sent one after another. The median latency of a group is known when half of it
has been answered; the mean of the answers so far would be biased towards the quick ones. If calls take twice as long
as when the server had room, the server works on half of the calls in flight (Little's law), and the other half is
queued.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ConcurrencyWindow", "SendGroup"]

_MIN_GROUP_SIZE = 8
# Calls in flight for each call that the server works on: enough that none of its slots is ever idle, with room to
# discover that it has more slots. A small window grows faster, because there is little to lose.
_FILL = 1.7
_FILL_IF_SMALL = 3.0
_SMALL = 40
_MIN_SIZE = 2.0
# How fast the estimates follow the observations.
_FOLLOW = 0.5
_QUICKER = 0.2
_SLOWER = 0.02
# Latency beyond this multiple of the latency with room indicates a queue at the server, and does not update the latency
# with room.
_QUEUED = 1.5
# A window that seems this many times too wide is narrowed. The next _TEST_GROUPS groups show whether it was.
_TOO_WIDE = 1.5
_TEST_GROUPS = 3
# This many timeouts in a row also indicate a queue.
_MAX_TIMEOUTS = 3
_ONE_OVERLOAD_S = 1.0


@dataclass(eq=False, slots=True)
class SendGroup:
    """Calls that were sent one after another.

    Attributes:
        in_flight: Calls on the wire when the first of them was sent.
        size: Number of calls of a full group.
        sent: Calls sent so far.
        lost: Calls that ended without an answer.
        judged: Whether half of it has been answered and has updated the estimates.
        latencies: Latencies of the answered calls in seconds, in order of arrival.
    """

    in_flight: int
    size: int
    sent: int = 0
    lost: int = 0
    judged: bool = False
    latencies: list[float] = field(default_factory=list)


@dataclass(slots=True)
class _Test:
    """A trial of a narrower window: the size and latency before it, and the group medians since."""

    size: float
    latency_s: float
    medians: list[float] = field(default_factory=list)


class ConcurrencyWindow:
    """The number of calls that may be in flight.

    Attributes:
        size: Calls that may be in flight; a fraction counts towards the next.
        max_size: Upper bound of the size.
        latency_s: Median of the last group, None before there is one.
    """

    def __init__(self, size: float, max_size: int) -> None:
        self.size = float(size)
        self.max_size = max_size
        self.latency_s: float | None = None
        self._latency_with_room_s: float | None = None
        self._group: SendGroup | None = None
        self._server_slots = float(size)
        self._test: _Test | None = None
        self._timeouts = 0
        self._halved_until = 0.0
        self._overloaded = False

    def sent(self, in_flight: int) -> SendGroup:
        """Count a call that is sent; return its group, which the caller passes back when the call ends."""
        group = self._group
        if group is None or group.sent >= group.size:
            group = self._group = SendGroup(in_flight, max(_MIN_GROUP_SIZE, in_flight // 2))
        group.sent += 1
        return group

    def replied(self, group: SendGroup, latency_s: float) -> None:
        """Learn from a reply and its latency."""
        self._timeouts = 0
        if not group.judged:
            group.latencies.append(latency_s)
            if group.sent == group.size and 2 * len(group.latencies) > group.size - group.lost:
                group.judged = True
                self._judge(group.in_flight, max(group.latencies))
        if group.in_flight >= 0.5 * self.size:  # the window holds calls back, not a rate limit
            ceiling = min(self.max_size, self._ceiling())
            if self.size < ceiling:
                # The size doubles each round trip, until an overload shows that concurrency is scarce.
                self.size = min(ceiling, self.size + (1 / self.size if self._overloaded else 1))

    def lost(self, group: SendGroup) -> None:
        """Count a call that ended without an answer."""
        group.lost += 1

    def timed_out(self, now: float, group: SendGroup) -> None:
        """Count a call that timed out. Many timeouts in a row indicate a queue and halve the window."""
        group.lost += 1
        self._timeouts += 1
        if self._timeouts >= max(_MAX_TIMEOUTS, self.size / 4):
            self._halve(now)

    def allow(self, size: float) -> None:
        """Widen the window to at least *size*, which the provider's reported limits allow."""
        self.size = max(self.size, min(self.max_size, size))

    def overloaded(self, now: float) -> None:
        """Halve the window after an overload. From now on, widen it by only one call each round trip."""
        self._overloaded = True
        self._halve(now)

    def _halve(self, now: float) -> None:
        if now >= self._halved_until:  # one overload is reported by many calls, but counts once
            self.size = max(1.0, self.size / 2)
            self._server_slots = min(self._server_slots, self.size)
            self._halved_until = now + _ONE_OVERLOAD_S

    def _ceiling(self) -> float:
        return max(_MIN_SIZE, (_FILL_IF_SMALL if self._server_slots < _SMALL else _FILL) * self._server_slots)

    def _judge(self, in_flight: int, median_s: float) -> None:
        self.latency_s = median_s
        if self._latency_with_room_s is None:
            self._latency_with_room_s = median_s
        # A coarse clock may measure a quick reply as 0 s.
        stretch = median_s / self._latency_with_room_s if self._latency_with_room_s else 1.0
        if stretch < _QUEUED:
            self._latency_with_room_s += (_QUICKER if stretch < 1 else _SLOWER) * (median_s - self._latency_with_room_s)
        if in_flight < 0.5 * self.size:
            return
        self._server_slots += _FOLLOW * (in_flight / max(1.0, stretch) - self._server_slots)
        if self._test is not None:
            self._evaluate_test(self._test, median_s)
        elif self.size > _TOO_WIDE * self._ceiling() and in_flight >= 0.9 * self.size:
            self._test = _Test(self.size, median_s)
            self.size = self._ceiling()

    def _evaluate_test(self, test: _Test, median_s: float) -> None:
        """Check whether calls were quicker with fewer in flight, as they are if there was a queue."""
        test.medians.append(median_s)
        if len(test.medians) < _TEST_GROUPS:
            return
        self._test = None
        mean_s = sum(test.medians) / len(test.medians)
        if mean_s > test.latency_s * (1 + self.size / test.size) / 2:
            # They were not: the server itself takes longer now.
            self.size = self._server_slots = test.size
            self._latency_with_room_s = mean_s
