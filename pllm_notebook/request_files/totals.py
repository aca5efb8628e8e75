"""Sums over the runs of one request file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pllm_notebook.execution import LiveRun

__all__ = ["RunTotals"]


@dataclass(frozen=True, slots=True)
class RunTotals:
    """Sums over runs.

    Attributes:
        done: Lines answered by calls.
        cached: Lines answered from the cache.
        in_flight: Calls in flight.
        input_tokens: Input tokens of all calls.
        output_tokens: Output tokens of all calls.
        cached_tokens: Input tokens that providers read from their prompt caches.
        cost_usd: Cost of all calls, None once one has an unknown price.
        note: Status note of the unfinished runs, "" for none.
    """

    done: int = 0
    cached: int = 0
    in_flight: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = 0.0
    note: str = ""

    def including(self, runs: Iterable[LiveRun]) -> RunTotals:
        """Return the sums with these runs added; notes of runs that have ended are left out."""
        total, notes = self, dict.fromkeys([self.note] if self.note else [])
        for run in runs:
            one = run.progress()
            if one.note and one.state == "running":
                notes[one.note] = None
            unknown = total.cost_usd is None or one.cost_usd is None
            total = RunTotals(
                total.done + one.done,
                total.cached + one.cached,
                total.in_flight + (one.in_flight if one.state == "running" else 0),
                total.input_tokens + one.input_tokens,
                total.output_tokens + one.output_tokens,
                total.cached_tokens + one.cached_tokens,
                None if unknown else (total.cost_usd or 0.0) + (one.cost_usd or 0.0),
                "; ".join(notes),
            )
        return total
