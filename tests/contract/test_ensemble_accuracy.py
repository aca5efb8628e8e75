"""What several answers buy, over real HTTP: models that err at a known rate come to what the arithmetic says.

Nothing here hangs on chance: the nth answer to a prompt is always the same, and of two classes an odd number of
answers has a majority, whichever came first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook import engine
from pllm_notebook.execution import live_of
from pllm_notebook.sim import Simulator
from tests.contract.noisy import PROMPT, Noisy, by_chance, cascade, interval, labelled, plurality
from tests.contract.sides import OPENAI, reach

ROWS, NOISE = 500, 0.2
Pair = Literal["a", "b"]
# The second costs twenty times as much as the first, in input and in output.
CHEAP, STRONG, KNOWING, BIASED = "gpt-6-luna", "gpt-6-sol", "gpt-6.1-terra", "gpt-6.1-sol"


class Asked:
    """A noisy model behind the simulator, and the number of requests of each question put to it."""

    def __init__(self, sim: Simulator, errors: dict[str, float]) -> None:
        self._sim = sim
        self._answers = Noisy(labelled(ROWS, "ab"), "ab", errors, biased=BIASED)
        sim.set(answers=self._answers)

    def __call__(self, model: str = CHEAP, **options: Any) -> tuple[pd.DataFrame, int]:
        self._sim.reset()
        out = self._answers.frame.llm.parse(Pair, PROMPT, model=f"openai:{model}", **options)
        return out, self._sim.stats().answered


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for the tests of one noisy model: what `votes` has paid for is known to all of them."""
    yield tmp_path_factory.mktemp("cache")
    engine.shutdown()


@pytest.fixture(scope="module")
def votes(module_sim: Simulator, shared_cache: Path) -> dict[int, tuple[pd.DataFrame, int]]:
    """The noisy model's answers by their number for each row, in the order in which they were asked for."""
    with pytest.MonkeyPatch.context() as patch:
        reach(OPENAI, module_sim, patch)
        pllm.configure(cache_dir=shared_cache, progress=False)
        ask = Asked(module_sim, {CHEAP: NOISE})
        return {n: ask(samples=n) for n in (1, 3, 5)}


@pytest.fixture
def asked_before(votes: object, sim: Simulator, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The noisy model whose `votes` are known, and judges."""
    reach(OPENAI, sim, monkeypatch)
    pllm.configure(cache_dir=shared_cache, progress=False)
    return Asked(sim, {CHEAP: NOISE, KNOWING: 0.0})


def differing(out: pd.DataFrame) -> pd.Series[bool]:
    return out.llm.agreement["answer"] < 1


def right(out: pd.DataFrame) -> pd.Series[bool]:
    return out["answer"].astype(str) == out["label"]


@pytest.mark.usefixtures("asked_before")
def test_a_vote_is_as_often_right_as_the_arithmetic_says(votes: dict[int, tuple[pd.DataFrame, int]]) -> None:
    for n, (out, _) in votes.items():
        low, high = interval(plurality(n, NOISE, 2), ROWS)
        assert low <= out.llm.evaluate(against="label").accuracy <= high, n
    assert [calls for _, calls in votes.values()] == [ROWS, 2 * ROWS, 2 * ROWS], "only new samples are paid for"


def test_fewer_samples_are_evaluated_from_a_run_of_more(asked_before: Asked) -> None:
    out, calls = asked_before(samples=5)

    assert calls == 0

    table = out.llm.evaluate(against="label").by_samples

    for n in (1, 3, 5):
        low, high = interval(plurality(n, NOISE, 2), ROWS)
        assert low <= table.loc[n, "accuracy"] <= high, n
        assert table.loc[n, "pass_at_k"] == pytest.approx(1 - NOISE**n, abs=0.02)
    assert table.loc[5, "accuracy"] == right(out).mean()


def test_a_judge_is_called_for_the_rows_that_differ_and_no_others(asked_before: Asked) -> None:
    out, calls = asked_before(samples=3, decide="judge", judge=f"openai:{KNOWING}")

    differ = differing(out)
    assert calls == differ.sum() == live_of(out.llm.run).execution.decider.judged
    assert right(out)[differ].all()
    low, high = interval(cascade(3, NOISE, 0, 2)[0], ROWS)
    assert low <= differ.mean() <= high


def test_a_judge_that_favours_one_place_gains_nothing_from_the_order(asked_before: Asked) -> None:
    out, _ = asked_before(samples=3, decide="judge", judge=f"openai:{BIASED}")

    chances = by_chance(out)
    low, high = interval(0.5, len(chances))
    assert set(chances) == {0.5}
    assert low <= right(out)[differing(out)].mean() <= high


def test_a_cascade_is_as_good_as_its_strong_model_for_less_than_half_of_the_cost(luna: str, sim: Simulator) -> None:
    ask = Asked(sim, {CHEAP: 0.1, STRONG: 0.02})

    out, calls = ask(samples=3, decide="escalate", judge=f"openai:{STRONG}")
    strong, further = ask(STRONG)

    differ = differing(out)
    assert (calls, further) == (3 * ROWS + differ.sum(), ROWS - differ.sum()), "what was escalated is known"
    assert (out["answer"] == strong["answer"])[differ].all()
    low, high = interval(cascade(3, 0.1, 0.02, 2)[1], ROWS)
    assert low <= right(out).mean() <= high
    assert right(out).mean() >= right(strong).mean() - 0.01
    assert out.llm.run.cost == pytest.approx(out.llm.usage["cost_usd"].sum())
    assert out.llm.run.cost < strong.llm.usage["cost_usd"].sum() / 2
