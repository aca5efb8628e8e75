"""Calls of one run that make the same request, since their rows are validated in unlike contexts: it is sent once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pllm_notebook.execution.results import ResultTable

__all__ = ["SameRequests"]


class SameRequests:
    """Hold back calls while their request is out. Used on the engine's loop alone.

    Args:
        results: The table that the calls belong to.
    """

    def __init__(self, results: ResultTable) -> None:
        self._results = results
        # By the keys of requests that are out: the calls that wait for the reply.
        self._waiting: dict[str, list[int]] = {}

    @property
    def any_held(self) -> bool:
        """Whether any call is held back."""
        return any(self._waiting.values())

    def note(self, calls: Iterable[int]) -> None:
        """Note that these calls are sent."""
        for call in calls:
            self._waiting.setdefault(self._results.keys[call], [])

    def holds(self, call: int, chosen: Sequence[int]) -> bool:
        """Hold back a call whose request is out, or is among *chosen*; return False where it may be sent."""
        keys = self._results.keys
        key = keys[call]
        if key not in self._waiting and key not in {keys[other] for other in chosen}:
            return False
        self._waiting.setdefault(key, []).append(call)
        return True

    def freed_by(self, call: int) -> Sequence[int]:
        """Return the calls that have waited for the reply to a call which has ended: it is in the store, or failed."""
        return self._waiting.pop(self._results.keys[call], ())

    def drain(self) -> Iterator[int]:
        """Yield the calls that are held back, and forget all."""
        for calls in self._waiting.values():
            yield from calls
        self._waiting.clear()
