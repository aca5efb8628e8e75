"""A limit that nothing reports, inferred from 429 responses: what its refusals mean, at any moment of a run.

Three questions, each with a module of its own: whether refusals depend on our rate at all (`refusal_noise`), at what
rate the limit admits calls (`inferred_rate`), and whether it exists (`limit_confirmation`). Nothing is assumed to last:
noise may begin, rise and end in the middle of a run, and so may a limit. What is known of either comes from the latest
calls, and a limit that was confirmed is tested again when its rate has fallen, which is what noise does to it.

That test has three ends. Its bursts are refused: the limit itself has fallen. They are admitted until the bucket is
empty: the limit is there, and the refusals before were noise, so that the rate returns to what it was. They are all
admitted: the search for a limit begins again from above.
"""

from __future__ import annotations

import math
from collections import deque

from pllm_notebook.engine.limits.inferred_rate import InferredRate
from pllm_notebook.engine.limits.limit_confirmation import LimitConfirmation
from pllm_notebook.engine.limits.refusal_noise import RefusalNoise

__all__ = ["LimitInference"]

# Refusals that continue at this share of a rate that was let through are noise.
_QUIET = 0.4
# A limit is tested again below this share of the highest rate since it was confirmed.
_FALLEN = 0.7
# The latest calls that bound the share of noise under a limit.
_LATEST = 50


class LimitInference:
    """Infer one account's limit from the refusals that no reported limit explains.

    Attributes:
        inferred: The rate that the limit admits, None for no limit.
        noise: Distinguishes refusals of the limit from random ones.
        confirmation: Tests whether the limit exists.
    """

    def __init__(self, inferred: InferredRate) -> None:
        self.inferred = inferred
        self.noise = RefusalNoise()
        self.confirmation = LimitConfirmation()
        # The highest rate that calls were sent at since the limit was confirmed, or inferred; and that was measured.
        self._peak = self._measured = 0.0
        # Whether the limit was confirmed before its test was begun again.
        self._again = False
        # Place of the call after which the limit applied.
        self._since = 0
        # The places of the calls that were refused last among those that were not sent in bursts.
        self._refused: deque[int] = deque(maxlen=_LATEST)

    def restore(self, rate: float) -> None:
        """Start at *rate*, which another run measured."""
        self.inferred.restore(rate)
        self.confirmation.confirmed = True

    def scale(self, factor: float) -> None:
        """Multiply the rate."""
        self.inferred.scale(factor)
        self._peak *= factor
        self._measured *= factor

    def wait_s(self, now: float) -> float:
        """Return the seconds until the limit, or a burst that tests it, has room."""
        if self.inferred.rate is None:
            return 0.0
        test = self.confirmation
        if test.due_at <= now:
            self._judge(now)
        if test.sends(now):
            return 0.0
        return min(self.inferred.wait_s(now), test.due_at - now)

    def sent(self, now: float, nth: int) -> None:
        """Count the *nth* call, sent now, where the rate has charged it."""
        if self.confirmation.sends(now):
            self.confirmation.sent(now, nth, self.inferred.patience_s)

    def refused(self, now: float, sent_at: float, nth: int, retry_after_s: float | None) -> bool:
        """Learn from a refusal, if it and those before it prove a limit.

        Args:
            now: When it arrived.
            sent_at: When the call was sent.
            nth: Its number.
            retry_after_s: The wait that it stated, None for none.

        Returns:
            Whether no call is admitted at present, so that a stated wait is one for all calls.
        """
        inferred, noise, test = self.inferred, self.noise, self.confirmation
        if test.refused(nth):
            inferred.ignore(nth)
            return False
        free = inferred.rate is None
        if not free:
            self._refused.append(nth - test.in_bursts)
            seen, refused = self._latest()
            if seen == _LATEST:
                noise.bound((refused + 2 * math.sqrt(refused) + 1) / seen)
        learned = noise.share
        if inferred.measured:
            self._peak = max(self._peak, inferred.rate or 0.0)
        quiet = inferred.rate is None or inferred.rate < _QUIET * self._peak
        proven = noise.limited(now, sent_at, nth, counts=quiet, at_first=free)
        inferred.noisy = noise.share > 0
        if free:
            self._peak = self._measured = 0.0
        elif inferred.noisy and not learned:
            inferred.doubt()
        if not proven and (free or inferred.noisy):
            inferred.ignore(nth)
            test.refusals += 1
            return False
        # Calls sent after it may have been refused before it; a search begins after all of them.
        last = noise.last if free else nth
        exact_s = retry_after_s if retry_after_s is not None and retry_after_s % 1 else None
        before = inferred.rate
        begins = inferred.refuse(now, sent_at, last, noise.first, dry=noise.dry, wait_s=exact_s)
        if inferred.measured and inferred.rate != before:  # steps upward measure nothing
            self._measured = max(self._measured, inferred.rate or 0.0)
        if free:
            test.start(noise.proof, noise.counts, now + inferred.patience_s)
            self._since = inferred.sent - test.in_bursts
        else:
            test.count(nth, begins=begins)
            if test.confirmed and inferred.measured and (inferred.rate or 0.0) < _FALLEN * self._measured:
                self._again = True
                test.restart(inferred.sent, self._latest())
            if begins and inferred.rate is not None and not inferred.dry:
                test.plan(now, inferred.sent, inferred.rate, inferred.level)
        return inferred.dry

    def _latest(self) -> tuple[int, int]:
        """Return how many of the latest calls were sent under the limit, apart from bursts, and how many refused."""
        place = self.inferred.sent - self.confirmation.in_bursts
        seen = min(_LATEST, place - self._since)
        return seen, sum(each > place - seen for each in self._refused)

    def _learn(self) -> None:
        """Take what was refused of the latest calls for noise."""
        self.noise.learn(*self._latest(), self.inferred.sent)
        self.inferred.noisy = self.noise.share > 0

    def _judge(self, now: float) -> None:
        """Judge whether the limit exists. If it does not, all that was refused under it was noise."""
        inferred, test = self.inferred, self.confirmation
        if inferred.rate is None:
            return
        limited = test.judge(inferred.sent)
        if limited:
            again, self._again = self._again, False
            if again and test.found_room:
                self._learn()
                inferred.recover(self._measured)
            else:
                self._peak = self._measured = inferred.rate if inferred.measured else 0.0
        if limited is None and test.favours_noise and not inferred.dry:
            test.plan(now, inferred.sent, inferred.rate, inferred.level)
        elif limited is False and self._again:
            # It was there. Where it still is, a search from above meets it at once; else the next test ends it.
            self._again = False
            self._learn()
            test.start((inferred.sent, inferred.sent, 0), self._latest(), math.inf)
            inferred.recover(self._measured)
            inferred.doubt()
        elif limited is False:
            self._learn()
            inferred.forget()
            self._peak = self._measured = 0.0
