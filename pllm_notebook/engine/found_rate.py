"""The rate of a provider that tells nothing, found by its refusals.

A refusal shows that the provider's bucket was empty when that call arrived. Between two such moments,
close enough that the bucket cannot have filled up meanwhile, it let through exactly what flowed in: their
distance measures the rate, to one call in all that were admitted. The rate is then raised step by step,
so that a refusal now and then proves that nothing is left lying; each one measures again.
"""

from __future__ import annotations

from collections import deque

__all__ = ["FoundRate"]

# The first guess is what was admitted so far over the time that it took, but over no less than this.
_SHORTEST_START_S = 0.5
# Nor does one refusal of the first few calls make a provider slow: a guess too high is corrected by the next ones.
_SLOWEST_GUESS = 8.0
_SLOWEST = 0.2
# Over a stretch of more seconds and calls than this the bucket may have been full for a while.
_CLOSE_S = 1.0
_CLOSE_CALLS = 8
# Fewer calls or seconds than these are no measure; more than a few seconds' worth would hide a change.
_EXACT_CALLS = 8
_EXACT_S = 0.08
_SPAN_S = 4.0
# A refusal is followed by a lull, so that the next one comes after several calls: a server that charges
# for refusals takes a part of a call with each, and after few calls that part would be much of the measure.
_LULL_S = 0.1
# Steps without a refusal, each wider than the one before.
_FIRST_STEP = 0.01
_FIRST_STEP_UNMEASURED = 1.0
_FIRST_STEP_EXPECTED = 0.1  # from a rate of another hour: the limit may have been raised since
_WIDER = 1.5
_WIDEST_STEP = 1.0
_STEP_S = 0.5
_STEP_CALLS = 5
# With nothing admitted between refusals, the provider is asked by one call at a time, ever less often.
_DROUGHT = 2
_FIRST_HOLD_S = 0.04
_LONGER = 1.5
_LONGEST_HOLD_S = 2.0
# A call that is not refused within this many times the time that refusals take was admitted.
_PATIENCE = 3
# What may leave at once after a pause, in seconds of the rate.
_BURST_S = 0.1
# What a bucket that refused a call still holds, on average. Where the rate is measured and calls are far apart, the
# one refused came but a little too early: the next may follow soon, and must, where the bucket holds no more than one.
_REST = 0.5
_EARLY_S = 0.05


