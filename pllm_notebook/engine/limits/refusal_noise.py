"""Whether refusals come from a limit, or from something that no pace of ours would change.

A limit that calls run into refuses most of them. An upstream pool that others fill, or a server that drops some,
refuses a share of them whatever the pace is. The test is a cumulative sum (Page's) over the calls in the order in
which they left: it compares a share of one half with the share of the noise, as known so far.
"""

from __future__ import annotations

import math
from bisect import insort

__all__ = ["RefusalNoise"]

# Log likelihood ratio at which a limit is taken for proven: about a thousand to one.
_PROOF = 6.9
_PROOF_AT_FIRST = 9.2
# What a limit refuses of the calls that run into it.
_LIMITED = 0.5
# Before anything is known: one refusal in ten calls.
_PRIOR_REFUSED, _PRIOR_SEEN = 1.0, 10.0
_LEAST, _MOST = 0.02, 0.4
_LEAST_SHARE = 0.005
# Fewer refusals than these, or a smaller share, are no noise to reckon with.
_FEW = 3
# How many calls back the share looks, and how many refusals back the test does.
_MEMORY = 500.0
_MOST_LISTED = 128


class RefusalNoise:
    """Distinguish refusals of a limit from noise.

    Attributes:
        first: The number of the first of the calls that proved a limit last.
        dry: Whether that limit let in none of the calls that proved it.
    """

    def __init__(self) -> None:
        self.first = 0
        self.dry = False
        # Numbers of refused calls, sorted: calls that left together are heard of in any order.
        self._listed: list[int] = []
        # The calls after this number count for the share, None for none.
        self._from: int | None = 0
        # When a limit was proven: what left before is of it, whatever the order it is heard of in.
        self._proven_at: float | None = None
        self._seen = self._refused = 0.0
        self._now_seen = self._now_refused = 0

    @property
    def share(self) -> float:
        """The share of calls that noise refuses, 0 where too few were refused to say."""
        seen, refused = self._seen + self._now_seen, self._refused + self._now_refused
        return refused / seen if refused >= _FEW and refused >= _LEAST_SHARE * seen else 0.0

    @property
    def last(self) -> int:
        """The number of the last call that was refused, of those that the test looks at."""
        return self._listed[-1]

    def limited(self, now: float, sent_at: float, nth: int, *, counts: bool, at_first: bool) -> bool:
        """Take the refusal of the *nth* call, and return whether a limit is proven.

        Args:
            now: When it came.
            sent_at: When the call left.
            nth: Its number among all calls, in the order in which they left.
            at_first: Whether no limit is known yet; to take one for granted then costs more.
            counts: Whether refusals that prove no limit are noise for sure, at this pace.
        """
        if self._proven_at is not None and sent_at > self._proven_at:
            # All that left before the proof has been heard of by now.
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
            self.dry = listed[-1] - listed[run] == len(listed) - 1 - run
            return True
        if len(listed) > _MOST_LISTED and run:
            if self._from is not None:
                self._commit(listed[run] - 1)
            del listed[:run]
        return False

    def _score(self) -> tuple[float, int]:
        """Return the sum at the last listed call, and where in the list its present rise began."""
        seen, refused = self._seen + self._now_seen, self._refused + self._now_refused
        noise = min(_MOST, max(_LEAST, (refused + _PRIOR_REFUSED) / (seen + _PRIOR_SEEN)))
        refusal, admission = math.log(_LIMITED / noise), math.log((1 - _LIMITED) / (1 - noise))
        score, run, last = 0.0, 0, self._listed[0]
        for index, each in enumerate(self._listed):
            score += (each - last - 1) * admission
            if score <= 0:
                score, run = 0.0, index
            score, last = score + refusal, each
        return score, run

    def _commit(self, start: int | None) -> None:
        """Count what has been counted for good; go on after the call *start*, None for not going on."""
        self._seen, self._refused = self._seen + self._now_seen, self._refused + self._now_refused
        self._now_seen = self._now_refused = 0
        if self._from is not None:
            self._from = start
        if self._seen > _MEMORY:
            self._refused *= _MEMORY / self._seen
            self._seen = _MEMORY
