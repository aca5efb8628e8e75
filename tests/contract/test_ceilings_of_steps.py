"""What a server would charge never passes the ceiling of what asks in several steps, whatever goes wrong on the way."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import live_of
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.charges import charged
from tests.contract.two_models import TwoModels, ask, frame

pytestmark = pytest.mark.filterwarnings("ignore:.*(rows? failed|stopped at max_cost_usd|Nothing is promised yet|lack)")

MOODS = ("good", "bad", "mixed")
CHAT, DECIDING = "openai:gpt-6.1-terra", "gpt-6-luna"


class Mood(BaseModel):
    """A review."""

    mood: Literal["good", "bad", "mixed"]


class Review(Mood):
    """A review."""

    summary: str


def faulty(sim: Simulator, seed: int) -> None:
    """Have replies lost, cut, broken and refused, some of them after they were paid for."""
    draw = random.Random(seed)
    rates = {name: draw.choice([0.0, 0.1, 0.2]) for name in ("reset", "malformed", "truncated_body", "error_500")}
    sim.set(seed=seed, **rates)


def answer(request: SimRequest) -> Any:
    if request.prompt.startswith("The text below is sent to a model"):
        return f"```\nSay of {{text}} what it is, number {len(request.prompt)}.\n```"
    mood = MOODS[len(request.prompt) % 3]
    value = {"mood": mood, "summary": "word " * (len(request.prompt) % 40)}
    rest = dict.fromkeys(MOODS, 0.1)
    return SimAnswer.value(value, probabilities={"mood": rest | {mood: 0.8}})


def rows(count: int) -> pd.DataFrame:
    texts = [f"{n} " + "lorem " * (n % 17) for n in range(count)]
    return pd.DataFrame({"text": texts, "gold": [MOODS[n % 3] for n in range(count)]})


@pytest.mark.parametrize("kind", [Mood, Review], ids=["decided", "decided and written"])
@pytest.mark.sample(4)
@pytest.mark.parametrize("seed", range(5))
def test_a_ceiling_holds_for_decisions(
    luna: str, sim: Simulator, cache_dir: Path, seed: int, kind: type[BaseModel]
) -> None:
    faulty(sim, seed)
    sim.set(answers=answer)
    ceiling = 10 ** random.Random(seed).uniform(-4.5, -2.0)

    run = rows(60).llm.submit(
        kind, "Read {text}", model=CHAT, probabilities="decisions", max_cost_usd=ceiling, hedge=seed % 2 == 0
    )
    run.wait()

    charge = charged(sim, deciding=DECIDING)
    progress = run.progress()
    assert not live_of(run).execution.broken
    assert run.cost is not None
    assert charge <= ceiling * (1 + 1e-9), progress
    assert run.cost * 0.99 <= charge <= (run.cost + progress.maybe_paid_usd) * 1.01, progress
    assert progress.reserved_usd == 0.0


def race(ceiling: float) -> Any:
    given = {"A": "A {text}", "B": "B {text}"}
    return rows(120).llm.race(
        Mood, given, models=["openai:gpt-6-luna", CHAT], against="gold", field="mood", max_cost_usd=ceiling
    )


def improve(ceiling: float) -> Any:
    out = rows(120).llm.parse(Mood, "Read {text}", model="openai:gpt-6-luna")
    return out.llm.improve(against="gold", field="mood", proposals=20, max_cost_usd=ceiling)


def guarantee(ceiling: float) -> Any:
    return ask(frame(150), max_cost_usd=ceiling).llm.run


@pytest.mark.sample(4)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("steps", [race, improve, guarantee])
def test_one_ceiling_holds_for_all_steps(
    luna: str, sim: Simulator, cache_dir: Path, steps: Callable[[float], Any], seed: int
) -> None:
    if steps is guarantee:
        TwoModels(sim)
    else:
        sim.set(answers=answer)
    begun = 0.0
    if steps is improve:  # of a frame whose answers were paid for before
        rows(120).llm.parse(Mood, "Read {text}", model="openai:gpt-6-luna")
        begun = charged(sim)
    faulty(sim, seed)
    ceiling = 10 ** random.Random(seed).uniform(-3.0, -1.5)

    try:
        made = steps(ceiling)
    except PllmError:
        made = None  # too little for one step of it
    charge = charged(sim) - begun

    assert charge <= ceiling * (1 + 1e-9)
    if made is not None:
        cost = made.cost if isinstance(made, pllm.Run) else made.cost_usd
        assert cost is not None
        assert cost <= charge * 1.01
