"""Runs whose counts a test sets, as a window knows them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from pllm_notebook.types import Progress

_NUMBERS = itertools.count()


def counts_of(total: int, done: int = 0, **others: Any) -> Progress:
    given: dict[str, Any] = {
        "label": "rows", "model": "here:any", "simulated": False, "cached": 0, "failed": 0, "skipped": 0,
        "in_flight": 0, "elapsed_s": 0.0, "rows_per_s": 0.0, "eta_s": None, "input_tokens": 0, "output_tokens": 0,
        "cost_usd": 0.0, "budget_usd": None, "note": "", "state": "running",
    }  # fmt: skip
    return Progress(total=total, done=done, **(given | others))


@dataclass
class CountedRun:
    """A run over some rows, of which *left* have no outcome."""

    total: int
    left: int
    in_flight: int = 0
    note: str = ""
    reserved_usd: float = 0.0
    alive: bool = True
    state: str = "running"
    id: str = field(default_factory=lambda: f"counted {next(_NUMBERS)}")

    def progress(self) -> Progress:
        return counts_of(
            self.total,
            self.total - self.left,
            in_flight=self.in_flight,
            note=self.note,
            reserved_usd=self.reserved_usd,
            state=self.state,
        )

    def done(self) -> bool:
        return self.state != "running" or self.left == 0

    def cancel(self) -> None:
        self.state = "cancelled"


@dataclass
class CountedPiece:
    """A piece of a source, with its run."""

    run: Any

    def is_over(self) -> bool:
        return bool(self.run.done())

    def open_rows(self, counts: Progress) -> int:
        return counts.pending
