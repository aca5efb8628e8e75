"""One batch job: its lines, their results so far, and its times."""

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
    """One submitted line. `planned_fault` is its future fault, "" if it will be answered."""

    custom_id: str
    body: bytes | memoryview
    planned_fault: str = ""


@dataclass(slots=True)
class SimLineResult:
    """The result of a line.

    `status` and `body` are those that a live response would have; `message` is the message of an error.
    """

    custom_id: str
    kind: Kind
    number: str = ""
    status: int = 0
    body: bytes = b""
    message: str = ""


@dataclass(slots=True, eq=False)
class SimJob:
    """A job, independent of the provider. Times are in seconds since the epoch, by the simulator's clock.

    Invariant: `results[i]` belongs to `lines[i]`. Each answered line has a result; after the end every line has one.

    Attributes:
        given: Parts of the creating request that the provider keeps.
        model: Model in the path, "" if each line names its own.
        ends_at: Time at which the last line is answered.
        expires_at: Time at which unanswered lines expire.
        listed_at: Time from which the job is listed.
        cancel_s: Seconds from a cancellation to the end.
        unknown: Number of additional results with ids that were not submitted.
        order: Order of the results, as indices of lines.
        errors: Reasons why the job failed as a whole, in the provider's format; None if it did not.
        cancelled_at: Time of the cancellation request, None if there was none.
        spent: Total tokens of the answered lines.
        closed_at: Time of the end, None while the job is running.
        files: Result files created by the provider's endpoint.
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
        """Return the number of lines that are due by *now*. It stops growing at a cancellation or expiry."""
        if self.errors is not None:
            return 0
        until = min(now, self.expires_at, now if self.cancelled_at is None else self.cancelled_at)
        if until >= self.ends_at:
            return len(self.lines)
        return int(len(self.lines) * max(0.0, until - self.created_at) / (self.ends_at - self.created_at))

    @property
    def over_at(self) -> float:
        """Expected time of the end."""
        if self.errors is not None:
            return self.created_at
        over_at = min(self.ends_at, self.expires_at)
        return over_at if self.cancelled_at is None else min(over_at, self.cancelled_at + self.cancel_s)

    def close(self, now: float) -> None:
        """End the job if its time is over and its due lines are answered. Other lines are cancelled or expired."""
        if self.closed_at is not None or now < self.over_at or len(self.results) < self.due(now):
            return
        kind: Kind = "expired" if self.cancelled_at is None else "cancelled"
        if self.errors is None:
            self.results += [SimLineResult(line.custom_id, kind) for line in self.lines[len(self.results) :]]
        self.closed_at = self.over_at

    @property
    def state(self) -> SimJobState:
        """The state of the job. A partly expired job counts as expired; providers without that state use the counts."""
        if self.closed_at is None:
            return "running" if self.cancelled_at is None else "cancelling"
        if self.errors is not None:
            return "failed"
        if self.cancelled_at is not None:
            return "cancelled"
        return "expired" if any(result.kind == "expired" for result in self.results) else "ended"

    def counts(self) -> Counter[str]:
        """Count results by kind. Missing lines count as answered, as with the providers."""
        counted: Counter[str] = Counter(result.kind for result in self.results)
        counted["answered"] += counted.pop("missing", 0)
        return counted

    def sent_results(self) -> list[SimLineResult]:
        """Return the results in the order in which they are sent, with those of unknown ids at the end."""
        sent = [result for at in self.order if (result := self.results[at]).kind != "missing"]
        like = next((result for result in sent if result.kind == "answered"), None)
        if like is not None:
            sent += [
                SimLineResult(f"unknown-{number}", "answered", like.number, like.status, like.body)
                for number in range(1, self.unknown + 1)
            ]
        return sent
