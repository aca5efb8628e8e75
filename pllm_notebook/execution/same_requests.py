"""Calls of one run that make the same request, since their rows are validated in unlike contexts: it is sent once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pllm_notebook.execution.results import ResultTable

__all__ = ["SameRequests"]


class SameRequests:
    """Hold back calls while their request is out. Used on the engine's loop alone.

    Args:
        results: The table that the calls belong to.

    Attributes:
        waiting: By the key of each request that is out, the calls that wait for its reply.
    """

    def __init__(self, results: ResultTable) -> None:
        self._results = results
        self.waiting: dict[str, list[int]] = {}

    def note(self, calls: Iterable[int]) -> None:
        """Note that these calls are sent."""
        for call in calls:
            self.waiting.setdefault(self._results.keys[call], [])

    def holds(self, call: int, chosen: Sequence[int]) -> bool:
        """Hold back a call whose request is out, or is among *chosen*; return False where it may be sent."""
        keys = self._results.keys
        key = keys[call]
        if key not in self.waiting and key not in {keys[other] for other in chosen}:
            return False
        self.waiting.setdefault(key, []).append(call)
        return True

    def freed_by(self, call: int) -> Sequence[int]:
        """Return the calls that have waited for the reply to a call which has ended: it is in the store, or failed."""
        return self.waiting.pop(self._results.keys[call], ())

    def drain(self) -> Iterator[int]:
        """Yield the calls that are held back, and forget all."""
        for calls in self.waiting.values():
            yield from calls
        self.waiting.clear()
