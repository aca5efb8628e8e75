"""The rate of a provider that tells nothing, found by its refusals.

A refusal shows that the provider's bucket was empty when that call arrived. Between two such moments,
close enough that the bucket cannot have filled up meanwhile, it let through exactly what flowed in: their
distance measures the rate, to one call in all that were admitted. The rate is then raised step by step,
so that a refusal now and then proves that nothing is left lying; each one measures again.
"""

from __future__ import annotations

from collections import deque

__all__ = ["InferredRate"]

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
_MANY_CALLS = 32
_EXACT_S = 0.08
_SPAN_S = 4.0
# A refusal is followed by a lull, so that the next one comes after several calls: a server that charges
# for refusals takes a part of a call with each, and after few calls that part would be much of the measure.
_LULL_S = 0.1
# Steps without a refusal, each wider than the one before.
_FIRST_STEP = 0.01
_FIRST_STEP_IN_NOISE = 0.03
_FIRST_STEP_UNMEASURED = 1.0
_FIRST_STEP_EXPECTED = 0.1  # from a rate of another hour: the limit may have been raised since
_WIDER = 1.5
_WIDEST_STEP = 1.0
_STEP_S = 0.5
_STEP_CALLS = 5
_SAME = 0.05
_CALMEST = 4
# With nothing admitted between refusals, the provider is asked by one call at a time, ever less often.
_DROUGHT = 2
_FIRST_HOLD_S = 0.04
_LONGER = 1.5
# What a search waits too long flows into a bucket that has room for it: fewer questions are worth more then.
_LONGER_AT_FIRST, _LONG_HOLD_S = 3.0, 0.3
_LONGER_IN_SEARCH = 1.5
_LONGEST_HOLD_S = 1.5
# A drought longer than this is not the wait for one call, whatever the rate: the limit is of another kind.
_LONGEST_DROUGHT_S = 1 / _SLOWEST
# A call that is not refused within this many times the time that refusals take was admitted.
_PATIENCE = 3
# What may leave at once after a pause, in seconds of the rate.
_BURST_S = 0.1
# What a bucket that refused a call still holds, on average. Where the rate is measured and calls are far apart, the
# one refused came but a little too early: the next may follow soon, and must, where the bucket holds no more than one.
_REST = 0.5
_EARLY_S = 0.05


