"""The rate of a provider that reports no limits, inferred from its 429 responses.

A refusal shows that the provider's bucket was empty when that call arrived. Between two such times, close enough that
the bucket cannot have filled up in between, the provider admitted exactly what flowed in: their distance measures the
rate, to within one of the admitted calls. The rate is then raised step by step, so that an occasional refusal proves
that no capacity is left unused, and each refusal measures again.
"""

from __future__ import annotations

from collections import deque

__all__ = ["InferredRate"]

# The first guess is what was admitted so far over the time that it took, but over at least this time.
_MIN_START_S = 0.5
# One refusal among the first few calls does not make a provider slow: the next ones correct a guess that is too high.
_MIN_GUESS = 8.0
_MIN_RATE = 0.2
# Over more seconds and calls than this the bucket may have been full for a while.
_CLOSE_S = 1.0
_CLOSE_CALLS = 8
# Fewer calls or seconds than these measure nothing; more than a few seconds' worth would hide a change.
_EXACT_CALLS = 8
_MANY_CALLS = 32
_EXACT_S = 0.08
_SPAN_S = 4.0
# A refusal is followed by a pause, so that the next one comes after several calls: a server that charges for refusals
# takes part of a call with each, which would distort a measurement over few calls.
_REFUSAL_PAUSE_S = 0.1
# Steps of growth without a refusal, each larger than the one before.
_FIRST_STEP = 0.01
_FIRST_STEP_IN_NOISE = 0.03
_FIRST_STEP_UNMEASURED = 1.0
_FIRST_STEP_RESTORED = 0.1  # a rate of another hour: the limit may have been raised since
_STEP_GROWTH = 1.5
_MAX_STEP = 1.0
_STEP_S = 0.5
_STEP_CALLS = 5
_SAME = 0.05
_MAX_CALM = 4
# With nothing admitted between refusals, one call at a time probes the provider, at increasing intervals.
_DROUGHT = 2
_FIRST_HOLD_S = 0.04
_HOLD_GROWTH = 1.5
# While the rate is unknown, waiting too long loses nothing, as the bucket fills up meanwhile: fewer probes are better.
_HOLD_GROWTH_AT_FIRST, _LONG_HOLD_S = 3.0, 0.3
_HOLD_GROWTH_IN_SEARCH = 1.5
_MAX_HOLD_S = 1.5
# A drought longer than this is not the wait for one call at any rate: the limit is of another kind.
_MAX_DROUGHT_S = 1 / _MIN_RATE
# A call that is not refused within this multiple of the time that refusals take was admitted.
_ADMITTED_AFTER = 3
# What may be sent at once after a pause, in seconds of the rate.
_BURST_S = 0.1
# What a bucket that refused a call still holds, on average. Where the rate is measured and calls are far apart, the
# refused one came only a little too early: the next may follow soon, and must, where the bucket holds at most one.
_REST = 0.5
_EARLY_S = 0.05


