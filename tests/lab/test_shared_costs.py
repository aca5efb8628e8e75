"""Calls that arms share: each arm costs what it would alone, and what was paid is counted once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.execution import blocking
from pllm_notebook.execution.window_progress import sum_of
from pllm_notebook.lab.shared_runs import Asked, SharedRuns
from pllm_notebook.sim import SimRequest

ROWS = 40
TWINS = {"A": "A {text}", "twin": "A {text}", "B": "B {text}"}


class Review(BaseModel):
    """A review."""

    mood: Literal["good", "bad"]


@pytest.fixture
def frame(cache_dir: Path) -> pd.DataFrame:
    def answer(request: SimRequest) -> Any:
        return {"mood": ["good", "bad"][int(request.prompt.split()[-1]) % 2]}

    pllm.configure(sim={"answers": answer, "latency_s": 0.2}, model="sim:openai")
    return pd.DataFrame({
        "text": [f"text {at}" for at in range(ROWS)],
        "gold": [["good", "bad"][at % 2] for at in range(ROWS)],
    })  # fmt: skip


def price_of(frame: pd.DataFrame, *prompts: str) -> float:
    """Return what the answers cost when they were paid for, each call once; sends nothing."""
    outs = [frame.drop_duplicates("text").llm.parse(Review, prompt, cache="only") for prompt in prompts]
    return float(sum(out.llm.usage["cost_usd"].sum() for out in outs))


def test_a_race_pays_once_for_a_call_that_two_arms_share_and_each_costs_what_it_would_alone(
    frame: pd.DataFrame,
) -> None:
    race = frame.llm.race(Review, TWINS, against="gold", field="mood", rule="proof", max_cost_usd=1)

    assert race.cost_usd == pytest.approx(price_of(frame, "A {text}", "B {text}"))
    assert [one.cost_usd for one in race.arms[:2]] == [pytest.approx(price_of(frame, "A {text}"))] * 2
    assert "for all arms together" in repr(race)
    assert "alone, the full run costs" in race._repr_html_()


def test_compared_variants_that_share_calls_pay_once_and_their_prices_are_of_each_alone(frame: pd.DataFrame) -> None:
    twice = pd.concat([frame, frame], ignore_index=True)

    found = pllm.compare(TWINS, Review, on=twice)

    assert found.cost_usd == pytest.approx(price_of(frame, "A {text}", "B {text}"))
    assert found["twin"].costs[1].cost_usd == pytest.approx(price_of(frame, "A {text}") / ROWS)
    assert "for all variants together" in repr(found)
    again = pllm.compare({"A": "A {text}", "twin": "A {text}"}, Review, on=twice)
    assert again.cost_usd == 0
    assert "Paid now" not in repr(again)


def test_an_arm_that_sends_fewer_columns_costs_the_calls_that_it_takes(frame: pd.DataFrame) -> None:
    frame = pd.concat([frame.assign(more="x"), frame.assign(more="y")], ignore_index=True)

    race = frame.llm.race(Review, {"A": "A {text}", "B": "B {more} {text}"}, against="gold", field="mood")

    assert race.arms[0].cost_usd == pytest.approx(price_of(frame, "A {text}"))
    assert race.arms[1].cost_usd == pytest.approx(
        float(frame.llm.parse(Review, "B {more} {text}").llm.usage["cost_usd"].sum())
    )


def test_the_line_of_several_runs_names_every_model_and_counts_a_shared_call_once(frame: pd.DataFrame) -> None:
    one = frame.head(2).llm.parse(Review, "A {text}").llm.run.progress()
    names = ["a:x (effort low, tier flex)", "b:y", "a:x (effort high, tier flex)", "b:y"]

    whole = one = replace(one, model="sim:openai")
    for name in names:
        whole = sum_of(whole, replace(one, model=name, cost_usd=3.0, joined_usd=1.0))

    assert whole.model == "sim:openai, a:x (effort low, tier flex), b:y, a:x (effort high, tier flex)"
    assert whole.cost_usd == pytest.approx(one.cost_usd + 4 * 2.0)


def test_cells_that_are_asked_about_once_more_keep_their_dtype(cache_dir: Path) -> None:
    asked: list[str] = []
    pllm.configure(
        sim={"answers": lambda request: asked.append(request.prompt) or {"mood": "good"}}, model="sim:openai"
    )
    frame = pd.DataFrame({
        "number": pd.array([1, None, 3], dtype="Int64"),
        "shop": pd.Categorical(["north", "south", "north"], ["south", "north", "west"]),
    })  # fmt: skip
    out = frame.llm.parse(Review, "{number} {shop}", na="send")
    before = sorted(asked)
    asked.clear()

    out.llm.recheck(n=3)

    assert sorted(asked) == sorted(before * 2)
    pllm.configure(sim={"answers": lambda request: {"mood": "bad"}})
    changed = frame.llm.parse(Review, "Now {number} {shop}", na="send").llm.compare(out).changed
    assert changed[["number", "shop"]].dtypes.to_dict() == frame.dtypes.to_dict()


def test_a_call_that_runs_of_one_ceiling_share_is_taken_from_it_once(frame: pd.DataFrame) -> None:
    runs = SharedRuns(1.0, False, "race")
    asked = Asked(frame[["text"]], Review, "A {text}", {})

    blocking(runs.ask([asked, asked]))

    assert runs.cost_usd == pytest.approx(price_of(frame, "A {text}"))
    assert runs.budget.paid_usd == pytest.approx(runs.cost_usd)
    assert runs.budget.reserved_usd == 0
