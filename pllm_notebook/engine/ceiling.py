"""Rates that several runs, or several questions of one run, keep together."""

from __future__ import annotations

from pllm_notebook.engine.bucket import Bucket

__all__ = ["Ceiling"]


class Ceiling:
    """A caller's own limit of a provider, whatever models and runs its calls are of.

    The feeds that keep it take from the same two buckets, each of which holds a second's worth. Used on the
    engine's loop alone; it may be made anywhere, and outlive the loop.

    Args:
        requests_per_min: None for no limit.
        tokens_per_min: Likewise; of input and output together, as they are estimated before a call is sent.

    Attributes:
        requests: What is left of the one; an unknown rate is no limit.
        tokens: Of the other.
    """

    def __init__(self, requests_per_min: float | None = None, tokens_per_min: float | None = None) -> None:
        self.requests = _full(requests_per_min)
        self.tokens = _full(tokens_per_min)

    def __repr__(self) -> str:
        return f"Ceiling(requests={_per_min(self.requests)}, tokens={_per_min(self.tokens)})"


def _full(per_min: float | None) -> Bucket:
    bucket = Bucket()
    if per_min is not None:
        # At the beginning of time: a full bucket cannot become fuller until the first call takes from it.
        bucket.begin(0.0, per_min / 60, max(1.0, per_min / 60))
    return bucket


def _per_min(bucket: Bucket) -> str:
    return "none" if bucket.rate is None else f"{bucket.rate * 60:g} a minute"