class FoundRate:
    """Find out how many calls a second get through. No limit until the first refusal.

    Attributes:
        rate: Calls a second, None for not limited so far.
        measured: Whether the rate is more than a guess.
    """

    def __init__(self) -> None:
        self.rate: float | None = None
        self.measured = False
        self._sent = 0
        self._began: float | None = None
        self._level = 0.0
        self._at = 0.0
        # Calls refused before anyone could have heard of it are one group. Of the last group: when the first of
        # it was heard of, the numbers of its first and last call, and the end of the group before it.
        self._heard_at: float | None = None
        self._first_nth = 0
        self._last_at, self._last_nth = 0.0, 0
        self._start_at, self._start_nth = 0.0, 0
        # Calls admitted between the last two groups; between each two of those that are compared, with the seconds.
        self._calls = 1
        self._stretches: deque[tuple[float, int]] = deque()
        self._step = _FIRST_STEP
        self._next_step = (0.0, 0)
        self._held_until = 0.0
        self._barren = 0
        self._hold_s = 0.0
        self._probing = False
        self._dry_nth = 0
        self._refusal_s = 0.0

    def expect(self, rate: float) -> None:
        """Begin at *rate*, measured by another run; without a refusal it grows as any other does."""
        self.rate, self.measured, self._step = max(_SLOWEST, rate), True, _FIRST_STEP_EXPECTED
        self._level = max(1.0, self.rate * _BURST_S)
        self._next_step = 0.0, _STEP_CALLS

    def wait_s(self, now: float) -> float:
        """Give the seconds until the next call may leave."""
        if self.rate is None:
            return 0.0
        self._advance(now)
        return max(0.0, (1.0 - self._level) / self.rate, self._held_until - now)

    def charge(self, now: float) -> int:
        """Count a call that leaves now, and give its number, which `refuse` wants to know."""
        if self._began is None:
            self._began = now
        self._sent += 1
        if self.rate is not None:
            self._advance(now)
            if self._level < 2.0:  # it is the rate that holds calls back, and not the window or the run
                self._grow(now)
            self._level -= 1.0
            if self._hold_s:
                self._probe(now)
        return self._sent

    def refuse(self, now: float, sent_at: float, nth: int) -> None:
        """Learn from the refusal of the *nth* call, which left at *sent_at*."""
        self._refusal_s += (now - sent_at - self._refusal_s) * (0.2 if self._refusal_s else 1.0)
        if self.rate is None:
            took = max(_SHORTEST_START_S, sent_at - (self._began or 0.0))
            self.rate = max(_SLOWEST_GUESS, (nth - 1) / took)
        if self._heard_at is None or sent_at >= self._heard_at:
            self._begin_group(now, sent_at, nth)
        elif nth < self._first_nth:  # it left before those of its group that were heard of first
            self._first_nth, self._calls = nth, nth - self._start_nth - 1
            if self._stretches:
                self._stretches[-1] = (sent_at - self._start_at, self._calls)
                self._measure()
        if nth > self._last_nth:
            self._last_at, self._last_nth = sent_at, nth
        # The bucket was empty when the last of them arrived: since then as much has flowed in, and so many left.
        rest = max(_REST, 1.0 - self.rate * _EARLY_S) if self.measured else _REST
        level = rest + self.rate * (now - self._last_at) - (self._sent - self._last_nth)
        self._level, self._at = min(level, max(1.0, self.rate * _BURST_S)), now
        self._step = _FIRST_STEP if self.measured else _FIRST_STEP_UNMEASURED
        self._plan_step(now)

    def _begin_group(self, now: float, at: float, nth: int) -> None:
        assert self.rate is not None
        first, self._heard_at = self._heard_at is None, now
        self._start_at, self._start_nth, self._first_nth = self._last_at, self._last_nth, nth
        seconds, calls = at - self._last_at, nth - self._last_nth - 1
        if first or (seconds > _CLOSE_S and calls > _CLOSE_CALLS):
            self._stretches.clear()
        else:
            self._stretches.append((seconds, calls))
        # Whether anything was admitted before the last group is certain only now, that all of it has been heard.
        self._barren = 0 if self._calls else self._barren + 1
        self._calls = calls
        if self._hold_s:
            self._hold_s = min(_LONGEST_HOLD_S, self._hold_s * _LONGER)
        elif self._barren + (not calls) >= _DROUGHT:
            if self._sent - self._dry_nth < 2 * _EXACT_CALLS:  # not long after the last drought: it is the rate itself
                self.rate, self.measured = max(_SLOWEST, self.rate / 2), False
            self._dry_nth, self._hold_s = self._sent, _FIRST_HOLD_S
        if self._hold_s:
            self._held_until, self._probing = now + self._hold_s, False
            self._stretches.clear()
        else:
            self._measure()
            self._held_until = now + min(_LULL_S, _EXACT_CALLS / self.rate)

    def _measure(self) -> None:
        stretches = self._stretches
        span_s = sum(seconds for seconds, _ in stretches)
        admitted = sum(calls for _, calls in stretches)
        while stretches and span_s - stretches[0][0] > _SPAN_S and admitted - stretches[0][1] >= _EXACT_CALLS:
            seconds, calls = stretches.popleft()
            span_s, admitted = span_s - seconds, admitted - calls
        if span_s >= _EXACT_S and admitted >= _EXACT_CALLS:
            self.rate, self.measured = max(_SLOWEST, admitted / span_s), True

    def _probe(self, now: float) -> None:
        """A call leaves during a drought: either it is the one that asks, or the one that asked was admitted."""
        if self._probing:
            self._hold_s, self._barren, self._calls = 0.0, 0, 1
        else:
            self._probing = True
            self._held_until = now + _PATIENCE * self._refusal_s

    def _advance(self, now: float) -> None:
        assert self.rate is not None
        if now > self._at:
            self._level = min(max(1.0, self.rate * _BURST_S), self._level + (now - self._at) * self.rate)
            self._at = now

    def _plan_step(self, now: float) -> None:
        self._next_step = now + _STEP_S, self._sent + _STEP_CALLS

    def _grow(self, now: float) -> None:
        due, nth = self._next_step
        if now >= due and self._sent >= nth and self.rate is not None:
            self.rate *= 1 + self._step
            self._step = min(_WIDEST_STEP, self._step * _WIDER)
            self._plan_step(now)
