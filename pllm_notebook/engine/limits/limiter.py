"""When the next call may leave: the provider's limits as told, as refused, or as found out.

Nothing here sleeps or reads a clock: time is an argument. A caller asks how long to wait,
then charges and sends in the same breath; booking after a sleep would let every waiter see
the same free slot.
"""

from __future__ import annotations

from dataclasses import dataclass

from pllm_notebook.engine.limits.concurrency_window import ConcurrencyWindow, SendGroup
from pllm_notebook.engine.limits.inferred_rate import InferredRate
from pllm_notebook.engine.limits.refusal_noise import RefusalNoise
from pllm_notebook.engine.limits.token_bucket import TokenBucket
from pllm_notebook.records import LimitReport

__all__ = ["FIRST_WINDOW", "LearnedLimits", "Limiter", "Permit"]

FIRST_WINDOW = 32
WIDEST_WINDOW = 1000  # the SDKs' connection pools
# A stated second may be a hundredth of one, rounded up; only longer waits hold everybody back.
_ROUNDED_S = 1.0
_LONGEST_PAUSE_S = 60.0
# Calls in flight over what the told limits need at the latency seen.
_ROOM = 1.5
# The share of a call's tokens that is taken to be charged when it is answered, until refusals tell.
_FIRST_HIDDEN = 0.5
# Replies in a row that do not tell a limit which others told: it is no more.
_UNTOLD = 8
# How fast the estimates of tokens follow what calls took, once there are many.
_FOLLOW = 0.05
# Where refusals go on at this share of a pace that was let through, they are noise.
_QUIET = 0.4


@dataclass(slots=True)
class Permit:
    """What a request carried away with it, to be given back with its end.

    Attributes:
        sent_at: When it left.
        estimated: Its tokens, as the run estimates them.
        tokens: What was charged for it.
        ahead: The tokens that were in flight when it left.
        requests_charged: All requests charged until then, its own with them.
        tokens_charged: Likewise.
        nth: Its number.
        group: Those it left with.
    """

    sent_at: float
    estimated: float
    tokens: float
    ahead: float
    requests_charged: float
    tokens_charged: float
    nth: int
    group: SendGroup


@dataclass(frozen=True, slots=True)
class LearnedLimits:
    """What one run learned and the next can begin with. None: not limited, or not known.

    Attributes:
        requests_per_min: As the provider told it.
        requests_at_once: What its bucket holds, where it told its limit.
        tokens_per_min: As the provider told it.
        tokens_at_once: Likewise.
        inferred_per_min: Requests a minute as found out, where nothing was told.
        window: Calls that may be in flight.
    """

    requests_per_min: float | None = None
    requests_at_once: float | None = None
    tokens_per_min: float | None = None
    tokens_at_once: float | None = None
    inferred_per_min: float | None = None
    window: float | None = None