class InferredRate:
    """Find out how many calls a second get through. No limit until the first refusal.

    Attributes:
        rate: Calls a second, None for not limited so far.
        measured: Whether the rate is more than a guess.
        noisy: Whether calls are refused that no limit refuses, so that it takes several refusals to show one.
    """

    def __init__(self) -> None:
        self.rate: float | None = None
        self.measured = False
        self.noisy = False
        self._sent = 0
        # Two moments, with the calls until then, at least half a second ago and one.
        self._earlier, self._marked = (0.0, 0), (-1e9, 0)
        self._started = 0.0
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
        self._ignored = 0
        self._stretches: deque[tuple[float, int]] = deque()
        self._step = _FIRST_STEP
        # Where measures agree, the next step is the later.
        self._calm, self._last_rate = 1, 0.0
        self._next_step = (0.0, 0)
        self._held_until = 0.0
        self._barren = 0
        self._hold_s = 0.0
        self._probing = False
        self._dry_nth = 0
        # After a drought: how many calls may leave at once now, and how many of them have not yet.
        self._batch = self._left = 0
        self._rate_before = 0.0
        self._dry_since = 0.0
        # Whether nothing has been heard since the first refusals.
        self._opening = False
        # When the bucket was first seen empty, the number of the call that showed it, and how many were refused since.
        self._empty = 0.0, 0, 0
        # What the bucket held when nothing was known, at the least, less what flowed in since the first call.
        self._at_first: tuple[int, float] | None = None
        self._refusal_s = 0.0

    @property
    def dry(self) -> bool:
        """Whether none of the last calls was let in, so that one at a time asks."""
        return self._hold_s > 0

    def doubt(self) -> None:
        """Search again, upward: refusals that it was found by were no limit's."""
        self.measured, self._step, self._hold_s = False, _FIRST_STEP_UNMEASURED, 0.0
        self._held_until = 0.0
        self._stretches.clear()
        self._next_step = 0.0, self._sent + _STEP_CALLS

    def restore(self, rate: float) -> None:
        """Begin at *rate*, measured by another run; without a refusal it grows as any other does."""
        self.rate, self.measured, self._step = max(_SLOWEST, rate), True, _FIRST_STEP_EXPECTED
        self._level = max(1.0, self.rate * _BURST_S)
        self._next_step = 0.0, _STEP_CALLS

    def wait_s(self, now: float) -> float:
        """Return the seconds until the next call may leave."""
        if self.rate is None:
            return 0.0
        if self._batch or (self._hold_s and self._searches):
            return max(0.0, self._held_until - now)
        self._advance(now)
        return max(0.0, (1.0 - self._level) / self.rate, self._held_until - now)

    def charge(self, now: float) -> int:
        """Count a call that leaves now, and give its number, which `refuse` wants to know."""
        if not self._sent:
            self._started = now
        if now > self._marked[0] + _SHORTEST_START_S:
            self._earlier = (now, self._sent) if self._marked[0] < 0 else self._marked
            self._marked = now, self._sent
        self._sent += 1
        if self.rate is not None:
            self._advance(now)
            if self._level < 2.0:  # it is the rate that holds calls back, and not the window or the run
                self._grow(now)
            self._level -= 1.0
            if self._hold_s:
                self._probe(now)
            if self._batch:
                self._ramp(now)
        return self._sent

    def refuse(
        self, now: float, sent_at: float, nth: int, first: int = 0, *, dry: bool = False, wait_s: float | None = None
    ) -> None:
        """Learn from the refusal of the *nth* call, which left at *sent_at*.

        Args:
            now: When it came.
            sent_at: When the call left.
            nth: Its number.
            first: The number of the first call that the limit refused, where it is the first refusal told of; 0 for
                this one.
            dry: Whether the calls before it were refused too.
            wait_s: Exact seconds from its refusal until a call can be let in, None for unknown.
        """
        self._refusal_s += (now - sent_at - self._refusal_s) * (0.2 if self._refusal_s else 1.0)
        if self.rate is None:
            self._at_first = (first or nth) - 1, sent_at - self._started
            took = max(_SHORTEST_START_S, sent_at - self._earlier[0])
            self.rate = max(_SLOWEST_GUESS, (nth - 1 - self._earlier[1]) / took)
        elif self._at_first is not None and 0 < first <= self._at_first[0]:
            self._at_first = first - 1, self._at_first[1]  # earlier ones are heard of later
        if dry and self._opening and self._heard_at is not None and sent_at < self._heard_at and not self._hold_s:
            self._hold_s, self._held_until = _FIRST_HOLD_S, now + _FIRST_HOLD_S
        begins = self._heard_at is None or sent_at >= self._heard_at
        if begins:
            self._begin_group(now, sent_at, nth, dry)
        elif nth < self._first_nth:  # it left before those of its group that were heard of first
            self._first_nth, self._calls = nth, nth - self._start_nth - 1
            if self._stretches:
                self._stretches[-1] = (sent_at - self._start_at, self._calls)
                self._measure()
        if nth > self._last_nth:
            self._last_at, self._last_nth = sent_at, nth
        # The bucket was empty when the last of them arrived: since then as much has flowed in, and so many left.
        rest = 0.0 if self._searches else max(_REST, 1.0 - self.rate * _EARLY_S) if self.measured else _REST
        if wait_s is not None and self.measured:
            rest = 1.0 - min(wait_s * self.rate, 2.0)
        level = rest + self.rate * (now - self._last_at) - (self._sent - self._last_nth)
        self._level, self._at = min(level, self._most()), now
        if self._searches:
            self._bound(sent_at, nth, begins)
        first_step = _FIRST_STEP_IN_NOISE if self.noisy else _FIRST_STEP
        self._step = first_step if self.measured else _FIRST_STEP_UNMEASURED
        self._plan_step(now, self._calm)

    def _bound(self, sent_at: float, nth: int, begins: bool) -> None:
        """Bound a rate that is not measured yet: since the bucket was first empty, so many calls were let in."""
        assert self.rate is not None
        at, since, refused = self._empty
        if not since or sent_at - self._dry_since > _LONGEST_DROUGHT_S:
            self._empty = sent_at, nth, 0
        elif nth > since:
            let, span_s = nth - since - 1 - refused, sent_at - at
            self._empty = at, since, refused + 1
            if not begins:
                return
            if let >= _EXACT_CALLS and span_s >= _EXACT_S:
                self.rate, self.measured = max(_SLOWEST, let / span_s), True
            elif span_s > 0 and let >= 0:
                self.rate = max(_SLOWEST, min(self.rate, (let + _REST) / span_s))

    def ignore(self, nth: int) -> None:
        """Leave the refusal of the *nth* call out of account, but for its not having been admitted."""
        if self.rate is not None:
            self._ignored += nth > self._last_nth
            self._level += 1.0

    def _begin_group(self, now: float, at: float, nth: int, dry: bool) -> None:
        assert self.rate is not None
        first, self._heard_at = self._heard_at is None, now
        self._batch = 0
        self._opening = first
        self._start_at, self._start_nth, self._first_nth = self._last_at, self._last_nth, nth
        seconds, calls = at - self._last_at, max(0, nth - self._last_nth - 1 - self._ignored)
        self._ignored = 0
        if first or (seconds > _CLOSE_S and calls > self._close_calls()):
            self._stretches.clear()
        else:
            self._stretches.append((seconds, calls))
        # Whether anything was admitted before the last group is certain only now, that all of it has been heard.
        self._barren = 0 if self._calls else self._barren + 1
        self._calls = calls
        if calls:
            self._dry_since, self._rate_before = at, self.rate
        if self._hold_s:
            longer = _LONGER
            if self._searches:
                longer = _LONGER_AT_FIRST if self._hold_s < _LONG_HOLD_S else _LONGER_IN_SEARCH
            self._hold_s = min(_LONGEST_HOLD_S, self._hold_s * longer)
        elif (first and dry) or self._barren + (not calls) >= _DROUGHT:
            if self._sent - self._dry_nth < 2 * _EXACT_CALLS:  # not long after the last drought: it is the rate itself
                self.rate, self.measured = max(_SLOWEST, self.rate / 2), False
            self._dry_nth, self._hold_s = self._sent, _FIRST_HOLD_S
        if self._hold_s:
            self._held_until, self._probing = now + self._hold_s, False
            self._stretches.clear()
        else:
            self._measure()
            self._held_until = now + min(_LULL_S, _EXACT_CALLS / self.rate)

    def _close_calls(self) -> float:
        """Return how many calls may be let in between two refusals while the bucket cannot have filled up."""
        assert self.rate is not None
        if not self.measured or self._at_first is None:
            return _CLOSE_CALLS
        calls, seconds = self._at_first
        return max(_CLOSE_CALLS, 0.75 * (calls - self.rate * seconds))

    def _measure(self) -> None:
        assert self.rate is not None
        stretches = self._stretches
        span_s = sum(seconds for seconds, _ in stretches)
        admitted = sum(calls for _, calls in stretches)
        while stretches and span_s - stretches[0][0] > _SPAN_S and admitted - stretches[0][1] >= _MANY_CALLS:
            seconds, calls = stretches.popleft()
            span_s, admitted = span_s - seconds, admitted - calls
        if span_s >= _EXACT_S and admitted >= _EXACT_CALLS:
            least = self.rate / 2 if self.noisy and self.measured else _SLOWEST
            self.rate, self.measured = max(_SLOWEST, least, admitted / span_s), True
            same = abs(self.rate - self._last_rate) <= (3 * _SAME if self.noisy else _SAME) * self._last_rate
            self._calm, self._last_rate = min(_CALMEST, 2 * self._calm) if same else 1, self.rate

    def _probe(self, now: float) -> None:
        """A call leaves during a drought: either it is the one that asks, or the one that asked was admitted."""
        if self._probing:
            self._hold_s, self._barren, self._calls = 0.0, 0, 1
            if self._searches:
                self._batch = self._left = 1
        else:
            self._probing = True
            self._held_until = now + _PATIENCE * self._refusal_s

    def _ramp(self, now: float) -> None:
        """A call leaves after a drought: twice as many each time that none was refused, up to the pace before it."""
        patience_s = _PATIENCE * self._refusal_s
        if not self._left:
            self._left = self._batch = 2 * self._batch
            if self._batch >= self._rate_before * patience_s:
                self._batch, self._empty = 0, (0.0, 0, 0)
                self.rate = max(self._rate_before, self.rate or 0.0)
                return
        self._left -= 1
        if not self._left:
            self._held_until = now + patience_s

    def _advance(self, now: float) -> None:
        assert self.rate is not None
        if now > self._at:
            self._level = min(self._most(), self._level + (now - self._at) * self.rate)
            self._at = now

    @property
    def _searches(self) -> bool:
        """Whether the rate is not measured yet, of a bucket that held several calls: it cannot fill up meanwhile."""
        return not self.measured and self._at_first is not None and self._at_first[0] >= _EXACT_CALLS

    def _most(self) -> float:
        """Return how many may leave at once after a pause: one, until the rate is measured."""
        assert self.rate is not None
        return max(1.0, self.rate * _BURST_S) if self.measured else 1.0

    def _plan_step(self, now: float, calm: int = 1) -> None:
        # A guess may be doubled as soon as it is known that nothing was refused.
        assert self.rate is not None
        learned = self.measured or self.rate >= self._rate_before
        wait_s = _STEP_S if learned else min(_STEP_S, _PATIENCE * self._refusal_s)
        self._next_step = now + (calm if self.noisy else 1) * wait_s, self._sent + calm * _STEP_CALLS

    def _grow(self, now: float) -> None:
        due, nth = self._next_step
        if now >= due and self._sent >= nth and self.rate is not None:
            self.rate *= 1 + self._step
            self._step = min(_WIDEST_STEP, self._step * _WIDER)
            self._plan_step(now)
