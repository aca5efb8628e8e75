"""A limit that the provider does not report, inferred from rate-limit refusals (429 responses) during a run.

Three modules answer one question each: whether refusals depend on our rate at all (`refusal_noise`), at what rate the
limit admits calls (`inferred_rate`), and whether it exists (`limit_confirmation`). Nothing is assumed to last: noise
(random refusals) may begin, rise and end in the middle of a run, and so may a limit. So both are judged by the latest
calls. A confirmed limit is tested again when its rate has fallen, since noise also makes it fall.

This test can end in three ways. If its bursts are refused, the limit itself has fallen. If they are admitted until the
bucket is empty, the limit exists and the refusals before were noise: the rate returns to what it was. If all are
admitted, the search for a limit begins again from above.
"""

from __future__ import annotations

import math
from collections import deque

from pllm_notebook.engine.limits.inferred_rate import InferredRate
from pllm_notebook.engine.limits.limit_confirmation import LimitConfirmation
from pllm_notebook.engine.limits.refusal_noise import RefusalNoise

__all__ = ["LimitInference"]

# Refusals that continue at less than this share of a rate that was admitted before are noise.
_QUIET = 0.4
# A limit is tested again when its rate is below this share of the highest rate measured since it was confirmed.
_FALLEN = 0.7
# Number of latest calls that bound the share of noise under a limit.
_LATEST = 50


class LimitInference:
    """One account's limit, inferred from the refusals that no reported limit explains.

    Attributes:
        inferred: The rate that the limit admits, None for no limit.
        noise: Distinguishes refusals of the limit from random ones.
        confirmation: Tests whether the limit exists.
    """

    def __init__(self, inferred: InferredRate) -> None:
        self.inferred = inferred
        self.noise = RefusalNoise()
        self.confirmation = LimitConfirmation()
        # Since the limit was inferred or confirmed: the highest rate at which calls were sent and the highest measured.
        self._peak = self._measured = 0.0
        # Whether a limit that was confirmed before is being tested again.
        self._again = False
        # A call's place is its number among the calls that were not sent in bursts. The limit applied after this place.
        self._since = 0
        # Places of the latest refused calls.
        self._refused: deque[int] = deque(maxlen=_LATEST)

    def restore(self, rate: float) -> None:
        """Start at *rate*, which another run measured."""
        self.inferred.restore(rate)
        self.confirmation.confirmed = True

    def scale(self, factor: float) -> None:
        """Multiply the rate by *factor*."""
        self.inferred.scale(factor)
        self._peak *= factor
        self._measured *= factor

    def wait_s(self, now: float) -> float:
        """Return the seconds until the limit, or a burst that tests it, has room for a call."""
        if self.inferred.rate is None:
            return 0.0
        test = self.confirmation
        if test.due_at <= now:
            self._judge(now)
        if test.sends(now):
            return 0.0
        return min(self.inferred.wait_s(now), test.due_at - now)

    def sent(self, now: float, nth: int) -> None:
        """Count the *nth* call, which is sent now and which the rate has charged."""
        if self.confirmation.sends(now):
            self.confirmation.sent(now, nth, self.inferred.patience_s)

    def refused(self, now: float, sent_at: float, nth: int, retry_after_s: float | None) -> bool:
        """Update the limit with a refusal, if it and those before it prove that there is one.

        Args:
            now: When the refusal arrived.
            sent_at: When the call was sent.
            nth: Number of the call.
            retry_after_s: The wait that the refusal stated, None for none.

        Returns:
            Whether no call is admitted at present, so that a stated wait applies to all calls.
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
        # Calls sent after this one may have been refused before it. A search begins after all of them.
        last = noise.last if free else nth
        exact_s = retry_after_s if retry_after_s is not None and retry_after_s % 1 else None
        before = inferred.rate
        begins = inferred.refuse(now, sent_at, last, noise.first, dry=noise.dry, wait_s=exact_s)
        if inferred.measured and inferred.rate != before:  # a step upward is not a measurement
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
        """Return how many of the latest calls were sent under the limit outside bursts, and how many were refused."""
        place = self.inferred.sent - self.confirmation.in_bursts
        seen = min(_LATEST, place - self._since)
        return seen, sum(each > place - seen for each in self._refused)

    def _learn(self) -> None:
        """Count the refusals among the latest calls as noise."""
        self.noise.learn(*self._latest(), self.inferred.sent)
        self.inferred.noisy = self.noise.share > 0

    def _judge(self, now: float) -> None:
        """Judge whether the limit exists. If it does not, all refusals under it were noise."""
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
            # The limit existed. If it still does, a search from above meets it at once; if not, the next test ends it.
            self._again = False
            self._learn()
            test.start((inferred.sent, inferred.sent, 0), self._latest(), math.inf)
            inferred.recover(self._measured)
            inferred.doubt()
        elif limited is False:
            self._learn()
            inferred.forget()
            self._peak = self._measured = 0.0
