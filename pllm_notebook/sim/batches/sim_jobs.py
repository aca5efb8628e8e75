"""One batch job: its lines, what became of them so far, and its clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pllm_notebook.sim.wire_types import SimWire, Tokens

__all__ = ["Kind", "SimJob", "SimJobState", "SimLine", "SimLineResult"]

Kind = Literal["answered", "failed", "missing", "expired", "cancelled"]
SimJobState = Literal["running", "cancelling", "failed", "ended", "expired", "cancelled"]


@dataclass(slots=True)
class SimLine:
    """One line as submitted. `fate` is what is going to happen to it, "" for being answered."""

    custom_id: str
    body: bytes | memoryview
    planned_fault: str = ""


@dataclass(slots=True)
class SimLineResult:
    """What became of a line.

    `status` and `body` are those of the live response, where there was one; `message` is an error's words.
    """

    custom_id: str
    kind: Kind
    number: str = ""
    status: int = 0
    body: bytes = b""
    message: str = ""


@dataclass(slots=True, eq=False)
class SimJob:
    """A job, in no provider's terms. Times are in seconds since the epoch, by the simulator's clock.

    Invariant: `results[i]` is of `lines[i]`; there are as many as lines answered, and all once it is closed.

    Attributes:
        given: What the provider keeps of the request that created it.
        model: From the path; "" where each line names its own.
        ends_at: When the last line is answered.
        expires_at: When whatever is not answered by then expires.
        listed_at: From when on it is listed.
        cancel_s: Seconds from a cancellation to the end.
        unknown: Results to be made up under ids that were not submitted.
        order: Of the results, as indices of lines.
        errors: Why it failed as a whole, in the provider's form; None for a job that did not.
        cancelled_at: When it was asked to be cancelled, None for never.
        spent: Tokens of the answered lines together.
        closed_at: When it ended, None while it runs.
        files: What its front made of the results.
    """

    id: str
    wire: SimWire
    model: str
    lines: Sequence[SimLine]
    given: dict[str, Any]
    created_at: float
    ends_at: float
    expires_at: float
    listed_at: float
    cancel_s: float
    unknown: int
    order: Sequence[int]
    errors: Any = None
    cancelled_at: float | None = None
    results: list[SimLineResult] = field(default_factory=list)
    spent: Tokens = field(default_factory=lambda: Tokens(0, 0))
    closed_at: float | None = None
    files: dict[str, Any] = field(default_factory=dict)
    work: asyncio.Task[None] | None = None

    def due(self, now: float) -> int:
        """Return how many lines have fallen due by *now*; those of a cancelled or expired job stay where they were."""
        if self.errors is not None:
            return 0
        until = min(now, self.expires_at, now if self.cancelled_at is None else self.cancelled_at)
        if until >= self.ends_at:
            return len(self.lines)
        return int(len(self.lines) * max(0.0, until - self.created_at) / (self.ends_at - self.created_at))

    @property
    def over_at(self) -> float:
        """When it ends, as far as is known now."""
        if self.errors is not None:
            return self.created_at
        over_at = min(self.ends_at, self.expires_at)
        return over_at if self.cancelled_at is None else min(over_at, self.cancelled_at + self.cancel_s)

    def close(self, now: float) -> None:
        """End it if its time is over and its work is done: the lines that were not reached are cancelled or expired."""
        if self.closed_at is not None or now < self.over_at or len(self.results) < self.due(now):
            return
        kind: Kind = "expired" if self.cancelled_at is None else "cancelled"
        if self.errors is None:
            self.results += [SimLineResult(line.custom_id, kind) for line in self.lines[len(self.results) :]]
        self.closed_at = self.over_at

    @property
    def state(self) -> SimJobState:
        """Its state. One that expired in part has expired: providers without that state look at the counts."""
        if self.closed_at is None:
            return "running" if self.cancelled_at is None else "cancelling"
        if self.errors is not None:
            return "failed"
        if self.cancelled_at is not None:
            return "cancelled"
        return "expired" if any(result.kind == "expired" for result in self.results) else "ended"

    def counts(self) -> Counter[str]:
        """Count results by kind. A missing line is among the answered: so providers count it."""
        counted: Counter[str] = Counter(result.kind for result in self.results)
        counted["answered"] += counted.pop("missing", 0)
        return counted

    def sent_results(self) -> list[SimLineResult]:
        """Return the results to be sent, in their order, made-up ones at the end."""
        sent = [result for at in self.order if (result := self.results[at]).kind != "missing"]
        like = next((result for result in sent if result.kind == "answered"), None)
        if like is not None:
            sent += [
                SimLineResult(f"unknown-{number}", "answered", like.number, like.status, like.body)
                for number in range(1, self.unknown + 1)
            ]
        return sent
