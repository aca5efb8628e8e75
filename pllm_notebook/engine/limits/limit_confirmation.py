"""Whether a limit that was inferred from refusals exists, tested by short bursts.

At one rate, refusals say little: noise refuses a share of the calls at any rate, and so does a limit that is used in
full. They differ where more is sent. A refusal of a limit shows that its bucket is empty, so that it refuses nearly
all of a few calls that follow at once; noise refuses its share of them. The test is sequential: the log likelihood
ratios of the bursts are added until they favour the limit by a hundred to one, or noise by a thousand to one.

Noise is assumed to refuse each call independently of the others, at most 40 % of them. The test of a limit that was
confirmed before compares with the latest calls, and looks at the rise of the sum above its lowest value: where noise
made the rate fall below the limit, the bucket has filled up, and the first bursts are admitted until it is empty.
"""

from __future__ import annotations

import math

__all__ = ["LimitConfirmation"]

# Calls of a burst beyond those that the bucket may hold, where the first burst, of as few as can confirm a limit,
# favours noise.
_BURST = 6
# A burst is sent at once: what flows into the bucket meanwhile would be admitted.
_SEND_S = 0.05
# The share of a burst that a limit refuses: its bucket may hold one call more than the refusal shows.
_LIMITED = 0.8
# The share of all calls that noise refuses: as seen so far and twice its standard error more, between these bounds.
_MIN_NOISE, _MAX_NOISE = 0.05, 0.4
_PRIOR_REFUSED, _PRIOR_SEEN = 1.0, 10.0
# Log likelihood ratios at which a limit is confirmed and refuted.
_CONFIRMED, _REFUTED = 4.6, -6.9
# Log likelihood ratio at which the first bursts show that the bucket was not empty.
_ROOM = -1.0
# The refusals that first showed the limit confirm it where they are this clear. They must be clearer than a burst,
# since they are the clearest of many.
_CLEAR = 12.0


class LimitConfirmation:
    """Confirm or refute one inferred limit after another. Nothing here reads a clock.

    Attributes:
        confirmed: Whether the limit exists.
        again: Whether it was confirmed before, and its test was begun again.
        refusals: Calls refused since the limit was inferred; without those of bursts where it is tested again.
        in_bursts: Calls sent in bursts, ever.
        due_at: When evidence is complete, and `judge` is to be called; infinity for none.
    """

    def __init__(self) -> None:
        self.in_bursts = 0
        self.start((0, 0, 0), (0.0, 0.0), math.inf)

    def start(self, proof: tuple[int, int, int], noise: tuple[float, float], due_at: float) -> None:
        """Begin with a limit that several refusals showed.

        Args:
            proof: Numbers of the first and last of the refused calls, and how many they are.
            noise: How many calls before them met noise alone, and how many of these were refused.
            due_at: When all calls that were sent until now are known to be refused or admitted.
        """
        self.confirmed = self.again = False
        self.refusals = 0
        self.due_at = due_at
        # The sum of all bursts so far, and its lowest value.
        self._score = self._lowest = 0.0
        # The refusals that showed the limit, until they are judged.
        self._first, self._last, self._together = proof
        self._since = self._last
        self._seen_before, self._refused_before = noise
        self._in_bursts_before = self.in_bursts
        # Of the burst: how many calls may still be sent, until when, the calls that the bucket may hold, the numbers
        # of those not refused so far, and how many were refused.
        self._left, self._until = 0, 0.0
        self._held = 0
        self._not_refused: set[int] = set()
        self._refused = 0

    def restart(self, nth: int, noise: tuple[float, float]) -> None:
        """Test a limit again that was confirmed: bursts alone decide.

        Args:
            nth: Number of the last call sent.
            noise: How many of the latest calls were sent apart from bursts, and how many of these were refused.
        """
        self.start((nth, nth, 0), noise, math.inf)
        self.again = True

    @property
    def favours_noise(self) -> bool:
        """Whether more calls of the bursts so far were admitted than a limit would admit."""
        return self._score < 0

    @property
    def found_room(self) -> bool:
        """Whether the first bursts were admitted: the bucket was not empty, and the refusals before were noise."""
        return self._lowest < _ROOM

    def count(self, nth: int, *, begins: bool) -> None:
        """Count the refusal of the *nth* call, the first of its group where it *begins* one."""
        self.refusals += 1
        if self._together and not begins:
            self._first, self._last = min(self._first, nth), max(self._last, nth)
            self._together += 1

    def plan(self, now: float, nth: int, rate: float, level: float) -> None:
        """Plan a burst, right after a refusal or another burst, unless the limit is confirmed.

        Args:
            now: When that was.
            nth: Number of the last call sent.
            rate: The inferred rate.
            level: What the bucket holds now, if the limit exists.
        """
        if not self.confirmed and not self._together and not self._not_refused and level < _BURST / 2:
            enough = math.ceil(_CONFIRMED / math.log(_LIMITED / self._noise(nth)))
            self._held = max(0, math.ceil(level))
            self._left = (_BURST if self.favours_noise else enough) + self._held
            self._until = now + min(_SEND_S, 1 / rate)
            self._refused = 0

    def sends(self, now: float) -> bool:
        """Return whether a call that is sent now belongs to a burst."""
        return self._left > 0 and now <= self._until

    def sent(self, now: float, nth: int, patience_s: float) -> None:
        """Count a call of the burst. One that is not refused within *patience_s* was admitted."""
        self._left -= 1
        self.in_bursts += 1
        self._not_refused.add(nth)
        self.due_at = now + patience_s

    def refused(self, nth: int) -> bool:
        """Count the refusal of the *nth* call if it was sent in a burst, and return whether it was."""
        if nth not in self._not_refused:
            return False
        self._not_refused.discard(nth)
        self._refused += 1
        self.refusals += not self.again
        if not self._not_refused and not self._left:
            self.due_at = -math.inf
        return True

    def judge(self, nth: int) -> bool | None:
        """Judge what is due, and return True for a limit, False for noise, None for undecided.

        Args:
            nth: Number of the last call sent.
        """
        self.due_at = math.inf
        if self._together:
            admitted = self._last - self._first + 1 - self._together
            self.confirmed = _evidence(self._together, admitted, self._noise(self._since)) >= _CLEAR
            self._together = 0
            return self.confirmed or None
        admitted = max(0, len(self._not_refused) - self._held)
        self._score += _evidence(self._refused, admitted, self._noise(nth))
        self._left = 0
        self._not_refused.clear()
        self._lowest = min(self._lowest, self._score)
        self.confirmed = self._score - (self._lowest if self.again else 0.0) >= _CONFIRMED
        return self.confirmed or (False if self._score <= _REFUTED else None)

    def _noise(self, nth: int) -> float:
        """Return an upper bound of the share that noise refuses, of the calls up to the *nth*."""
        apart = nth - self._since - (self.in_bursts - self._in_bursts_before if self.again else 0)
        seen = self._seen_before + apart + _PRIOR_SEEN
        refused = self._refused_before + (self.refusals if nth > self._since else 0) + _PRIOR_REFUSED
        share = min(1.0, refused / seen)
        return min(_MAX_NOISE, max(_MIN_NOISE, share + 2 * math.sqrt(share * (1 - share) / seen)))


def _evidence(refused: int, admitted: int, noise: float) -> float:
    """Return the log likelihood ratio of a limit to a share of *noise*."""
    return refused * math.log(_LIMITED / noise) + admitted * math.log((1 - _LIMITED) / (1 - noise))
