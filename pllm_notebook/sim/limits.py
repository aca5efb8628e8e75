"""Request and token limits: one pair of buckets for each model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pllm_notebook.sim.options import SimOptions

__all__ = ["Bucket", "Limits", "Standing"]


class Bucket:
    """A token bucket that starts full and refills all the time.

    Invariant: `level` is what it held at `at_s`, never more than `capacity`. It may be below zero, by what
    answers turned out to cost beyond what was known when they were let in.
    """

    __slots__ = ("at_s", "capacity", "level", "per_min", "per_s")

    def __init__(self, per_min: float, burst_s: float, least: float, now_s: float) -> None:
        self.per_min = per_min
        self.per_s = per_min / 60
        self.capacity = max(self.per_s * burst_s, least)
        self.level = self.capacity
        self.at_s = now_s

    def fill(self, now_s: float) -> None:
        """Bring the level up to date."""
        self.level = min(self.capacity, self.level + (now_s - self.at_s) * self.per_s)
        self.at_s = now_s

    def wait_s(self, amount: float) -> float:
        """Give the seconds until *amount* could be taken. More than it holds needs a full bucket, not forever."""
        short = min(amount, self.capacity) - self.level
        # A hair of tolerance: a client that waits exactly as long as it was told must get through.
        return short / self.per_s if short > 1e-6 else 0.0

    @property
    def full_in_s(self) -> float:
        """Seconds until it is full."""
        return (self.capacity - self.level) / self.per_s


@dataclass(slots=True)
class Standing:
    """Where a model stands with its limits after one request. `refused_by` is "" for a request let through."""

    requests: Bucket | None
    tokens: Bucket | None
    now_s: float
    refused_by: str = ""
    wait_s: float = 0.0
    asked: int = 0

    @property
    def retry_after(self) -> str:
        """Whole seconds to wait, as the header says them."""
        return str(max(1, math.ceil(self.wait_s)))


class Limits:
    """The limits of every model, made when a model is first named."""

    def __init__(self, options: SimOptions) -> None:
        self._options = options
        self._models: dict[str, tuple[Bucket | None, Bucket | None]] = {}
        self._any = bool(options.requests_per_min or options.tokens_per_min or options.limits)

    def admit(self, model: str, tokens: int, now_s: float) -> Standing | None:
        """Take one request of *tokens* input tokens, or refuse it. None where the model has no limit."""
        if not self._any:
            return None
        pair = self._models.get(model)
        if pair is None:
            pair = self._models[model] = self._make(model, now_s)
        requests, budget = pair
        if requests is None and budget is None:
            return None
        standing = Standing(requests, budget, now_s, asked=tokens)
        for name, bucket, amount in (("requests", requests, 1), ("tokens", budget, tokens)):
            if bucket is not None:
                bucket.fill(now_s)
                wait_s = bucket.wait_s(amount)
                if wait_s > standing.wait_s:
                    standing.refused_by, standing.wait_s = name, wait_s
        if not standing.refused_by:
            self._take(requests, 1)
            self._take(budget, tokens)
        elif self._options.charge_refused:
            # Not below empty: a client that stops asking must get through again.
            for bucket, amount in ((requests, 1), (budget, tokens)):
                if bucket is not None:
                    bucket.level = max(0.0, bucket.level - amount)
            standing.wait_s = max(
                standing.wait_s,
                requests.wait_s(1) if requests else 0.0,
                budget.wait_s(tokens) if budget else 0.0,
            )
        return standing

    def settle(self, model: str, output_tokens: int) -> None:
        """Take an answer's tokens, which nobody knew when its request was let in."""
        pair = self._models.get(model)
        if pair is not None:
            self._take(pair[1], output_tokens)

    @staticmethod
    def _take(bucket: Bucket | None, amount: float) -> None:
        if bucket is not None:
            bucket.level -= amount

    def _make(self, model: str, now_s: float) -> tuple[Bucket | None, Bucket | None]:
        options = self._options
        default = (options.requests_per_min, options.tokens_per_min)
        rpm, tpm = options.limits.get(model, default)
        return (
            Bucket(rpm, options.burst_s, 1, now_s) if rpm else None,
            Bucket(tpm, options.burst_s, 1, now_s) if tpm else None,
        )
