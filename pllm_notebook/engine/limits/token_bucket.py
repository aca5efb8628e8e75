"""One limit as the provider keeps it: a bucket that fills at a rate, and that calls take from."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

__all__ = ["TokenBucket"]

# How far our level moves towards what a reply reveals: replies are old by a round trip and noisy.
_TRUST = 0.25
# What is left of a capacity that no reply confirms any more, from one reply to the next.
_FADING = 0.99
# How far a refusal moves the share that replies hide, and what is left of that from one reply to the next.
_SURPRISE = 0.3
_FORGETTING = 0.999
# Calls in flight are never taken to hide more than this share of the capacity: it would starve a small bucket.
_MOST_HIDDEN = 0.5
# How many refusals back a reply may still have been under way.
_MOST_REFUNDS = 256


@dataclass(slots=True)
class TokenBucket:
    """One bucket as the server keeps it: it holds *capacity*, refills at *rate* a second.

    Attributes:
        rate: None until anything is known; an unknown bucket never makes anyone wait.
        level: What was in it at the moment *at*.
        charged: All that was ever taken, so that a reply can tell what left after it was sent.
        hidden: The share of what is in flight that "remaining" leaves out, from 0 to 1: some providers take a
            call's output when it is written and not when the call is admitted.
        told_at: When the newest request left whose reply told of this limit.
        confirmed: Whether a reply told of it, and not refusals alone.
        untold: Replies since then that did not.
    """

    rate: float | None = None
    capacity: float = 0.0
    level: float = 0.0
    at: float = 0.0
    charged: float = 0.0
    hidden: float = 0.0
    told_at: float = 0.0
    confirmed: bool = False
    untold: int = 0
    _refunds: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_MOST_REFUNDS))

    def restore(self, now: float, rate: float, capacity: float) -> None:
        """Take a full bucket of *rate* a second for granted, until more is known."""
        self.rate, self.capacity, self.level, self.at = rate, capacity, capacity, now

    def wait_s(self, now: float, need: float) -> float:
        """Return the seconds until *need* can be taken; a need beyond the capacity waits for a full bucket."""
        if self.rate is None:
            return 0.0
        self._advance(now)
        short = min(need, self.capacity) - self.level
        return max(0.0, short / self.rate) if self.rate > 0 else (0.0 if short <= 0 else 60.0)

    def charge(self, now: float, need: float) -> float:
        """Take *need*, below zero if it must be, and return all that was ever taken."""
        if self.rate is not None:
            self._advance(now)
            self.level -= need
        self.charged += need
        return self.charged

    def settle(self, excess: float) -> None:
        """Correct an earlier charge: a positive *excess* was too much."""
        if self.rate is not None:
            self.level = min(self.capacity, self.level + excess)
        self.charged -= excess

    def refund(self, amount: float, charged_then: float) -> None:
        """Undo the charge of a call that was refused, which was made when *charged_then* had been taken in all."""
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
        """Learn from what a reply says of this bucket.

        Args:
            now: When the reply came.
            sent_at: When its request left.
            charged_then: `charged` just after that request was charged.
            limit: A minute's worth.
            remaining: What was left when the server admitted the request, rounded down.
            reset_s: Seconds until it is full again, None for not said.
            ahead: What those that were in flight when it left will have taken in the end.
        """
        if sent_at < self.told_at:
            return  # a later moment is known already; across a change of the limit this one would be wrong
        self.told_at = sent_at
        rate = limit / 60
        full = limit if reset_s is None else min(limit, remaining + reset_s * rate)
        if self.rate != rate:  # the first word, or another limit from now on
            self.capacity = max(full, 1.0)
            if self.rate is None:
                self.level, self.at = remaining, sent_at
            self.rate = rate
        # *remaining* is rounded down, so every reply gives a lower bound of the capacity.
        self.capacity = max(full, 1.0, self.capacity * _FADING)
        if reset_s is not None:
            # The time until it is full tells the fraction that *remaining* lacks, where it is told finely enough.
            remaining = min(remaining + 1.0, max(remaining, self.capacity - reset_s * rate))
        self._advance(now)
        # Subtract what left since before clamping: with a capacity smaller than a round trip's worth,
        # clamping first would show an empty bucket for ever.
        since = self.charged - charged_then - sum(amount for at, amount in self._refunds if at > charged_then)
        level = remaining - self._hides(ahead) + rate * (now - sent_at) - since
        self.level += _TRUST * (min(self.capacity, level) - self.level)
        self.hidden *= _FORGETTING

    def refuse(self, now: float, need: float, wait_s: float, ahead: float = 0.0) -> None:
        """Learn from a refusal: *need* will be there in *wait_s* seconds, and not before."""
        assert self.rate is not None
        self._advance(now)
        level = need - wait_s * self.rate
        surprise = self.level + self._hides(ahead) - level
        if surprise > 0 and ahead > 0:
            self.hidden = min(1.0, self.hidden + _SURPRISE * min(1.0, surprise / ahead))
        self.level = min(self.level, level - self._hides(ahead))

    def _hides(self, ahead: float) -> float:
        return min(self.hidden * ahead, _MOST_HIDDEN * self.capacity)

    def _advance(self, now: float) -> None:
        if self.rate is not None and now > self.at:
            self.level = min(self.capacity, self.level + (now - self.at) * self.rate)
        self.at = max(self.at, now)
