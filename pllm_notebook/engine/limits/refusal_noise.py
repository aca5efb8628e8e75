"""Whether rate-limit refusals (429) come from a limit, or are noise: random, and independent of our rate.

A limit that calls run into refuses most of them. An upstream pool that others fill, or a server that drops some calls,
refuses a share of them at any rate. The test is a cumulative sum (Page's) over the calls in the order in which they
were sent. It compares a refused share of one half with the share of the noise as known so far, or with the share of the
latest calls if that is clearly higher, since noise may begin at any time. Noise is assumed to refuse each call
independently. Even so a proof can be wrong, especially while noise begins; `limit_confirmation` tests each one.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort

__all__ = ["RefusalNoise"]

# Log likelihood ratio at which a limit counts as proven: about a thousand to one.
_PROOF = 6.9
_PROOF_AT_FIRST = 9.2
# The share that a limit refuses of the calls that run into it.
_LIMITED = 0.5
# Before anything is known: one refusal in ten calls.
_PRIOR_REFUSED, _PRIOR_SEEN = 1.0, 10.0
_MIN_NOISE, _MAX_NOISE = 0.02, 0.4
_MIN_SHARE = 0.005
# Fewer refusals than these, or a smaller share, do not count as noise.
_MIN_REFUSED = 3
# Number of calls that the share covers, and number of refusals that the test covers.
_MEMORY = 500.0
_MAX_LISTED = 128
# Number of latest calls that show a change of the share. The last _LAG of them are left out: if a limit refused them,
# they must not count as the noise that the limit is compared with.
_LATEST = 40
_LAG = 5


class RefusalNoise:
    """The test that tells refusals of a limit from noise.

    Attributes:
        first: Number of the first of the calls that last proved a limit.
        proof: Numbers of the first and last refused call among them, and how many were refused.
        dry: Whether the limit admitted none of the calls that proved it.
    """

    def __init__(self) -> None:
        self.first = 0
        self.dry = False
        self.proof = 0, 0, 0
        # Numbers of refused calls, sorted, because refusals of calls sent together arrive in any order.
        self._listed: list[int] = []
        # Calls after this number count towards the share; None if no calls do.
        self._from: int | None = 0
        # When a limit was proven. It also refused calls sent before then, whose refusals may arrive later.
        self._proven_at: float | None = None
        self._seen = self._refused = 0.0
        self._now_seen = self._now_refused = 0

    @property
    def share(self) -> float:
        """The share of calls that are refused at random; 0 if too few were refused to say."""
        seen, refused = self._seen + self._now_seen, self._refused + self._now_refused
        return refused / seen if refused >= _MIN_REFUSED and refused >= _MIN_SHARE * seen else 0.0

    @property
    def counts(self) -> tuple[float, float]:
        """How many of the latest calls before those that proved a limit count, and how many of them were refused."""
        seen, refused = self._seen + self._now_seen, self._refused + self._now_refused
        latest = min(seen, _LATEST)
        return latest, self._latest(self.first, refused / seen if seen else 0.0) * latest

    @property
    def last(self) -> int:
        """The number of the last refused call that the test covers."""
        return self._listed[-1]

    def limited(self, now: float, sent_at: float, nth: int, *, counts: bool, at_first: bool) -> bool:
        """Count the refusal of the *nth* call; return whether a limit is proven.

        Args:
            now: When the refusal arrived.
            sent_at: When the call was sent.
            nth: Number of the call among all calls, in the order in which they were sent.
            counts: Whether refusals at this rate are certainly noise if they do not prove a limit.
            at_first: Whether no limit is known yet, when a wrong proof costs more.
        """
        if self._proven_at is not None and sent_at > self._proven_at:
            # The results of all calls sent before the proof have arrived by now.
            self._commit(self._listed[-1])
            self._listed.clear()
            self._proven_at = None
        if self._proven_at is None and counts != (self._from is not None):
            if counts:
                self._from = nth
            else:
                self._commit(None)
        insort(self._listed, nth)
        score, run = self._score()
        listed = self._listed
        if self._from is not None:
            self._now_refused = sum(each > self._from for each in listed[:run])
            self._now_seen = max(0, listed[run] - 1 - self._from)
        if self._proven_at is None and score >= (_PROOF_AT_FIRST if at_first else _PROOF):
            self._proven_at = now
        if self._proven_at is not None:
            self.first = listed[run]
            self.proof = self.first, listed[-1], len(listed) - run
            self.dry = listed[-1] - listed[run] == len(listed) - 1 - run
            return True
        if len(listed) > _MAX_LISTED and run:
            if self._from is not None:
                self._commit(listed[run] - 1)
            del listed[:run]
        return False

    def learn(self, seen: int, refused: int, nth: int) -> None:
        """Count as noise, with more weight than earlier calls, *refused* of *seen* calls once attributed to a limit.

        All calls after the *nth* count.
        """
        self._listed.clear()
        self._proven_at = None
        self._commit(nth)
        self._from = nth
        self._fade(_LATEST)
        self._seen, self._refused = self._seen + seen, self._refused + refused

    def bound(self, share: float) -> None:
        """Lower the share to at most *share*, the share of all refusals, random or not, among the latest calls."""
        if self.share > share:
            self._refused = share * self._seen

    def _score(self) -> tuple[float, int]:
        """Return the sum at the last listed call, and the index at which its current rise began."""
        listed = self._listed
        seen, refused = self._seen + self._now_seen, self._refused + self._now_refused
        known = (refused + _PRIOR_REFUSED) / (seen + _PRIOR_SEEN)
        refusal, admission = _ratios(known)
        score, run, last = 0.0, 0, listed[0]
        for index, each in enumerate(listed):
            if self._from is not None:
                refusal, admission = _ratios(self._latest(each - _LAG, known))
            score += (each - last - 1) * admission
            if score <= 0:
                score, run = 0.0, index
            score, last = score + refusal, each
        return score, run

    def _latest(self, nth: int, known: float) -> float:
        """Return the refused share of the latest calls before the *nth*; *known* unless it is clearly above that."""
        refused = bisect_left(self._listed, nth) - bisect_left(self._listed, nth - _LATEST)
        error = math.sqrt(refused)
        return (refused - error) / _LATEST if refused - 2 * error > known * _LATEST else known

    def _commit(self, start: int | None) -> None:
        """Add the current counts to the totals. Count calls after *start* from now on; None stops counting."""
        self._seen, self._refused = self._seen + self._now_seen, self._refused + self._now_refused
        self._now_seen = self._now_refused = 0
        if self._from is not None:
            self._from = start
        self._fade(_MEMORY)

    def _fade(self, memory: float) -> None:
        """Scale the totals down to the weight of at most *memory* calls."""
        if self._seen > memory:
            self._refused *= memory / self._seen
            self._seen = float(memory)


def _ratios(noise: float) -> tuple[float, float]:
    """Return the log likelihood ratios of a limit to a share of *noise*, for a refused and for an admitted call."""
    noise = min(_MAX_NOISE, max(_MIN_NOISE, noise))
    return math.log(_LIMITED / noise), math.log((1 - _LIMITED) / (1 - noise))
