"""Request and token limits: a pair of buckets for each model."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from pllm_notebook.sim.simulator_options import SimOptions

__all__ = ["LimitBucket", "LimitState", "Limits"]


class LimitBucket:
    """A token bucket that starts full and refills continuously.

    Invariant: `level` is the level at `at_s` and never above `capacity`. It may be negative, because the output
    tokens of an answer are unknown when its request is admitted.
    """

    __slots__ = ("_burst_s", "_least", "_usual_per_min", "at_s", "capacity", "level", "per_min", "per_s")

    def __init__(self, per_min: float, burst_s: float, least: float, now_s: float, factor: float = 1.0) -> None:
        self._usual_per_min = per_min
        self._burst_s = burst_s
        self._least = least
        self._size(factor)
        self.level = self.capacity
        self.at_s = now_s

    def scale(self, factor: float, now_s: float) -> None:
        """Set rate and capacity to *factor* times the usual from *now_s* on. The next fill drops any excess."""
        self.fill(now_s)
        self._size(factor)

    def _size(self, factor: float) -> None:
        self.per_min = self._usual_per_min * factor
        self.per_s = self.per_min / 60
        self.capacity = max(self.per_s * self._burst_s, self._least)

    def fill(self, now_s: float) -> None:
        """Update the level to *now_s*."""
        self.level = min(self.capacity, self.level + (now_s - self.at_s) * self.per_s)
        self.at_s = now_s

    def wait_s(self, amount: float) -> float:
        """Return the seconds until *amount* can be taken. An amount above the capacity waits for a full bucket."""
        short = min(amount, self.capacity) - self.level
        # The tolerance admits a client that waits exactly as long as requested.
        return short / self.per_s if short > 1e-6 else 0.0

    @property
    def full_in_s(self) -> float:
        """Seconds until the bucket is full."""
        return (self.capacity - self.level) / self.per_s


@dataclass(slots=True)
class LimitState:
    """State of a model's limits after one request. `refused_by` is "" for an admitted request."""

    requests: LimitBucket | None
    tokens: LimitBucket | None
    now_s: float
    refused_by: str = ""
    wait_s: float = 0.0
    asked: int = 0

    @property
    def retry_after(self) -> str:
        """Value of the retry-after header, in whole seconds."""
        return str(max(1, math.ceil(self.wait_s)))


class Limits:
    """The limits of all models, created on first use of each model."""

    def __init__(self, options: SimOptions) -> None:
        self._options = options
        self._models: dict[str, tuple[LimitBucket | None, LimitBucket | None]] = {}
        self._any = bool(options.requests_per_min or options.tokens_per_min or options.limits)
        self._factor = 1.0
        # Times and factors of the squeeze's changes, counted from the first request. None before it.
        self._changes: deque[tuple[float, float]] | None = None

    def admit(self, model: str, tokens: int, now_s: float) -> LimitState | None:
        """Admit or refuse one request of *tokens* input tokens. Return None if the model has no limit."""
        if not self._any:
            return None
        if self._options.squeeze is not None:
            self._squeeze(self._options.squeeze, now_s)
        pair = self._models.get(model)
        if pair is None:
            pair = self._models[model] = self._make(model, now_s)
        requests, budget = pair
        if requests is None and budget is None:
            return None
        limit_state = LimitState(requests, budget, now_s, asked=tokens)
        for name, bucket, amount in (("requests", requests, 1), ("tokens", budget, tokens)):
            if bucket is not None:
                bucket.fill(now_s)
                wait_s = bucket.wait_s(amount)
                if wait_s > limit_state.wait_s:
                    limit_state.refused_by, limit_state.wait_s = name, wait_s
        if not limit_state.refused_by:
            self._take(requests, 1)
            self._take(budget, tokens)
        elif self._options.charge_refused:
            # Not below zero: a client that stops sending must be admitted again.
            for bucket, amount in ((requests, 1), (budget, tokens)):
                if bucket is not None:
                    bucket.level = max(0.0, bucket.level - amount)
            limit_state.wait_s = max(
                limit_state.wait_s,
                requests.wait_s(1) if requests else 0.0,
                budget.wait_s(tokens) if budget else 0.0,
            )
        return limit_state

    def settle(self, model: str, output_tokens: int) -> None:
        """Take the tokens of an answer, which were unknown when its request was admitted."""
        pair = self._models.get(model)
        if pair is not None:
            self._take(pair[1], output_tokens)

    def _squeeze(self, squeeze: tuple[float, float, float], now_s: float) -> None:
        if self._changes is None:
            start_s, end_s, factor = squeeze
            self._changes = deque([(now_s + start_s, factor), (now_s + end_s, 1.0)])
        while self._changes and now_s >= self._changes[0][0]:
            # Scale at the time of the change, not of this request: until then the bucket refilled at the old rate.
            at_s, self._factor = self._changes.popleft()
            for pair in self._models.values():
                for bucket in pair:
                    if bucket is not None:
                        bucket.scale(self._factor, at_s)

    @staticmethod
    def _take(bucket: LimitBucket | None, amount: float) -> None:
        if bucket is not None:
            bucket.level -= amount

    def _make(self, model: str, now_s: float) -> tuple[LimitBucket | None, LimitBucket | None]:
        options = self._options
        default = (options.requests_per_min, options.tokens_per_min)
        rpm, tpm = options.limits.get(model, default)
        return (
            LimitBucket(rpm, options.burst_s, 1, now_s, self._factor) if rpm else None,
            LimitBucket(tpm, options.burst_s, 1, now_s, self._factor) if tpm else None,
        )