class Limiter:
    """One account's limits for one model, shared by all runs.

    Attributes:
        requests: The limit of requests, as told.
        tokens: The limit of tokens, as told.
        found: The limit of requests, as found out where nothing explains a refusal.
        paused_until: A moment before which nothing is sent.
        refused: Requests that were refused, in all.
    """

    def __init__(self, *, window: int = FIRST_WINDOW, widest: int = WIDEST_WINDOW) -> None:
        self.requests = TokenBucket()
        self.tokens = TokenBucket(hidden=_FIRST_HIDDEN)
        self.inferred = InferredRate()
        self.noise = RefusalNoise()
        self.paused_until = 0.0
        self.refused = 0
        self._window = ConcurrencyWindow(window, widest)
        self._in_flight = 0
        self._tokens_in_flight = 0.0
        self._token_ratio = 1.0
        self._tokens_each = 0.0
        self._counted = 0
        self._unconfirmed = False
        self._peak = 0.0
        self._untold = False

    def __repr__(self) -> str:
        rates = {
            "requests/min": self.requests.rate,
            "tokens/min": self.tokens.rate,
            "requests/min inferred": self.inferred.rate,
        }
        learned = [f"{rate * 60:,.0f} {what}" for what, rate in rates.items() if rate is not None]
        return f"Limiter({', '.join(learned) or 'no limit known'}, window={self.window:.0f}, refused={self.refused})"

    @property
    def window(self) -> float:
        """Calls that may be in flight."""
        return self._window.size

    def wait_s(self, now: float, tokens: float) -> float:
        """Return the seconds until a call of *tokens* (as estimated) may leave; 0 for now."""
        wait = self.paused_until - now
        if self.requests.rate is not None:
            wait = max(wait, self.requests.wait_s(now, 1.0))
        if self.tokens.rate is not None:
            wait = max(wait, self.tokens.wait_s(now, tokens * self._token_ratio))
        if self.inferred.rate is not None:
            wait = max(wait, self.inferred.wait_s(now))
        return max(wait, 0.0)

    def charge(self, now: float, tokens: float) -> Permit:
        """Take what a call needs, at the moment it leaves. Each permit is given back to one of the five below."""
        self._in_flight += 1
        need = tokens * self._token_ratio
        ahead = self._tokens_in_flight
        self._tokens_in_flight += need
        return Permit(
            now, tokens, need, ahead, self.requests.charge(now, 1.0), self.tokens.charge(now, need),
            self.inferred.charge(now), self._window.sent(self._in_flight),
        )  # fmt: skip

    def replied(self, now: float, permit: Permit, report: LimitReport | None, tokens: float | None) -> None:
        """Learn from a success.

        Args:
            now: When it came.
            permit: What `charge` gave.
            report: The headers' word on limits, None for none.
            tokens: Input and output tokens it took, None for unknown.
        """
        self._give_back(permit)
        self._window.replied(permit.group, now - permit.sent_at)
        if tokens is not None and permit.estimated > 0:
            self.tokens.settle(permit.tokens - tokens)
            self._counted += 1
            step = max(_FOLLOW, 1 / self._counted)
            self._token_ratio += step * (tokens / permit.estimated - self._token_ratio)
            self._tokens_each += step * (tokens - self._tokens_each)
        if self._unconfirmed:
            self._unconfirmed = False
            self._drop_untold(report)
        self._confirm(permit, report)
        if report is not None:
            self._observe(now, permit, report)
            self._make_room(now - permit.sent_at)

    def refused_at(self, now: float, permit: Permit, report: LimitReport | None, retry_after_s: float | None) -> None:
        """Learn from a 429: it was turned away, so nothing was taken.

        Only headers, or several refusals together, show that the server's bucket is empty: one refusal alone may be
        noise, and its stated wait is the call's own affair.
        """
        self.refused += 1
        self._give_back(permit)
        self._window.lost(permit.group)
        self.requests.refund(1.0, permit.requests_charged)
        self.tokens.refund(permit.tokens, permit.tokens_charged)
        if report is not None and self._untold and self.inferred.rate is None:
            report = None  # the replies tell of no such limit
        if report is None or not self._explained(now, permit, report, retry_after_s):
            self._infer(now, permit, retry_after_s)

    def _explained(self, now: float, permit: Permit, report: LimitReport, retry_after_s: float | None) -> bool:
        """Learn from a refusal's headers, and return whether what they tell is reason enough for it."""
        self._observe(now, permit, report)
        explained = False
        for bucket, need, ahead, remaining in (
            (self.requests, 1.0, 0.0, report.remaining_requests),
            (self.tokens, permit.tokens, permit.ahead, report.remaining_tokens),
        ):
            if bucket.rate is not None and remaining is not None and remaining < need:
                explained = True
                if retry_after_s is not None:
                    wait_s = retry_after_s
                    if bucket is self.requests and wait_s <= _ROUNDED_S:
                        # A request is taken when it is let in, so no less than *remaining* is there. (Tokens may be
                        # owed: nothing remains then, and the stated wait alone tells how much is.)
                        wait_s = min(wait_s, (need - remaining) / bucket.rate)
                    bucket.refuse(now, need, wait_s, ahead)
        return explained

    def _infer(self, now: float, permit: Permit, retry_after_s: float | None) -> None:
        """Learn from a refusal that nothing explains, where a limit is proven by it and by those before it."""
        inferred, noise = self.inferred, self.noise
        free, learned = inferred.rate is None, noise.share
        if inferred.measured:
            self._peak = max(self._peak, inferred.rate or 0.0)
        quiet = inferred.rate is None or inferred.rate < _QUIET * self._peak
        proven = noise.limited(now, permit.sent_at, permit.nth, counts=quiet, at_first=free)
        inferred.noisy = noise.share > 0
        if free:
            self._peak = 0.0
        elif inferred.noisy and not learned:
            inferred.doubt()
        if not proven and (free or inferred.noisy):
            inferred.ignore(permit.nth)
            return
        # Calls after it may have been heard of before it; a search begins after all of them.
        nth = noise.last if free else permit.nth
        exact_s = retry_after_s if retry_after_s is not None and retry_after_s % 1 else None
        inferred.refuse(now, permit.sent_at, nth, noise.first, dry=noise.dry, wait_s=exact_s)
        if retry_after_s is not None and inferred.dry and (retry_after_s > _ROUNDED_S or retry_after_s % 1):
            self._pause(now, retry_after_s)

    def overloaded(self, now: float, permit: Permit, retry_after_s: float | None) -> None:
        """Learn from a 503 or 529: fewer at once, and a pause where one was asked for."""
        self._give_back(permit)
        self._window.lost(permit.group)
        self._window.overloaded(now)
        if retry_after_s is not None:
            self._pause(now, retry_after_s)

    def timed_out(self, now: float, permit: Permit) -> None:
        """Learn from a request that was not answered in time."""
        self._give_back(permit)
        self._window.timed_out(now, permit.group)

    def ended(self, permit: Permit) -> None:
        """Learn that a request ended otherwise: cancelled, rejected, or failed."""
        self._give_back(permit)
        self._window.lost(permit.group)

    def blocked_by(self, now: float) -> str:
        """Say what keeps the next call back now, "" for nothing (the display's words)."""
        if self.paused_until > now:
            return f"waiting {self.paused_until - now:.0f} s, as the provider asks"
        waits = [
            (self.requests.wait_s(now, 1.0), f"{(self.requests.rate or 0) * 60:,.0f} requests a minute"),
            (self.tokens.wait_s(now, self._tokens_each), f"{(self.tokens.rate or 0) * 60:,.0f} tokens a minute"),
            (self.inferred.wait_s(now), f"about {(self.inferred.rate or 0) * 60:,.0f} requests a minute"),
        ]
        wait, limit = max(waits)
        return f"at the provider's limit: {limit}" if wait > 0 else ""

    def export(self) -> LearnedLimits:
        """Return what another run can begin with."""
        requests, tokens = self.requests, self.tokens
        return LearnedLimits(
            requests_per_min=None if requests.rate is None else requests.rate * 60,
            requests_at_once=None if requests.rate is None else requests.capacity,
            tokens_per_min=None if tokens.rate is None else tokens.rate * 60,
            tokens_at_once=None if tokens.rate is None else tokens.capacity,
            inferred_per_min=self.inferred.rate * 60
            if self.inferred.rate is not None and self.inferred.measured
            else None,
            window=self.window,
        )

    def restore(self, now: float, learned: LearnedLimits) -> None:
        """Begin with what another run learned.

        A told limit counts until the first reply, which tells it anew or not at all; a found one is where the
        search begins.
        """
        self._unconfirmed = True
        if learned.requests_per_min and learned.requests_at_once:
            self.requests.restore(now, learned.requests_per_min / 60, learned.requests_at_once)
        if learned.tokens_per_min and learned.tokens_at_once:
            self.tokens.restore(now, learned.tokens_per_min / 60, learned.tokens_at_once)
        if learned.inferred_per_min:
            self.inferred.restore(learned.inferred_per_min / 60)
        if learned.window:
            self._window.allow(learned.window)

    def _confirm(self, permit: Permit, report: LimitReport | None) -> None:
        """Drop a limit that was told once, where replies to later calls do not tell it any more."""
        silent = True
        for bucket, told in (
            (self.requests, report is not None and report.limit_requests),
            (self.tokens, report is not None and report.limit_tokens),
        ):
            if told:
                bucket.untold, bucket.confirmed, silent = 0, True, False
            elif bucket.rate is not None and permit.sent_at > bucket.told_at:
                bucket.untold += 1
                if not bucket.confirmed or bucket.untold >= _UNTOLD:
                    bucket.rate, bucket.confirmed = None, False
        self._untold = silent

    def _drop_untold(self, report: LimitReport | None) -> None:
        """Forget what another run was told where *report*, of a first reply, does not tell it."""
        if report is None or not report.limit_requests:
            self.requests.rate = None
        if report is None or not report.limit_tokens:
            self.tokens.rate = None

    def _give_back(self, permit: Permit) -> None:
        self._in_flight -= 1
        self._tokens_in_flight -= permit.tokens

    def _pause(self, now: float, seconds: float) -> None:
        self.paused_until = max(self.paused_until, now + min(seconds, _LONGEST_PAUSE_S))

    def _make_room(self, latency_s: float) -> None:
        """Widen the window to what the told limits allow: the provider's word needs no slow start."""
        rates = [] if self.requests.rate is None else [self.requests.rate]
        if self.tokens.rate is not None and self._tokens_each:
            rates.append(self.tokens.rate / self._tokens_each)
        if rates:
            self._window.allow(_ROOM * min(rates) * (self._window.latency_s or latency_s))

    def _observe(self, now: float, permit: Permit, report: LimitReport) -> None:
        if report.limit_requests and report.remaining_requests is not None:
            self.requests.observe(
                now, permit.sent_at, permit.requests_charged,
                report.limit_requests, report.remaining_requests, report.reset_requests_s,
            )  # fmt: skip
        if report.limit_tokens and report.remaining_tokens is not None:
            self.tokens.observe(
                now, permit.sent_at, permit.tokens_charged,
                report.limit_tokens, report.remaining_tokens, report.reset_tokens_s, permit.ahead,
            )  # fmt: skip
