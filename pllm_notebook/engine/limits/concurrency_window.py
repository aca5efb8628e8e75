"""How many calls may be in flight: more while it buys throughput, fewer when only latency grows.

Calls are watched in groups that left one after another. The median latency of a group is known when
half of it is back, and unlike the mean of what has come back so far it is not made of the quick ones.
Where calls take twice as long as when the server had room, it works on half of what is in flight (Little's
law), and the other half stands in line.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ConcurrencyWindow", "SendGroup"]

_SMALLEST_COHORT = 8
# What may be in flight over what the server works on: enough that no slot of it ever waits for us, and
# room to find out that it works on more. A small window grows faster: there is little to lose.
_FILL = 1.7
_FILL_SMALL = 3.0
_SMALL = 40
_FEWEST = 2.0
# How fast what is known follows what is seen.
_FOLLOW = 0.5
_QUICKER = 0.2
_SLOWER = 0.02
# Latency beyond this multiple of that with room shows a line in front of the server, and says nothing of the room.
_LINE = 1.5
# A window this many times too wide is narrowed; so many groups then show whether it was.
_FAR = 1.5
_TEST_COHORTS = 3
# So many requests in a row that were not answered in time are a line as well.
_LATE = 3
_ONE_OVERLOAD_S = 1.0


@dataclass(eq=False, slots=True)
class SendGroup:
    """Calls that left one after another.

    Attributes:
        in_flight: On the wire when the first of them left.
        size: How many make it whole.
        sent: How many have been sent.
        lost: How many ended without an answer.
        judged: Whether half of it has been back.
        back: Latencies of the answered, in order of their coming, in seconds.
    """

    in_flight: int
    size: int
    sent: int = 0
    lost: int = 0
    judged: bool = False
    back: list[float] = field(default_factory=list)


@dataclass(slots=True)
class _Test:
    """A window that was narrowed: what it was, how long calls took then, and what they take now."""

    size: float
    latency_s: float
    medians: list[float] = field(default_factory=list)


class ConcurrencyWindow:
    """A window over the calls in flight.

    Attributes:
        size: Calls that may be in flight; a fraction counts towards the next.
        widest: What it never passes.
        latency_s: Median of the last group, None before there is one.
    """

    def __init__(self, size: float, widest: int) -> None:
        self.size = float(size)
        self.widest = widest
        self.latency_s: float | None = None
        self._with_room_s: float | None = None
        self._group: SendGroup | None = None
        self._works_on = float(size)
        self._test: _Test | None = None
        self._late = 0
        self._halved_until = 0.0
        self._overloaded = False

    def sent(self, in_flight: int) -> SendGroup:
        """Count a call that leaves, *in_flight* on the wire with it; give what `replied` wants back."""
        group = self._group
        if group is None or group.sent >= group.size:
            group = self._group = SendGroup(in_flight, max(_SMALLEST_COHORT, in_flight // 2))
        group.sent += 1
        return group

    def replied(self, group: SendGroup, latency_s: float) -> None:
        """Learn from a reply."""
        self._late = 0
        if not group.judged:
            group.back.append(latency_s)
            if group.sent == group.size and 2 * len(group.back) > group.size - group.lost:
                group.judged = True
                self._judge(group.in_flight, max(group.back))
        if group.in_flight >= 0.5 * self.size:  # it is the window that holds calls back, and not a limit
            ceiling = min(self.widest, self._ceiling())
            if self.size < ceiling:
                # It doubles each round trip, until an overload shows that calls at once are what is scarce.
                self.size = min(ceiling, self.size + (1 / self.size if self._overloaded else 1))

    def lost(self, group: SendGroup) -> None:
        """Count a call that ended without an answer."""
        group.lost += 1

    def timed_out(self, now: float, group: SendGroup) -> None:
        """Count a call that was not answered in time; many in a row stood in a line."""
        group.lost += 1
        self._late += 1
        if self._late >= max(_LATE, self.size / 4):
            self._halve(now)

    def allow(self, size: float) -> None:
        """Open it to at least *size*: the provider's own word allows that much."""
        self.size = max(self.size, min(self.widest, size))

    def overloaded(self, now: float) -> None:
        """Halve it, and widen it by one each round trip from now on."""
        self._overloaded = True
        self._halve(now)

    def _halve(self, now: float) -> None:
        if now >= self._halved_until:  # the calls of one overload all report it; it is one event
            self.size = max(1.0, self.size / 2)
            self._works_on = min(self._works_on, self.size)
            self._halved_until = now + _ONE_OVERLOAD_S

    def _ceiling(self) -> float:
        return max(_FEWEST, (_FILL_SMALL if self._works_on < _SMALL else _FILL) * self._works_on)

    def _judge(self, in_flight: int, median_s: float) -> None:
        self.latency_s = median_s
        if self._with_room_s is None:
            self._with_room_s = median_s
        stretch = median_s / self._with_room_s
        if stretch < _LINE:
            self._with_room_s += (_QUICKER if stretch < 1 else _SLOWER) * (median_s - self._with_room_s)
        if in_flight < 0.5 * self.size:
            return
        self._works_on += _FOLLOW * (in_flight / max(1.0, stretch) - self._works_on)
        if self._test is not None:
            self._go_on(self._test, median_s)
        elif self.size > _FAR * self._ceiling() and in_flight >= 0.9 * self.size:
            self._test = _Test(self.size, median_s)
            self.size = self._ceiling()

    def _go_on(self, test: _Test, median_s: float) -> None:
        """See whether fewer in flight were quicker, as they are where there was a line."""
        test.medians.append(median_s)
        if len(test.medians) < _TEST_COHORTS:
            return
        self._test = None
        mean_s = sum(test.medians) / len(test.medians)
        if mean_s > test.latency_s * (1 + self.size / test.size) / 2:
            # Not so: the answers themselves take longer now.
            self.size = self._works_on = test.size
            self._with_room_s = mean_s
