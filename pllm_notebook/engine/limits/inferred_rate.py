"""The rate of a provider that reports no limits, inferred from its 429 responses.

A rate-limit refusal (429) shows that the provider's bucket was empty when the call arrived. If two refusals are so
close that the bucket cannot have filled up in between, the provider admitted exactly what flowed in: the calls admitted
between them, divided by the seconds, are the rate, to within one call. The rate is then raised step by step. An
occasional refusal proves that no capacity is left unused, and each refusal is a new measurement.
"""

from __future__ import annotations

from collections import deque

__all__ = ["InferredRate"]

# The first guess divides the calls admitted recently by the seconds they took, but at least by this.
_MIN_START_S = 0.5
# One refusal among the first few calls does not show a slow provider. If this guess is too high, later ones correct it.
_MIN_GUESS = 8.0
_MIN_RATE = 0.2
# Between two refusals that are further apart than this, in seconds and in calls, the bucket may have been full.
_CLOSE_S = 1.0
_CLOSE_CALLS = 8
# A measurement needs at least _EXACT_CALLS calls and _EXACT_S seconds. Beyond _MANY_CALLS calls and _SPAN_S seconds the
# oldest are dropped: they would hide a change.
_EXACT_CALLS = 8
_MANY_CALLS = 32
_EXACT_S = 0.08
_SPAN_S = 4.0
# A refusal is followed by a pause, so that the next one comes after several calls: a server that charges for refusals
# takes part of a call with each, which would distort a measurement over few calls.
_REFUSAL_PAUSE_S = 0.1
# Without refusals the rate grows in steps, each larger than the one before.
_FIRST_STEP = 0.01
_FIRST_STEP_IN_NOISE = 0.03
_FIRST_STEP_UNMEASURED = 1.0
_FIRST_STEP_RESTORED = 0.1  # the rate may be hours old, and the limit may have been raised since
_STEP_GROWTH = 1.5
_MAX_STEP = 1.0
_STEP_S = 0.5
_STEP_CALLS = 5
_SAME = 0.05
_MAX_CALM = 4
# A drought: nothing was admitted between this many refusals in a row. One call at a time then probes the provider, at
# increasing intervals.
_DROUGHT = 2
_FIRST_HOLD_S = 0.04
_HOLD_GROWTH = 1.5
# While the rate is unknown, a wait that is too long loses nothing, since the bucket fills up: fewer probes are better.
_HOLD_GROWTH_AT_FIRST, _LONG_HOLD_S = 3.0, 0.3
_HOLD_GROWTH_IN_SEARCH = 1.5
_MAX_HOLD_S = 1.5
# At any rate that can be inferred, a call is admitted within this time. A longer drought shows a limit of another kind.
_MAX_DROUGHT_S = 1 / _MIN_RATE
# A call counts as admitted if it is not refused within this multiple of the latency of refusals.
_ADMITTED_AFTER = 3
# Calls that may be sent at once after a pause, in seconds of the rate.
_BURST_S = 0.1
# Calls that a bucket still holds on average when it refuses one. If the rate is measured and calls are far apart, the
# refused call came only slightly too early, and the next may follow soon; it must if the bucket holds at most one.
_REST = 0.5
_EARLY_S = 0.05


