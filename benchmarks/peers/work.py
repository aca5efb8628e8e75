"""The input of every client of the comparison, and the one line that it prints.

A client is called as `python CLIENT.py ADDRESS SCENARIO`: the provider's base address, and the scenario with
its runs and their rows as JSON. It prints {"answered", "failed", "wall_s", "cpu_s", "runs"}, with an `Ended` for each
run. The time is that of the work alone, from the call that starts it to its return: without imports, but with
everything else that a client creates first (an event loop, a connection pool, an engine).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field

__all__ = ["KEY", "PROMPT", "Ended", "Review", "Work", "measure", "report"]

KEY = "simulated"
PROMPT = "Read this review, and answer only from it:\n{text}"


class Review(BaseModel):
    """Facts stated in a product review."""

    product: str
    sentiment: Literal["positive", "negative", "neutral"]
    score: int = Field(ge=1, le=5)


@dataclass(frozen=True)
class Work:
    """The work of one client.

    Attributes:
        address: The provider's base address.
        provider: Its wire format.
        runs: Model and texts of each run; all run at once.
        timeout_s: Seconds that one call may take. None for the client's default.
        sim: The simulator's options. Only a client that needs to know the limits may read them.
    """

    address: str
    provider: str
    runs: tuple[tuple[str, tuple[str, ...]], ...]
    timeout_s: float | None
    sim: dict[str, Any]

    @property
    def timeout(self) -> dict[str, float]:
        """Time limit of one call as a keyword argument of the SDKs. Empty for their own default."""
        return {} if self.timeout_s is None else {"timeout": self.timeout_s}


@dataclass(frozen=True)
class Ended:
    """How one run ended: rows answered, seconds from the start, and what it raised ("" for nothing)."""

    answered: int
    wall_s: float
    raised: str = ""


def measure(do: Callable[[Work], Sequence[Ended]], prepare: Callable[[Work], object] = lambda work: None) -> None:
    """Read the command line, do the work, and print its result and times.

    Args:
        do: The work, which is timed.
        prepare: Imports that a client makes late. They are not counted, like all other imports.
    """
    scenario = json.loads(sys.argv[2])
    runs = tuple(
        (run["model"], tuple(f"review number {n}: it works as it should" for n in range(run["rows"])))
        for run in scenario["runs"]
    )
    work = Work(sys.argv[1], scenario["provider"], runs, scenario["timeout_s"], scenario["sim"])
    prepare(work)
    cpu_s, start = time.process_time(), time.perf_counter()
    ended = do(work)
    wall_s = time.perf_counter() - start
    answered = sum(run.answered for run in ended)
    total = sum(len(texts) for _, texts in runs)
    line = {
        "answered": answered,
        "failed": total - answered,
        "wall_s": wall_s,
        "cpu_s": time.process_time() - cpu_s,
        "runs": [asdict(run) for run in ended],
    }
    print(json.dumps(line), flush=True)


def report(ask: Callable[[Work, str, list[str]], Awaitable[Sequence[Any]]]) -> None:
    """Measure *ask*, which returns one result for each prompt of a model: a `Review` if it was answered."""

    async def one(work: Work, model: str, texts: Sequence[str], start: float) -> Ended:
        prompts = [PROMPT.replace("{text}", text) for text in texts]
        try:
            answers: Sequence[Any] = await ask(work, model, prompts)
            raised = ""
        except Exception as error:
            answers, raised = (), type(error).__name__
        return Ended(sum(isinstance(answer, Review) for answer in answers), time.perf_counter() - start, raised)

    async def everything(work: Work) -> list[Ended]:
        start = time.perf_counter()
        return await asyncio.gather(*(one(work, model, texts, start) for model, texts in work.runs))

    measure(lambda work: asyncio.run(everything(work)))
