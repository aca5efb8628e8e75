"""A model of the provider's side of one rate limit: a bucket that refills at a rate and that calls take from."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

__all__ = ["TokenBucket"]

# How far the level moves towards the value that a reply reports. Reports are a round trip old, and noisy.
_TRUST = 0.25
# Decay of a capacity that replies no longer confirm, per reply.
_CAPACITY_DECAY = 0.99
# How far a rate-limit refusal (429) moves the hidden share, and the decay of that share per reply.
_SURPRISE = 0.3
_HIDDEN_DECAY = 0.999
# Calls in flight are assumed to hide at most this share of the capacity, since more would starve a small bucket.
_MAX_HIDDEN = 0.5
# What a refusal adds to the margin for calls that arrive out of order (in calls of that size), the margin's decay per
# reply, and its maximum share of the capacity. The margin is held back once and does not lower the rate, but a small
# bucket cannot spare much.
_MARGIN_STEP = 1.0
_MARGIN_DECAY = 0.999
_MAX_MARGIN = 0.1
# Number of latest refunds kept: the refusals that may have arrived while a call was in flight.
_MAX_REFUNDS = 256


@dataclass(slots=True)
class TokenBucket:
    """A bucket that holds `capacity` and refills at `rate` a second.

    Attributes:
        rate: None until the limit is known. A bucket without a rate never delays a call.
        level: What it held at the time `at`.
        at: Time of `level`.
        charged: Total ever taken. Shows how much was sent after a reply's own request.
        hidden: Share of the tokens in flight that "remaining" does not include, from 0 to 1: some providers charge a
            call's output when it is written, not when the call is admitted.
        margin: Amount held back because calls may arrive out of order. A call that was delayed on its way is admitted
            after the reply to a later one was read, and that reply reported too much.
        reported_at: When the newest request whose reply reported this limit was sent.
        confirmed: Whether a reply, and not only a refusal, has reported the limit.
        unreported: Replies since then that did not report it.
    """

    rate: float | None = None
    capacity: float = 0.0
    level: float = 0.0
    at: float = 0.0
    charged: float = 0.0
    hidden: float = 0.0
    margin: float = 0.0
    reported_at: float = 0.0
    confirmed: bool = False
    unreported: int = 0
    _refunds: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_MAX_REFUNDS))

    def fill(self, now: float, rate: float, capacity: float) -> None:
        """Start with a full bucket of *rate* a second, until more is known."""
        self.rate, self.capacity, self.level, self.at = rate, capacity, capacity, now

    def scale(self, factor: float) -> None:
        """Multiply the limit, and what is left of it, by *factor*."""
        if self.rate is not None:
            self.rate, self.capacity, self.level = self.rate * factor, self.capacity * factor, self.level * factor

    def wait_s(self, now: float, need: float) -> float:
        """Return the seconds until *need* can be taken. A need beyond the capacity waits for a full bucket."""
        if self.rate is None:
            return 0.0
        self._advance(now)
        short = min(need, self.capacity) - self.level
        return max(0.0, short / self.rate) if self.rate > 0 else (0.0 if short <= 0 else 60.0)

    def charge(self, now: float, need: float) -> float:
        """Take *need*, even if the level falls below zero, and return the total ever taken."""
        if self.rate is not None:
            self._advance(now)
            self.level -= need
        self.charged += need
        return self.charged

    def settle(self, excess: float) -> None:
        """Correct an earlier charge that was too high by *excess*."""
        if self.rate is not None:
            self.level = min(self.capacity, self.level + excess)
        self.charged -= excess

    def refund(self, amount: float, charged_then: float) -> None:
        """Undo the charge of a refused call, made when the total taken was *charged_then*."""
        if self.rate is not None:
            self.level = min(self.capacity, self.level + amount)
        self._refunds.append((charged_then, amount))

    def observe(
        self,
        now: float,
        sent_at: float,
        charged_then: float,
        limit: float,
        remaining: float,
        reset_s: float | None,
        ahead: float = 0.0,
    ) -> None:
        """Update the model with the limit that a reply reports.

        Args:
            now: When the reply arrived.
            sent_at: When its request was sent.
            charged_then: `charged` just after that request was charged.
            limit: Limit per minute.
            remaining: What was left when the server admitted the request, rounded down.
            reset_s: Seconds until the bucket is full again, None if not reported.
            ahead: Total that the calls in flight when the request was sent will have taken in the end.
        """
        if sent_at < self.reported_at:
            return  # a later report is known; if the limit has changed in between, this one is outdated
        self.reported_at = sent_at
        rate = limit / 60
        full = limit if reset_s is None else min(limit, remaining + reset_s * rate)
        if self.rate != rate:  # the first report, or a new limit
            self.capacity = max(full, 1.0)
            if self.rate is None:
                self.level, self.at = remaining, sent_at
            self.rate = rate
        # *remaining* is rounded down, so every reply is a lower bound of the capacity.
        self.capacity = max(full, 1.0, self.capacity * _CAPACITY_DECAY)
        if reset_s is not None:
            # If *reset_s* is precise enough, it gives the fraction that was rounded off *remaining*.
            remaining = min(remaining + 1.0, max(remaining, self.capacity - reset_s * rate))
        self._advance(now)
        # Subtract what was sent since then before clamping. With a capacity smaller than a round trip's worth,
        # clamping first would always show an empty bucket.
        since = self.charged - charged_then - sum(amount for at, amount in self._refunds if at > charged_then)
        level = remaining - self._hidden_amount(ahead) - self.margin + rate * (now - sent_at) - since
        self.level += _TRUST * (min(self.capacity, level) - self.level)
        self.hidden *= _HIDDEN_DECAY
        self.margin *= _MARGIN_DECAY

    def refuse(self, now: float, need: float, wait_s: float, ahead: float = 0.0) -> None:
        """Update the model with a refusal (429): *need* will be available in *wait_s* seconds, and not before."""
        assert self.rate is not None
        self._advance(now)
        level = need - wait_s * self.rate
        surprise = self.level + self._hidden_amount(ahead) - level
        if surprise > 0 and ahead > 0:
            self.hidden = min(1.0, self.hidden + _SURPRISE * min(1.0, surprise / ahead))
        elif surprise > 0:
            self.margin = min(self.capacity * _MAX_MARGIN // need * need, self.margin + _MARGIN_STEP * need)
        self.level = min(self.level, level - self._hidden_amount(ahead))

    def _hidden_amount(self, ahead: float) -> float:
        return min(self.hidden * ahead, _MAX_HIDDEN * self.capacity)

    def _advance(self, now: float) -> None:
        if self.rate is not None and now > self.at:
            self.level = min(self.capacity, self.level + (now - self.at) * self.rate)
        self.at = max(self.at, now)
