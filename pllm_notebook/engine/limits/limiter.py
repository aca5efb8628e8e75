"""When the next call may be sent, according to the provider's limits.

Limits are reported in headers or inferred from rate-limit refusals (429). Nothing here sleeps or reads a clock: time is
an argument. The caller asks how long to wait, then charges and sends without yielding in between. Charging after a
sleep would let every waiter see the same free slot.
"""

from __future__ import annotations

from dataclasses import dataclass

from pllm_notebook.engine.limits.concurrency_window import ConcurrencyWindow, SendGroup
from pllm_notebook.engine.limits.inferred_rate import InferredRate
from pllm_notebook.engine.limits.limit_inference import LimitInference
from pllm_notebook.engine.limits.token_bucket import TokenBucket
from pllm_notebook.types import LimitReport

__all__ = ["FIRST_WINDOW", "LearnedLimits", "Limiter", "Permit"]

FIRST_WINDOW = 32
MAX_WINDOW = 1000  # the SDKs' connection pools
# A stated wait of one second may be a hundredth of a second, rounded up. Only longer waits delay all calls.
_ROUNDED_S = 1.0
_MAX_PAUSE_S = 60.0
# Calls in flight, relative to the number that uses the reported limits in full at the observed latency.
_ROOM = 1.5
# Share of a call's tokens assumed to be charged when it is answered, until refusals show otherwise.
_FIRST_HIDDEN = 0.5
# If this many replies in a row do not report a limit that earlier ones reported, it no longer exists.
_MAX_UNREPORTED = 8
# How fast the token estimates follow the tokens that calls used, once there are many calls.
_FOLLOW = 0.05


