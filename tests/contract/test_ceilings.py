"""What a server would charge never passes `max_cost_usd`, in seeded mixes of all that a run can do.

The simulator counts what a provider could charge for everything that it let through: also for requests whose
connection it reset, whose reply it garbled, and whose client had left. `PLLM_CEILINGS=200` draws so many mixes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook.batch_jobs import service as offices
from pllm_notebook.execution import live_of
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.charges import charged
from tests.contract.sides import ANTHROPIC, GOOGLE, OPENAI, RESPONSES, Side, reach

pytestmark = pytest.mark.filterwarnings("ignore:.*(rows failed|stopped at max_cost_usd)")

MIXES = int(os.environ.get("PLLM_CEILINGS", "25"))

ANOTHER = {"gpt-6-luna": "gpt-6.1-terra", "claude-haiku-5-5": "claude-sonnet-5", "gpt-5-pro": "gpt-6-luna"}


class Review(BaseModel):
    """Facts of a review."""

    product: str
    mood: Literal["good", "bad"]
    score: int = Field(ge=1, le=5)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def untold(request: SimRequest) -> SimAnswer:
    """An answer as some gateways give it: without a word of its usage."""
    message = {"role": "assistant", "content": "good"}
    return SimAnswer.status(200, body={"choices": [{"message": message, "finish_reason": "stop"}]})


class Mix:
    """One draw: what is asked, of whom, over which line, for how much."""

    def __init__(self, seed: int) -> None:
        draw = self.draw = random.Random(seed)
        self.side: Side = draw.choice([OPENAI, OPENAI, ANTHROPIC, GOOGLE, RESPONSES])
        self.rows = draw.randrange(8, 40)
        self.frame = pd.DataFrame(
            {"text": [f"{n} " + "lorem ipsum " * draw.randrange(draw.choice([2, 60])) for n in range(self.rows)]}
        )
        self.kind = draw.choice([None, Review, Literal["good", "bad"], bool])
        self.batch = draw.random() < 0.2
        self.stopped = not self.batch and draw.random() < 0.15
        self.two = self.side.name in ANOTHER and draw.random() < 0.3
        self.server = self._server()
        self.options = self._options()

    def _server(self) -> dict[str, Any]:
        draw = self.draw
        faults = {
            name: draw.choice([0.0, 0.0, 0.05, 0.2])
            for name in ("reset", "malformed", "truncated_body", "html", "error_500", "refusal", "truncation",
                         "wrong_schema", "invalid_json")
        }  # fmt: skip
        scale = max(1.0, sum(faults.values()) / 0.8)
        return {
            **{name: rate / scale for name, rate in faults.items()},
            "seed": draw.randrange(1000),
            "latency_s": draw.choice([0.0, 0.01]),
            "reasoning_tokens": draw.choice([0, 0, 40, 900]),
            "prompt_cache": draw.random() < 0.5,
            "answers": self._answers(),
        }

    def _answers(self) -> Callable[[SimRequest], Any] | None:
        if self.kind is not None or self.batch or self.draw.random() < 0.5:
            return None
        long, odd = self.draw.random() < 0.5, self.side is OPENAI and self.draw.random() < 0.5

        def answer(request: SimRequest) -> Any:
            number = len(request.messages[-1][1])
            if odd and number % 5 == 0:
                return untold(request)
            return "word " * (number * 7 % 2_000 if long else 20)

        return answer

    def _options(self) -> dict[str, Any]:
        draw = self.draw
        options: dict[str, Any] = {"max_retries": draw.randrange(4), "max_repairs": draw.randrange(3)}
        options["max_output_tokens"] = draw.choice([None, None, None, 60, 3_000])
        if self.batch:
            return options | {"mode": "batch", "confirm": False}
        options["hedge"] = draw.random() < 0.3
        options["concurrency"] = draw.choice([None, 1, 5])
        how = draw.random()
        if how < 0.25:
            options |= {"samples": draw.choice([2, 3])}
        elif how < 0.4 and self.kind is not None:
            options |= {"samples": 2, "judge": self.side.model}
        elif how < 0.6:
            options |= {"pack": draw.choice([3, 10])}
        elif how < 0.7 and self.kind is None:
            options |= {"tools": (add,), "run_tools": True, "max_turns": 3}
        return options

    def ask(self, model: str, ceiling: float) -> pllm.Run:
        llm, given = self.frame.llm, self.options | {"model": model, "max_cost_usd": ceiling}
        if self.kind is None:
            return llm.submit_text("Say of this:\n{text}", **given)
        return llm.submit(self.kind, "Read this:\n{text}", **given)

    def ceiling(self) -> float:
        """From too little for one call to plenty."""
        one = 2e-5 if "luna" in self.side.name else 3e-4 if self.side is not RESPONSES else 0.02
        return one * self.rows * 10 ** self.draw.uniform(-0.8, 1.5)


@pytest.mark.sample(5)
@pytest.mark.parametrize("seed", range(MIXES))
def test_what_a_server_could_charge_never_passes_a_ceiling(
    sim: Simulator, cache_dir: object, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    mix = Mix(seed)
    reach(mix.side, sim, monkeypatch)
    monkeypatch.setattr(offices, "FIRST_LOOK_S", 0.02)
    sim.set(batch_s=0, **mix.server)
    names = [mix.side.name, *([ANOTHER[mix.side.name]] if mix.two else [])]
    ceilings = {name: mix.ceiling() for name in names}

    runs = {name: mix.ask(f"{mix.side.provider}:{name}", ceilings[name]) for name in names}
    if mix.stopped:
        first, some = next(iter(runs.values())), mix.draw.randrange(1, mix.rows)
        while not first.done() and sim.stats().requests < some:
            pass  # anywhere on the way; what is asserted holds wherever it was
        first.cancel()
    for run in runs.values():
        run.wait()

    for name, run in runs.items():
        check(run, charged(sim, name), ceilings[name])


def check(run: pllm.Run, charge: float, ceiling: float) -> None:
    progress = run.progress()
    paid, perhaps = run.cost, progress.maybe_paid_usd
    assert not live_of(run).execution.broken
    assert paid is not None
    assert charge <= ceiling * (1 + 1e-9), (charge, ceiling, progress)
    assert paid + perhaps <= ceiling * (1 + 1e-9)
    assert paid * 0.99 <= charge <= (paid + perhaps) * 1.01, (charge, progress)
    if not progress.maybe_paid_requests:
        assert paid == pytest.approx(charge, rel=0.01)
    assert progress.reserved_usd == 0.0
    assert progress.pending == 0 or run.state == "cancelled"
