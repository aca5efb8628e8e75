"""Requests as they leave this process.

What a caller's limits and ceilings promise is judged here, and not by the server: on a busy machine a server reads
late, all at once, or only after the client has given up, what was sent in time.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict

import pytest

from pllm_notebook.providers.sdk_transport import SDKTransport
from pllm_notebook.types import RawReply

__all__ = ["Departures"]


class Departures:
    """What left through the SDKs of OpenAI and Anthropic, retries among it.

    Attributes:
        moments: Path to when each request left, on the monotonic clock.
        in_flight: Requests that have left and not ended.
        peak: The most that were in flight at once.
    """

    def __init__(self) -> None:
        self.moments: dict[str, list[float]] = defaultdict(list)
        self.in_flight = self.peak = 0

    @classmethod
    def here(cls) -> Departures:
        """Return what leaves this process from here on."""
        seen = cls()
        seen.watch(pytest.MonkeyPatch())
        return seen

    def __len__(self) -> int:
        return sum(map(len, self.moments.values()))

    def most_above(self, per_s: float, path: str | None = None) -> float:
        """Return by how many requests, to *path* or to all, the busiest window exceeds *per_s* times its length.

        A pause of the process may add what had been admitted before it to what a bucket holds after it.
        """
        moments = itertools.chain(*self.moments.values()) if path is None else self.moments[path]
        most = earliest = 0.0
        for number, moment in enumerate(sorted(moments)):
            due = number - per_s * moment
            earliest = min(earliest, due) if number else due
            most = max(most, due - earliest + 1)
        return most

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Note every request from here on."""
        post = SDKTransport.post

        async def noted(transport: SDKTransport, path: str, content: bytes) -> RawReply:
            self.moments[path].append(time.monotonic())
            self.in_flight += 1
            self.peak = max(self.peak, self.in_flight)
            try:
                return await post(transport, path, content)
            finally:
                self.in_flight -= 1

        patch.setattr(SDKTransport, "post", noted)
