"""Send equal requests of one run once: rows validated in different contexts are calls of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pllm_notebook.execution.results import ResultTable

__all__ = ["SameRequests"]


class SameRequests:
    """Hold back calls while an equal request is in flight. Used on the engine's loop alone.

    Args:
        results: The table that the calls belong to.

    Attributes:
        waiting: The calls that wait for a reply, by the key of the request in flight.
    """

    def __init__(self, results: ResultTable) -> None:
        self._results = results
        self.waiting: dict[str, list[int]] = {}

    def note(self, calls: Iterable[int]) -> None:
        """Note that *calls* are being sent."""
        for call in calls:
            self.waiting.setdefault(self._results.keys[call], [])

    def holds(self, call: int, chosen: Sequence[int]) -> bool:
        """Hold back a call if an equal request is in flight or among *chosen*; return False if it may be sent."""
        keys = self._results.keys
        key = keys[call]
        if key not in self.waiting and key not in {keys[other] for other in chosen}:
            return False
        self.waiting.setdefault(key, []).append(call)
        return True

    def freed_by(self, call: int) -> Sequence[int]:
        """Return the calls that waited for *call*, which has ended: its reply is stored, or it failed."""
        return self.waiting.pop(self._results.keys[call], ())

    def drain(self) -> Iterator[int]:
        """Yield the calls that are held back, and clear the state."""
        for calls in self.waiting.values():
            yield from calls
        self.waiting.clear()