@dataclass(slots=True)
class Permit:
    """The charge for one request. The caller passes it back to the limiter when the request ends.

    Attributes:
        sent_at: When the request was sent.
        estimated: Tokens of the request as estimated by the run.
        tokens: Tokens charged for it.
        ahead: Tokens in flight when it was sent.
        requests_charged: Requests charged so far, including this one.
        tokens_charged: Tokens charged so far, including this request's.
        nth: Number of the request.
        group: The calls it was sent with.
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
    """The limits that one run learned and the next can start with. None means not limited or not known.

    Attributes:
        requests_per_min: As reported by the provider.
        requests_at_once: Capacity of the bucket of requests, if its limit was reported.
        tokens_per_min: As reported by the provider.
        tokens_at_once: Capacity of the bucket of tokens, if its limit was reported.
        inferred_per_min: Requests a minute as inferred from 429 responses, if no limit was reported.
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
        requests: The limit of requests, as reported.
        tokens: The limit of tokens, as reported.
        inferred: The rate of requests, as inferred from 429 responses that no reported limit explains.
        inference: Infers that rate.
        paused_until: Time before which nothing is sent.
        refused: Total number of 429 responses.
        processes: Number of processes of this machine that send for this account and model. Each uses its share of the
            limits, because a reply reports what is left for all of them.
    """

    def __init__(self, *, window: int = FIRST_WINDOW, max_window: int = MAX_WINDOW) -> None:
        self.requests = TokenBucket()
        self.tokens = TokenBucket(hidden=_FIRST_HIDDEN)
        self.inferred = InferredRate()
        self.inference = LimitInference(self.inferred)
        self.paused_until = 0.0
        self.refused = 0
        self.processes = 1
        self._window = ConcurrencyWindow(window, max_window)
        self._in_flight = 0
        self._tokens_in_flight = 0.0
        self._token_ratio = 1.0
        self._tokens_each = 0.0
        self._counted = 0
        self._unconfirmed = False
        self._unreported = False

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

    def divide(self, processes: int) -> None:
        """Use one of *processes* equal shares of every limit from now on."""
        if processes != self.processes:
            scale = self.processes / processes
            self.processes = processes
            for limit in (self.requests, self.tokens, self.inference):
                limit.scale(scale)

    def wait_s(self, now: float, tokens: float) -> float:
        """Return the seconds until a call of *tokens* (as estimated) may be sent; 0 for now."""
        wait = self.paused_until - now
        if self.requests.rate is not None:
            wait = max(wait, self.requests.wait_s(now, 1.0))
        if self.tokens.rate is not None:
            wait = max(wait, self.tokens.wait_s(now, tokens * self._token_ratio))
        if self.inferred.rate is not None:
            wait = max(wait, self.inference.wait_s(now))
        return max(wait, 0.0)

    def charge(self, now: float, tokens: float) -> Permit:
        """Charge a call that is sent now. Pass each permit back to exactly one of the five methods below."""
        self._in_flight += 1
        need = tokens * self._token_ratio
        ahead = self._tokens_in_flight
        self._tokens_in_flight += need
        nth = self.inferred.charge(now)
        if self.inferred.rate is not None:
            self.inference.sent(now, nth)
        return Permit(
            now, tokens, need, ahead, self.requests.charge(now, 1.0), self.tokens.charge(now, need),
            nth, self._window.sent(self._in_flight),
        )  # fmt: skip

    def replied(self, now: float, permit: Permit, report: LimitReport | None, tokens: float | None) -> None:
        """Update the limits with a reply.

        Args:
            now: When the reply arrived.
            permit: As returned by `charge`.
            report: The limits in the reply's headers, None for none.
            tokens: Input and output tokens that the call used, None for unknown.
        """
        self._release(permit)
        self._window.replied(permit.group, now - permit.sent_at)
        if tokens is not None and permit.estimated > 0:
            self.tokens.settle(permit.tokens - tokens)
            self._counted += 1
            step = max(_FOLLOW, 1 / self._counted)
            self._token_ratio += step * (tokens / permit.estimated - self._token_ratio)
            self._tokens_each += step * (tokens - self._tokens_each)
        if self._unconfirmed:
            self._unconfirmed = False
            self._drop_unreported(report)
        self._confirm(permit, report)
        if report is not None:
            self._observe(now, permit, report)
            self._make_room(now - permit.sent_at)

    def refused_at(self, now: float, permit: Permit, report: LimitReport | None, retry_after_s: float | None) -> None:
        """Update the limits with a 429 response. The request took nothing from the server's bucket.

        Only headers, or several refusals together, show that the bucket is empty. A single refusal may be noise, and
        its stated wait delays only that call.
        """
        self.refused += 1
        self._release(permit)
        self._window.lost(permit.group)
        self.requests.refund(1.0, permit.requests_charged)
        self.tokens.refund(permit.tokens, permit.tokens_charged)
        if report is not None and self._unreported and self.inferred.rate is None:
            report = None  # replies report no limit, so the refusal's headers are not believed
        if report is not None and self._explained(now, permit, report, retry_after_s):
            return
        shut = self.inference.refused(now, permit.sent_at, permit.nth, retry_after_s)
        if shut and retry_after_s is not None and (retry_after_s > _ROUNDED_S or retry_after_s % 1):
            self._pause(now, retry_after_s)

    def _explained(self, now: float, permit: Permit, report: LimitReport, retry_after_s: float | None) -> bool:
        """Update the limits with a refusal's headers; return whether the limits that they report explain it."""
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
                        # A request is charged when it is admitted, so at least *remaining* is left. (A bucket of tokens
                        # may be overdrawn: then nothing remains, and only the stated wait shows by how much.)
                        wait_s = min(wait_s, (need - remaining) / bucket.rate)
                    bucket.refuse(now, need, wait_s, ahead)
        return explained

    def overloaded(self, now: float, permit: Permit, retry_after_s: float | None) -> None:
        """Update the limits with a 503 or 529: fewer calls in flight, and a pause if the provider stated one."""
        self._release(permit)
        self._window.lost(permit.group)
        self._window.overloaded(now)
        if retry_after_s is not None:
            self._pause(now, retry_after_s)

    def timed_out(self, now: float, permit: Permit) -> None:
        """Count a request that timed out."""
        self._release(permit)
        self._window.timed_out(now, permit.group)

    def ended(self, permit: Permit) -> None:
        """Count a request that ended in another way: cancelled, rejected, or failed."""
        self._release(permit)
        self._window.lost(permit.group)

    def blocked_by(self, now: float) -> str:
        """Describe what delays the next call now; "" if nothing does. The display shows this text."""
        if self.paused_until > now:
            return f"waiting {self.paused_until - now:.0f} s, as the provider asks"
        per_min = 60 * self.processes
        waits = [
            (self.requests.wait_s(now, 1.0), f"{(self.requests.rate or 0) * per_min:,.0f} requests a minute"),
            (self.tokens.wait_s(now, self._tokens_each), f"{(self.tokens.rate or 0) * per_min:,.0f} tokens a minute"),
            (self.inferred.wait_s(now), f"about {(self.inferred.rate or 0) * per_min:,.0f} requests a minute"),
        ]
        wait, limit = max(waits)
        divided = f", divided among {self.processes} processes" if self.processes > 1 else ""
        return f"at the provider's limit: {limit}{divided}" if wait > 0 else ""

    def export(self) -> LearnedLimits:
        """Return the limits that another run can start with."""
        requests, tokens, inferred, all_of_it = self.requests, self.tokens, self.inferred, self.processes
        return LearnedLimits(
            requests_per_min=None if requests.rate is None else requests.rate * 60 * all_of_it,
            requests_at_once=None if requests.rate is None else requests.capacity * all_of_it,
            tokens_per_min=None if tokens.rate is None else tokens.rate * 60 * all_of_it,
            tokens_at_once=None if tokens.rate is None else tokens.capacity * all_of_it,
            inferred_per_min=inferred.rate * 60 * all_of_it
            if inferred.rate is not None and inferred.measured
            else None,
            window=self.window,
        )

    def restore(self, now: float, learned: LearnedLimits) -> None:
        """Start with the limits that another run learned.

        A reported limit applies until the first reply, which reports the current limit or none. The search for an
        inferred limit starts at the learned rate.
        """
        self._unconfirmed = True
        part = 1 / self.processes
        if learned.requests_per_min and learned.requests_at_once:
            self.requests.fill(now, learned.requests_per_min / 60 * part, learned.requests_at_once * part)
        if learned.tokens_per_min and learned.tokens_at_once:
            self.tokens.fill(now, learned.tokens_per_min / 60 * part, learned.tokens_at_once * part)
        if learned.inferred_per_min:
            self.inference.restore(learned.inferred_per_min / 60 * part)
        if learned.window:
            self._window.allow(learned.window)

    def _confirm(self, permit: Permit, report: LimitReport | None) -> None:
        """Drop a reported limit once replies to later calls no longer report it."""
        silent = True
        for bucket, reported in (
            (self.requests, report is not None and report.limit_requests),
            (self.tokens, report is not None and report.limit_tokens),
        ):
            if reported:
                bucket.unreported, bucket.confirmed, silent = 0, True, False
            elif bucket.rate is not None and permit.sent_at > bucket.reported_at:
                bucket.unreported += 1
                if not bucket.confirmed or bucket.unreported >= _MAX_UNREPORTED:
                    bucket.rate, bucket.confirmed = None, False
        self._unreported = silent

    def _drop_unreported(self, report: LimitReport | None) -> None:
        """Drop the limits that another run learned if *report*, of the first reply, does not contain them."""
        if report is None or not report.limit_requests:
            self.requests.rate = None
        if report is None or not report.limit_tokens:
            self.tokens.rate = None

    def _release(self, permit: Permit) -> None:
        self._in_flight -= 1
        self._tokens_in_flight -= permit.tokens

    def _pause(self, now: float, seconds: float) -> None:
        self.paused_until = max(self.paused_until, now + min(seconds, _MAX_PAUSE_S))

    def _make_room(self, latency_s: float) -> None:
        """Widen the window to what the reported limits allow. With known limits a slow start is not needed."""
        rates = [] if self.requests.rate is None else [self.requests.rate]
        if self.tokens.rate is not None and self._tokens_each:
            rates.append(self.tokens.rate / self._tokens_each)
        if rates:
            self._window.allow(_ROOM * min(rates) * (self._window.latency_s or latency_s))

    def _observe(self, now: float, permit: Permit, report: LimitReport) -> None:
        part = 1 / self.processes
        if report.limit_requests and report.remaining_requests is not None:
            self.requests.observe(
                now, permit.sent_at, permit.requests_charged,
                report.limit_requests * part, report.remaining_requests * part, report.reset_requests_s,
            )  # fmt: skip
        if report.limit_tokens and report.remaining_tokens is not None:
            self.tokens.observe(
                now, permit.sent_at, permit.tokens_charged, report.limit_tokens * part,
                report.remaining_tokens * part, report.reset_tokens_s, permit.ahead,
            )  # fmt: skip
