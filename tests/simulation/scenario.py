"""What one seed draws: the rows, the question, and the steps of a life with their faults."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from tests.simulation.disk import DiskFaults
from tests.simulation.provider import ProviderFaults

__all__ = ["Question", "Scenario", "Step", "draw"]

# What meets a request when a provider is ill, and how often at most.
_MEETS = {
    "429 told": 0.3,
    "429 limits": 0.2,
    "429": 0.3,
    "500": 0.3,
    "503": 0.2,
    "529": 0.2,
    "reset before": 0.3,
    "reset after": 0.3,
    "hang": 0.15,
    "times out": 0.1,
    "spoilt html": 0.15,
    "spoilt empty": 0.15,
    "spoilt error": 0.15,
    "truncated": 0.2,
    "refused": 0.2,
    "filtered": 0.15,
    "wrong": 0.5,
    "fenced": 0.3,
    "gaps": 0.4,
}


@dataclass(frozen=True)
class Question:
    """What is asked of every row.

    Attributes:
        version: Stands in the prompt.
        shape: "text", or one of two types.
        salt: The option.
        pack: The option.
        samples: The option.
        judged: Whether samples that differ go to a judge.
        temperature: The option.
    """

    version: str = "v1"
    shape: str = "scored"
    salt: str = ""
    pack: int | None = None
    samples: int = 1
    judged: bool = False
    temperature: float | None = None

    @property
    def word(self) -> str:
        """What tells apart the draws of one conversation."""
        return f"{self.salt} {self.temperature}"


@dataclass(frozen=True)
class Step:
    """One run, and what befalls it.

    Attributes:
        question: What is asked.
        options: Further options of the call.
        provider: What meets its requests.
        disk: What meets its commits.
        dies_at: The process's step, counted from this one's beginning, at which it is killed; None for never.
        cancelled_at_s: When it is cancelled, None for never.
        beside_at_s: When the same is asked by a second run, None for never.
        beside_cancelled_at_s: When that one is cancelled.
        retried: Kinds that are retried when it has ended; () for those that can pass, None for no retry.
        restarts: Whether a new process begins before it.
        damages: Entries on disk that are damaged before it.
    """

    question: Question
    options: dict[str, Any] = field(default_factory=dict)
    provider: ProviderFaults = field(default_factory=ProviderFaults)
    disk: DiskFaults = field(default_factory=DiskFaults)
    dies_at: int | None = None
    cancelled_at_s: float | None = None
    beside_at_s: float | None = None
    beside_cancelled_at_s: float | None = None
    retried: tuple[str, ...] | None = None
    restarts: bool = False
    damages: int = 0


@dataclass(frozen=True)
class Scenario:
    """A life.

    Attributes:
        seed: What it was drawn from.
        cells: One for each row: a text, None for a missing one.
        ladder: Whether the server is one whose structured output is not guaranteed, and whose price nobody knows.
        steps: In order.
        delays_s: Of the first pieces of work that each process's workers are given; the others are drawn.
    """

    seed: int
    cells: tuple[str | None, ...]
    unenforced_schema: bool
    steps: tuple[Step, ...]
    delays_s: tuple[float, ...] = ()


def draw(seed: int) -> Scenario:
    """Draw the life of *seed*."""
    rng = random.Random(f"life {seed}")
    rows = rng.choice((0, 1, 2, 3, 5, 8, 12, 20, 40)) if rng.random() < 0.98 else 600
    pool = max(1, rng.choice((rows, rows, rows // 2, rows // 8)))
    cells = tuple(_cell(rng, pool) for _ in range(rows))
    unenforced_schema = rng.random() < 0.2
    question = Question(
        shape=rng.choice(("text", "scored", "scored", "labelled")),
        pack=rng.choice((None, None, None, 2, 3, 7)),
        samples=rng.choice((1, 1, 1, 1, 2, 3)),
        judged=rng.random() < 0.5,
        temperature=rng.choice((None, None, None, 0.5)),
    )
    if question.samples > 1:
        question = replace(question, pack=None)
    steps = []
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        if rng.random() < 0.15:
            question = _changed(rng, question)
        steps.append(_step(rng, question, rows, unenforced_schema))
    return Scenario(seed, cells, unenforced_schema, tuple(steps))


def _cell(rng: random.Random, pool: int) -> str | None:
    at = rng.random()
    if at < 0.04:
        return None
    return "half a pair \ud800" if at < 0.05 else f"item-{rng.randrange(pool)}"


def _changed(rng: random.Random, question: Question) -> Question:
    match rng.choice(("version", "shape", "salt", "pack", "samples", "temperature")):
        case "version":
            return replace(question, version="v2" if question.version == "v1" else "v1")
        case "shape":
            return replace(question, shape=rng.choice(("text", "scored", "labelled")))
        case "salt":
            return replace(question, salt=question.salt + "x")
        case "temperature":
            return replace(question, temperature=0.5 if question.temperature is None else None)
        case "pack" if question.samples == 1:
            return replace(question, pack=rng.choice((None, 2, 5)))
        case _ if question.pack is None:
            return replace(question, samples=question.samples % 3 + 1)
    return question


def _step(rng: random.Random, question: Question, rows: int, unenforced_schema: bool) -> Step:
    calls = rows * question.samples + 3
    options: dict[str, Any] = {"max_retries": rng.choice((0, 1, 2, 5)), "timeout_s": rng.choice((2.0, 6.0, 20.0))}
    if rng.random() < 0.1:
        options["mode"] = "sync"
    if rng.random() < 0.15:
        options["errors"] = "raise"
    if rng.random() < 0.2:
        options["hedge"] = True
    if rng.random() < 0.3:
        options["concurrency"] = rng.choice((1, 2, 8))
    if rng.random() < 0.1:
        options["requests_per_min"] = 300
    if rng.random() < 0.15:
        options["max_repairs"] = rng.choice((0, 2))
    if rng.random() < 0.15:
        options["cache"] = rng.choice(("refresh", "only", "off"))
    if rng.random() < 0.2 and not unenforced_schema:
        options["max_cost_usd"] = rng.uniform(0.1, 1.5) * calls * 3e-5
    beside = rng.random() < 0.2
    return Step(
        question,
        options,
        _provider(rng, rows),
        _disk(rng),
        dies_at=rng.randrange(1, 5 * calls) if rng.random() < 0.35 else None,
        cancelled_at_s=rng.choice((0.0, 0.01, rng.uniform(0.0, 5.0))) if rng.random() < 0.2 else None,
        beside_at_s=rng.choice((0.0, rng.uniform(0.0, 3.0))) if beside else None,
        beside_cancelled_at_s=rng.uniform(0.0, 5.0) if beside and rng.random() < 0.4 else None,
        retried=rng.choice(((), (), ("refusal", "truncated", "schema"))) if rng.random() < 0.25 else None,
        restarts=rng.random() < 0.4,
        damages=rng.choice((1, 2, 5)) if rng.random() < 0.08 else 0,
    )


def _provider(rng: random.Random, rows: int) -> ProviderFaults:
    shares = {name: rng.uniform(0.01, _MEETS[name]) for name in rng.sample(list(_MEETS), rng.choice((0, 1, 2, 4)))}
    if sum(shares.values()) > 0.8:
        shares = {name: share * 0.8 / sum(shares.values()) for name, share in shares.items()}
    return ProviderFaults(
        shares,
        median_s=rng.choice((0.05, 0.5, 2.0)),
        sigma=rng.choice((0.0, 0.5, 1.0)),
        slots=rng.choice((1, 3, 10)) if rng.random() < 0.15 else None,
        refuses_key_at=rng.randrange(2 * rows + 2) if rng.random() < 0.06 else None,
        poison=frozenset({"item-0"}) if rng.random() < 0.1 else frozenset(),
        no_temperature=rng.random() < 0.3,
        no_schema=rng.random() < 0.3,
        tells=rng.random() < 0.3,
    )


def _disk(rng: random.Random) -> DiskFaults:
    begins = rng.uniform(0.0, 2.0)
    return DiskFaults(
        latency_s=rng.choice((0.0, 0.001, 0.01, 0.5, 3.0)),
        group=rng.choice((1, 3, 1000)),
        refused=rng.uniform(0.05, 0.5) if rng.random() < 0.1 else 0.0,
        full=(begins, begins + rng.choice((5.0, 50.0, 120.0))) if rng.random() < 0.08 else (0.0, 0.0),
        weight=rng.choice((1_000, 1_000, 10 * 2**20)),
    )
