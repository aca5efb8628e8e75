"""Whether a limit that was inferred from rate-limit refusals (429) exists, tested by short bursts.

At one rate, refusals say little: noise (random refusals) refuses a share of the calls at any rate, and so does a limit
that is used in full. They differ when more calls are sent. A limit refuses a call when its bucket is empty, so it
refuses nearly all of a few calls that follow at once; noise refuses only its share of them. The test is sequential: the
log likelihood ratios of the bursts are added until they favour the limit by a hundred to one, or noise by a thousand
to one.

Noise is assumed to refuse each call independently of the others, and at most 40 % of the calls. When a confirmed limit
is tested again, bursts are compared with the latest calls, and the result depends on how far the sum has risen above
its lowest value: if noise made the rate fall below the limit, the bucket has filled up, and the first bursts are
admitted until it is empty.
"""

from __future__ import annotations

import math

__all__ = ["LimitConfirmation"]

# Calls of a burst, beyond those that the bucket may hold, once the bursts so far favour noise. Before that, a burst has
# as few calls as can confirm a limit.
_BURST = 6
# A burst is sent within this many seconds: the bucket refills meanwhile and would admit calls.
_SEND_S = 0.05
# The share of a burst that a limit refuses: its bucket may hold one call more than the refusal shows.
_LIMITED = 0.8
# The share of calls that noise refuses is estimated as the share seen so far plus twice its standard error, within
# these bounds.
_MIN_NOISE, _MAX_NOISE = 0.05, 0.4
_PRIOR_REFUSED, _PRIOR_SEEN = 1.0, 10.0
# Log likelihood ratios at which a limit is confirmed and refuted.
_CONFIRMED, _REFUTED = 4.6, -6.9
# Log likelihood ratio at which the first bursts show that the bucket was not empty.
_ROOM = -1.0
# Log likelihood ratio at which the refusals that first showed a limit also confirm it. It is higher than for a burst,
# because they were picked as the clearest of many.
_CLEAR = 12.0


class LimitConfirmation:
    """The test that confirms or refutes one inferred limit after another. It reads no clock.

    Attributes:
        confirmed: Whether the limit has been confirmed.
        again: Whether a limit that was confirmed before is being tested again.
        refusals: Calls refused since the limit was inferred; a repeated test leaves out those of its bursts.
        in_bursts: Total number of calls sent in bursts.
        due_at: When the evidence is complete and `judge` must be called; infinity for none.
    """

    def __init__(self) -> None:
        self.in_bursts = 0
        self.start((0, 0, 0), (0.0, 0.0), math.inf)

    def start(self, proof: tuple[int, int, int], noise: tuple[float, float], due_at: float) -> None:
        """Begin the test of a limit that several refusals showed.

        Args:
            proof: Numbers of the first and the last of those refused calls, and how many there are.
            noise: How many calls before them met only noise, and how many of these were refused.
            due_at: When every call sent until now is known to be refused or admitted.
        """
        self.confirmed = self.again = False
        self.refusals = 0
        self.due_at = due_at
        # The sum of all bursts so far, and its lowest value.
        self._score = self._lowest = 0.0
        # The refusals that showed the limit. `_together` is their number until they are judged, then 0.
        self._first, self._last, self._together = proof
        self._since = self._last
        self._seen_before, self._refused_before = noise
        self._in_bursts_before = self.in_bursts
        # Of the current burst: how many calls may still be sent, until when, how many the bucket may hold, the numbers
        # of the calls not refused so far, and how many were refused.
        self._left, self._until = 0, 0.0
        self._held = 0
        self._not_refused: set[int] = set()
        self._refused = 0

    def restart(self, nth: int, noise: tuple[float, float]) -> None:
        """Test a confirmed limit again. Only bursts decide.

        Args:
            nth: Number of the last call sent.
            noise: How many of the latest calls were sent outside bursts, and how many of these were refused.
        """
        self.start((nth, nth, 0), noise, math.inf)
        self.again = True

    @property
    def favours_noise(self) -> bool:
        """Whether the bursts so far speak for noise: more of their calls were admitted than a limit would admit."""
        return self._score < 0

    @property
    def found_room(self) -> bool:
        """Whether the first bursts were admitted: the bucket was not empty, so the refusals before were noise."""
        return self._lowest < _ROOM

    def count(self, nth: int, *, begins: bool) -> None:
        """Count the refusal of the *nth* call. *begins* says whether it is the first of a group of refusals."""
        self.refusals += 1
        if self._together and not begins:
            self._first, self._last = min(self._first, nth), max(self._last, nth)
            self._together += 1

    def plan(self, now: float, nth: int, rate: float, level: float) -> None:
        """Plan a burst right after a refusal or another burst, unless the limit is confirmed.

        Args:
            now: The current time.
            nth: Number of the last call sent.
            rate: The inferred rate.
            level: Calls that the bucket holds now if the limit exists.
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
        """Count a call of the burst. It counts as admitted if it is not refused within *patience_s*."""
        self._left -= 1
        self.in_bursts += 1
        self._not_refused.add(nth)
        self.due_at = now + patience_s

    def refused(self, nth: int) -> bool:
        """Count the refusal of the *nth* call if it was sent in a burst; return whether it was."""
        if nth not in self._not_refused:
            return False
        self._not_refused.discard(nth)
        self._refused += 1
        self.refusals += not self.again
        if not self._not_refused and not self._left:
            self.due_at = -math.inf
        return True

    def judge(self, nth: int) -> bool | None:
        """Judge the evidence that is due; return True for a limit, False for noise, None for undecided.

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
        """Return an upper bound of the share of calls that noise refuses, from the calls up to the *nth*."""
        apart = nth - self._since - (self.in_bursts - self._in_bursts_before if self.again else 0)
        seen = self._seen_before + apart + _PRIOR_SEEN
        refused = self._refused_before + (self.refusals if nth > self._since else 0) + _PRIOR_REFUSED
        share = min(1.0, refused / seen)
        return min(_MAX_NOISE, max(_MIN_NOISE, share + 2 * math.sqrt(share * (1 - share) / seen)))


def _evidence(refused: int, admitted: int, noise: float) -> float:
    """Return the log likelihood ratio of a limit to noise that refuses a share of *noise*."""
    return refused * math.log(_LIMITED / noise) + admitted * math.log((1 - _LIMITED) / (1 - noise))