class InferredRate:
    """The inferred number of calls a second that the provider admits. There is no limit before the first refusal.

    Attributes:
        rate: Calls a second, None while no limit is known.
        measured: Whether the rate was measured rather than guessed.
        sent: Calls sent so far.
        noisy: Whether some calls are refused at random, so that one refusal does not show a limit.
    """

    def __init__(self) -> None:
        self.noisy = False
        self.sent = 0
        # Two earlier times, each with the number of calls sent by then. They are at least _MIN_START_S apart.
        self._earlier, self._marked = (0.0, 0), (-1e9, 0)
        self._refusal_s = 0.0
        self.forget()

    def forget(self) -> None:
        """Forget the limit and return to the initial state. Calls stay counted."""
        self.rate: float | None = None
        self.measured = False
        # When the first call that the limit may have refused was sent, and the number of the call before it.
        self._started: float | None = None
        self._before = self.sent
        self._level = 0.0
        self._at = 0.0
        # Refused calls form a group if they were sent before the first refusal among them arrived. Of the last group:
        # when that refusal arrived, its first call's number, its last call's time and number, and the same two of
        # the group before it.
        self._refusal_at: float | None = None
        self._first_nth = 0
        self._last_at, self._last_nth = 0.0, 0
        self._start_at, self._start_nth = 0.0, 0
        # Calls admitted between the last two groups. The stretches are the seconds and admitted calls between each two
        # neighbouring groups that are measured.
        self._calls = 1
        self._ignored = 0
        self._stretches: deque[tuple[float, int]] = deque()
        self._step = _FIRST_STEP
        # The better the measurements agree, the later the next step.
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
        # Whether the latest group of refusals is the first.
        self._opening = False
        # When the bucket was first known to be empty, the call that showed it, and how many were refused since then.
        self._empty = 0.0, 0, 0
        # Lower bound of the calls that the bucket held at first, and the seconds from the first call to the first
        # refused one.
        self._at_first: tuple[int, float] | None = None

    @property
    def dry(self) -> bool:
        """Whether there is a drought: none of the latest calls was admitted, and one call at a time probes."""
        return self._hold_s > 0

    @property
    def level(self) -> float:
        """Calls that the bucket holds, if the rate is right."""
        return self._level

    @property
    def patience_s(self) -> float:
        """Seconds after which a call that has not been refused counts as admitted."""
        # A coarse clock may measure a quick refusal as 0 s.
        return max(_FIRST_HOLD_S, _ADMITTED_AFTER * self._refusal_s)

    def doubt(self) -> None:
        """Search upward again, because the refusals that the rate was inferred from were random."""
        self.measured, self._step, self._hold_s = False, _FIRST_STEP_UNMEASURED, 0.0
        self._held_until = 0.0
        self._stretches.clear()
        self._next_step = 0.0, self.sent + _STEP_CALLS

    def recover(self, rate: float) -> None:
        """Return to *rate*, measured before random refusals lowered it. A higher current rate is kept."""
        if self.rate is not None and self.rate < rate:
            self.rate, self._step, self._held_until = rate, _FIRST_STEP_IN_NOISE, 0.0
            self._stretches.clear()

    def restore(self, rate: float) -> None:
        """Start at *rate*, which another run measured. Without refusals it grows like any other."""
        self.rate, self.measured, self._step = max(_MIN_RATE, rate), True, _FIRST_STEP_RESTORED
        self._level = max(1.0, self.rate * _BURST_S)
        self._next_step = 0.0, _STEP_CALLS

    def scale(self, factor: float) -> None:
        """Multiply the rate by *factor* and continue the search from there."""
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
        """Count a call that is sent now and return its number, which `refuse` needs."""
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
        """Update the rate with the refusal of the *nth* call; return whether the refusal begins a group.

        Args:
            now: When the refusal arrived.
            sent_at: When the call was sent.
            nth: Number of the call.
            first: Number of the first call that the limit refused, for the first refusal that counts; 0 for this call.
            dry: Whether the limit admitted none of the calls since *first*.
            wait_s: Exact seconds from the refusal until a call can be admitted, None for unknown.
        """
        self._refusal_s += (now - sent_at - self._refusal_s) * (0.2 if self._refusal_s else 1.0)
        if self.rate is None:
            since = sent_at if self._started is None else self._started
            self._at_first = max(0, (first or nth) - 1 - self._before), max(0.0, sent_at - since)
            took = max(_MIN_START_S, sent_at - self._earlier[0])
            self.rate = max(_MIN_GUESS, (nth - 1 - self._earlier[1]) / took)
        elif self._at_first is not None and self._before < first <= self._before + self._at_first[0]:
            self._at_first = first - 1 - self._before, self._at_first[1]  # refusals of earlier calls may arrive later
        if dry and self._opening and self._refusal_at is not None and sent_at < self._refusal_at and not self._hold_s:
            self._hold_s, self._held_until = _FIRST_HOLD_S, now + _FIRST_HOLD_S
        begins = self._refusal_at is None or sent_at >= self._refusal_at
        if begins:
            self._begin_group(now, sent_at, nth, dry)
        elif nth < self._first_nth:  # sent before the other calls of its group, but refused after them
            self._first_nth, self._calls = nth, nth - self._start_nth - 1
            if self._stretches:
                self._stretches[-1] = (sent_at - self._start_at, self._calls)
                self._measure()
        if nth > self._last_nth:
            self._last_at, self._last_nth = sent_at, nth
        # The bucket was empty when the last refused call arrived. It has refilled since, and later calls took from it.
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
        """Bound a rate that has not been measured yet by the calls admitted since the bucket was first empty."""
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
        """Count the *nth* call as not admitted, but learn nothing from its refusal."""
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
        # Only now have all refusals of the last group arrived, which shows whether any call was admitted before it.
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
            if self.sent - self._dry_nth < 2 * _EXACT_CALLS:  # soon after the last drought: the rate is too high
                self.rate, self.measured = max(_MIN_RATE, self.rate / 2), False
            self._dry_nth, self._hold_s = self.sent, _FIRST_HOLD_S
        if self._hold_s:
            self._held_until, self._probing = now + self._hold_s, False
            self._stretches.clear()
        else:
            self._measure()
            self._held_until = now + min(_REFUSAL_PAUSE_S, _EXACT_CALLS / self.rate)

    def _close_calls(self) -> float:
        """Return the most calls admitted between two refusals for which the bucket cannot have filled up in between."""
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
        """Count a call sent during a drought: it is a new probe, or it shows that the probe before it was admitted."""
        if self._probing:
            self._hold_s, self._barren, self._calls = 0.0, 0, 1
            if self._searches:
                self._batch = self._left = 1
        else:
            self._probing = True
            self._held_until = now + _ADMITTED_AFTER * self._refusal_s

    def _ramp(self, now: float) -> None:
        """Count a call sent after a drought. Batches double while no call is refused, up to the earlier rate."""
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
        """Whether a rate is still searched for a bucket so large that it cannot fill up during the search."""
        return not self.measured and self._at_first is not None and self._at_first[0] >= _EXACT_CALLS

    def _most(self) -> float:
        """Return how many calls may be sent at once after a pause: one until the rate is measured."""
        assert self.rate is not None
        return max(1.0, self.rate * _BURST_S) if self.measured else 1.0

    def _plan_step(self, now: float, calm: int = 1) -> None:
        # A guess may be doubled as soon as the latest calls count as admitted.
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
