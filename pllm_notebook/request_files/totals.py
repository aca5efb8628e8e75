"""What the runs of one request file come to together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pllm_notebook.execution import Run

__all__ = ["RunTotals"]


@dataclass(frozen=True, slots=True)
class RunTotals:
    """Sums over runs.

    Attributes:
        done: Lines answered by calls.
        cached: Lines that the store answered.
        in_flight: Calls on the wire.
        input_tokens: Of all calls.
        output_tokens: Likewise.
        cached_tokens: Of the input tokens, those that providers read from their prompt caches.
        cost_usd: None once a call of unknown price is among them.
        note: One line of news of those that are going, "" for none.
    """

    done: int = 0
    cached: int = 0
    in_flight: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = 0.0
    note: str = ""

    def including(self, runs: Iterable[Run]) -> RunTotals:
        """Return the sums with these runs added; of the ended ones nothing is news."""
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