class InferredRate:
    """Infer how many calls a second are admitted. No limit until the first refusal.

    Attributes:
        rate: Calls a second, None while no limit is known.
        measured: Whether the rate was measured, not guessed.
        sent: Calls sent so far.
        noisy: Whether calls are refused at random, so that it takes several refusals to show a limit.
    """

    def __init__(self) -> None:
        self.noisy = False
        self.sent = 0
        # Two times with the calls sent until then, at least half a second and one second ago.
        self._earlier, self._marked = (0.0, 0), (-1e9, 0)
        self._refusal_s = 0.0
        self.forget()

    def forget(self) -> None:
        """Know of no limit, as at first."""
        self.rate: float | None = None
        self.measured = False
        # When the first call was sent that the limit can have refused, and the number of the call before it.
        self._started: float | None = None
        self._before = self.sent
        self._level = 0.0
        self._at = 0.0
        # Calls sent before the first refusal among them arrived are one group. Of the last group: when that refusal
        # arrived, the numbers of its first and last call, and the end of the group before it.
        self._refusal_at: float | None = None
        self._first_nth = 0
        self._last_at, self._last_nth = 0.0, 0
        self._start_at, self._start_nth = 0.0, 0
        # Calls admitted between the last two groups; and, with the seconds, between each two that are compared.
        self._calls = 1
        self._ignored = 0
        self._stretches: deque[tuple[float, int]] = deque()
        self._step = _FIRST_STEP
        # The better measurements agree, the later the next step.
        self._calm, self._last_rate = 1, 0.0
        self._next_step = (0.0, 0)
        self._held_until = 0.0
        self._barren = 0
        self._hold_s = 0.0
        self._probing = False
        self._dry_nth = 0
        # After a drought: how many calls may be sent at once now, and how many of them have not been sent yet.
        self._batch = self._left = 0
        self._rate_before = 0.0
        self._dry_since = 0.0
        # Whether nothing has arrived since the first refusals.
        self._opening = False
        # When the bucket was first known to be empty, the call that showed it, and how many were refused since.
        self._empty = 0.0, 0, 0
        # A lower bound of what the bucket held at the first call, and the seconds from that call to the first refusal.
        self._at_first: tuple[int, float] | None = None

    @property
    def dry(self) -> bool:
        """Whether none of the latest calls was admitted, so that one at a time probes."""
        return self._hold_s > 0

    @property
    def level(self) -> float:
        """What the bucket holds, as far as the rate is right."""
        return self._level

    @property
    def patience_s(self) -> float:
        """Seconds after which a call that was not refused was admitted."""
        # A coarse clock takes a quick refusal for one that took no time.
        return max(_FIRST_HOLD_S, _ADMITTED_AFTER * self._refusal_s)

    def doubt(self) -> None:
        """Search upward again: the refusals that it was inferred from were random."""
        self.measured, self._step, self._hold_s = False, _FIRST_STEP_UNMEASURED, 0.0
        self._held_until = 0.0
        self._stretches.clear()
        self._next_step = 0.0, self.sent + _STEP_CALLS

    def recover(self, rate: float) -> None:
        """Return to *rate*, which was measured before refusals that proved random lowered it."""
        if self.rate is not None and self.rate < rate:
            self.rate, self._step, self._held_until = rate, _FIRST_STEP_IN_NOISE, 0.0
            self._stretches.clear()

    def restore(self, rate: float) -> None:
        """Start at *rate*, measured by another run; without a refusal it grows as any other does."""
        self.rate, self.measured, self._step = max(_MIN_RATE, rate), True, _FIRST_STEP_RESTORED
        self._level = max(1.0, self.rate * _BURST_S)
        self._next_step = 0.0, _STEP_CALLS

    def scale(self, factor: float) -> None:
        """Multiply the rate: the search goes on from there."""
        if self.rate is not None:
            self.rate = max(_MIN_RATE, self.rate * factor)
            self._level, self._rate_before, self._last_rate = 0.0, self._rate_before * factor, 0.0
            # What was admitted before says nothing about the new rate.
            self._stretches.clear()

    def wait_s(self, now: float) -> float:
        """Return the seconds until the next call may be sent."""
        if self.rate is None:
            return 0.0
        if self._batch or (self._hold_s and self._searches):
            return max(0.0, self._held_until - now)
        self._advance(now)
        return max(0.0, (1.0 - self._level) / self.rate, self._held_until - now)

    def charge(self, now: float) -> int:
        """Count a call that is sent now, and return its number, which `refuse` needs."""
        if self._started is None:
            self._started = now
        if now > self._marked[0] + _MIN_START_S:
            self._earlier = (now, self.sent) if self._marked[0] < 0 else self._marked
            self._marked = now, self.sent
        self.sent += 1
        if self.rate is not None:
            self._advance(now)
            if self._level < 2.0:  # the rate holds calls back, not the window or the run
                self._grow(now)
            self._level -= 1.0
            if self._hold_s:
                self._probe(now)
            if self._batch:
                self._ramp(now)
        return self.sent

    def refuse(
        self, now: float, sent_at: float, nth: int, first: int = 0, *, dry: bool = False, wait_s: float | None = None
    ) -> bool:
        """Update the rate with the refusal of the *nth* call, and return whether it begins a group.

        Args:
            now: When the refusal arrived.
            sent_at: When the call was sent.
            nth: Its number.
            first: Number of the first call that the limit refused, where this is the first refusal; 0 for this one.
            dry: Whether the calls before it were refused too.
            wait_s: Exact seconds from its refusal until a call can be admitted, None for unknown.
        """
        self._refusal_s += (now - sent_at - self._refusal_s) * (0.2 if self._refusal_s else 1.0)
        if self.rate is None:
            since = sent_at if self._started is None else self._started
            self._at_first = max(0, (first or nth) - 1 - self._before), max(0.0, sent_at - since)
            took = max(_MIN_START_S, sent_at - self._earlier[0])
            self.rate = max(_MIN_GUESS, (nth - 1 - self._earlier[1]) / took)
        elif self._at_first is not None and self._before < first <= self._before + self._at_first[0]:
            self._at_first = first - 1 - self._before, self._at_first[1]  # earlier ones arrive later
        if dry and self._opening and self._refusal_at is not None and sent_at < self._refusal_at and not self._hold_s:
            self._hold_s, self._held_until = _FIRST_HOLD_S, now + _FIRST_HOLD_S
        begins = self._refusal_at is None or sent_at >= self._refusal_at
        if begins:
            self._begin_group(now, sent_at, nth, dry)
        elif nth < self._first_nth:  # it was sent before those of its group whose refusals arrived first
            self._first_nth, self._calls = nth, nth - self._start_nth - 1
            if self._stretches:
                self._stretches[-1] = (sent_at - self._start_at, self._calls)
                self._measure()
        if nth > self._last_nth:
            self._last_at, self._last_nth = sent_at, nth
        # The bucket was empty when the last of them arrived. Since then the rate has flowed in, and calls were sent.
        rest = 0.0 if self._searches else max(_REST, 1.0 - self.rate * _EARLY_S) if self.measured else _REST
        if wait_s is not None and self.measured:
            rest = 1.0 - min(wait_s * self.rate, 2.0)
        level = rest + self.rate * (now - self._last_at) - (self.sent - self._last_nth)
        self._level, self._at = min(level, self._most()), now
        if self._searches:
            self._bound(sent_at, nth, begins)
        first_step = _FIRST_STEP_IN_NOISE if self.noisy else _FIRST_STEP
        self._step = first_step if self.measured else _FIRST_STEP_UNMEASURED
        self._plan_step(now, self._calm)
        return begins

    def _bound(self, sent_at: float, nth: int, begins: bool) -> None:
        """Bound a rate that is not measured yet by the calls admitted since the bucket was first empty."""
        assert self.rate is not None
        at, since, refused = self._empty
        if not since or sent_at - self._dry_since > _MAX_DROUGHT_S:
            self._empty = sent_at, nth, 0
        elif nth > since:
            let, span_s = nth - since - 1 - refused, sent_at - at
            self._empty = at, since, refused + 1
            if not begins:
                return
            if let >= _EXACT_CALLS and span_s >= _EXACT_S:
                self.rate, self.measured = max(_MIN_RATE, let / span_s), True
            elif span_s > 0 and let >= 0:
                self.rate = max(_MIN_RATE, min(self.rate, (let + _REST) / span_s))

    def ignore(self, nth: int) -> None:
        """Ignore the refusal of the *nth* call, except that it was not admitted."""
        if self.rate is not None:
            self._ignored += nth > self._last_nth
            self._level += 1.0

    def _begin_group(self, now: float, at: float, nth: int, dry: bool) -> None:
        assert self.rate is not None
        first, self._refusal_at = self._refusal_at is None, now
        self._batch = 0
        self._opening = first
        self._start_at, self._start_nth, self._first_nth = self._last_at, self._last_nth, nth
        seconds, calls = at - self._last_at, max(0, nth - self._last_nth - 1 - self._ignored)
        self._ignored = 0
        if first or (seconds > _CLOSE_S and calls > self._close_calls()):
            self._stretches.clear()
        else:
            self._stretches.append((seconds, calls))
        # Whether anything was admitted before the last group is certain only now that all of its refusals have arrived.
        self._barren = 0 if self._calls else self._barren + 1
        self._calls = calls
        if calls:
            self._dry_since, self._rate_before = at, self.rate
        if self._hold_s:
            longer = _HOLD_GROWTH
            if self._searches:
                longer = _HOLD_GROWTH_AT_FIRST if self._hold_s < _LONG_HOLD_S else _HOLD_GROWTH_IN_SEARCH
            self._hold_s = min(_MAX_HOLD_S, self._hold_s * longer)
        elif (first and dry) or self._barren + (not calls) >= _DROUGHT:
            if self.sent - self._dry_nth < 2 * _EXACT_CALLS:  # soon after the last drought: the rate itself is too high
                self.rate, self.measured = max(_MIN_RATE, self.rate / 2), False
            self._dry_nth, self._hold_s = self.sent, _FIRST_HOLD_S
        if self._hold_s:
            self._held_until, self._probing = now + self._hold_s, False
            self._stretches.clear()
        else:
            self._measure()
            self._held_until = now + min(_REFUSAL_PAUSE_S, _EXACT_CALLS / self.rate)

    def _close_calls(self) -> float:
        """Return how many calls may be admitted between two refusals while the bucket cannot have filled up."""
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
            least = self.rate / 2 if self.noisy and self.measured else _MIN_RATE
            self.rate, self.measured = max(_MIN_RATE, least, admitted / span_s), True
            same = abs(self.rate - self._last_rate) <= (3 * _SAME if self.noisy else _SAME) * self._last_rate
            self._calm, self._last_rate = min(_MAX_CALM, 2 * self._calm) if same else 1, self.rate

    def _probe(self, now: float) -> None:
        """Count a call sent during a drought: it is the probe, or the probe before it was admitted."""
        if self._probing:
            self._hold_s, self._barren, self._calls = 0.0, 0, 1
            if self._searches:
                self._batch = self._left = 1
        else:
            self._probing = True
            self._held_until = now + _ADMITTED_AFTER * self._refusal_s

    def _ramp(self, now: float) -> None:
        """Count a call sent after a drought: batches double while none is refused, up to the rate before it."""
        admitted_after_s = _ADMITTED_AFTER * self._refusal_s
        if not self._left:
            self._left = self._batch = 2 * self._batch
            if self._batch >= self._rate_before * admitted_after_s:
                self._batch, self._empty = 0, (0.0, 0, 0)
                self.rate = max(self._rate_before, self.rate or 0.0)
                return
        self._left -= 1
        if not self._left:
            self._held_until = now + admitted_after_s

    def _advance(self, now: float) -> None:
        assert self.rate is not None
        if now > self._at:
            self._level = min(self._most(), self._level + (now - self._at) * self.rate)
            self._at = now

    @property
    def _searches(self) -> bool:
        """Whether the rate of a bucket that held several calls is not measured yet: it cannot fill up meanwhile."""
        return not self.measured and self._at_first is not None and self._at_first[0] >= _EXACT_CALLS

    def _most(self) -> float:
        """Return how many may be sent at once after a pause: one, until the rate is measured."""
        assert self.rate is not None
        return max(1.0, self.rate * _BURST_S) if self.measured else 1.0

    def _plan_step(self, now: float, calm: int = 1) -> None:
        # A guess may be doubled as soon as nothing can have been refused.
        assert self.rate is not None
        learned = self.measured or self.rate >= self._rate_before
        wait_s = _STEP_S if learned else min(_STEP_S, _ADMITTED_AFTER * self._refusal_s)
        self._next_step = now + (calm if self.noisy else 1) * wait_s, self.sent + calm * _STEP_CALLS

    def _grow(self, now: float) -> None:
        due, nth = self._next_step
        if now >= due and self.sent >= nth and self.rate is not None:
            self.rate *= 1 + self._step
            self._step = min(_MAX_STEP, self._step * _STEP_GROWTH)
            self._plan_step(now)
