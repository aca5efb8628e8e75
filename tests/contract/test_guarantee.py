"""Low-cost answers with a promise, end to end over HTTP: what is sent, what is kept, and whether it is true."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel

from pllm_notebook.execution import run_registry
from pllm_notebook.formatting import format_usd
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator

PROMPT = "What is {text}?"
CHEAP, STRONG = "gpt-6-luna", "gpt-6-sol"
MOODS = ("good", "bad", "mixed")


class Review(BaseModel):
    """Facts."""

    mood: Literal["good", "bad", "mixed"]
    fits: bool
    note: str


def unit(*parts: object) -> float:
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class TwoModels:
    """A strong model, and a cheap one that differs from it where it is unsure, and seldom where it is sure.

    Args:
        unsure: Share of texts that it is unsure of.
        wrong: Share of those where it differs.
        sure_wrong: Share of the others where it differs.
    """

    def __init__(self, sim: Simulator, *, unsure: float = 0.2, wrong: float = 0.5, sure_wrong: float = 0.01) -> None:
        self.sim, self.unsure, self.wrong, self.sure_wrong = sim, unsure, wrong, sure_wrong
        sim.set(answers=self)

    def strong(self, text: str) -> dict[str, Any]:
        return {"mood": MOODS[int(unit(text, "mood") * 3)], "fits": unit(text, "fits") < 0.5, "note": "strong"}

    def is_unsure(self, text: str) -> bool:
        return unit(text, "unsure") < self.unsure

    def cheap(self, text: str) -> dict[str, Any]:
        value = self.strong(text)
        differs = unit(text, "differs") < (self.wrong if self.is_unsure(text) else self.sure_wrong)
        other = MOODS[(MOODS.index(value["mood"]) + 1) % 3]
        return value | {"note": "cheap"} | ({"mood": other} if differs else {})

    def __call__(self, request: SimRequest) -> SimAnswer:
        text = request.prompt.removeprefix("What is ").removesuffix("?")
        if request.model == STRONG:
            return SimAnswer.value(self.strong(text))
        value = self.cheap(text)
        p = 0.4 if self.is_unsure(text) else 0.9 + 0.09 * unit(text, "p")
        rest = dict.fromkeys(MOODS, (1 - p) / 2)
        return SimAnswer.value(value, probabilities={"mood": rest | {value["mood"]: p}})


def frame(rows: int, copies: int = 1) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"thing {n // copies}" for n in range(rows)]})


def ask(df: Any, **options: Any) -> Any:
    options = {"model": f"openai:{CHEAP}", "judge": f"openai:{STRONG}", "decide": "escalate", "guarantee": 0.95,
               "effort": "none"} | options  # fmt: skip
    return df.llm.parse(Review, PROMPT, **options)


def test_few_rows_keep_an_answer_that_differs_and_most_rows_cost_less(luna: str, sim: Simulator) -> None:
    models = TwoModels(sim)
    df = frame(600)

    out = ask(df)

    found = out.llm.guarantee
    strong = [models.strong(text)["mood"] for text in df["text"]]
    by_cheap = found.answered_by == f"openai:{CHEAP}"
    assert found.proved
    assert ((out["mood"].astype(str) != strong) & by_cheap).sum() <= 30
    assert (out["mood"].astype(str) == strong)[~by_cheap].all()
    assert found.rows_by_model == {f"openai:{CHEAP}": by_cheap.sum(), f"openai:{STRONG}": (~by_cheap).sum()}
    assert sim.stats().answered == 600 + (~by_cheap).sum()
    assert by_cheap.sum() > 250


def test_the_same_call_again_sends_nothing_and_says_the_same(luna: str, sim: Simulator) -> None:
    TwoModels(sim)
    df = frame(400)
    first = ask(df)
    requests, said = sim.stats().requests, repr(first.llm.guarantee)

    again = ask(df)

    assert sim.stats().requests == requests
    assert repr(again.llm.guarantee) == said
    pd.testing.assert_frame_equal(again, first)


def test_a_later_kernel_has_the_promise_and_the_models(luna: str, sim: Simulator) -> None:
    TwoModels(sim)
    out = ask(frame(300))
    said, models = repr(out.llm.guarantee), out.llm.guarantee.answered_by
    sure = out.llm.confidence
    run_registry.forget_all()

    found = out.llm.guarantee

    assert repr(found) == said
    pd.testing.assert_series_equal(found.answered_by, models)
    pd.testing.assert_frame_equal(out.llm.confidence, sure)
    assert sure["mood"].isna().equals(models == f"openai:{STRONG}")


def test_the_strong_model_is_asked_a_plain_question(luna: str, sim: Simulator) -> None:
    TwoModels(sim)
    df = frame(300)
    df.llm.parse(Review, PROMPT, model=f"openai:{STRONG}", effort="none")
    requests = sim.stats().requests

    out = ask(df)
    assert sim.stats().requests == requests + 300, "every strong answer was there"
    by_cheap = out.llm.guarantee.answered_by == f"openai:{CHEAP}"

    assert by_cheap.any()
    assert (out["note"] == "cheap").tolist() == by_cheap.tolist(), "what is known outside of the sample changes no row"


@pytest.mark.parametrize("copies", [1, 5])
def test_a_promise_is_about_rows_and_copies_share_their_calls(luna: str, sim: Simulator, copies: int) -> None:
    models = TwoModels(sim)
    df = frame(600, copies)

    out = ask(df)

    strong = [models.strong(text)["mood"] for text in df["text"]]
    assert (out["mood"].astype(str) != strong).sum() <= 30
    assert out.llm.guarantee.figures.rows == 600
    assert sum(out.llm.guarantee.rows_by_model.values()) == 600
    assert sim.stats().answered <= 2 * 600 / copies


def test_where_the_cheap_model_is_hopeless_the_strong_one_answers_every_row(luna: str, sim: Simulator) -> None:
    TwoModels(sim, unsure=1, wrong=0.6)
    df = frame(200)

    with pytest.warns(UserWarning, match="bad too often to promise 5 %"):
        out = ask(df)

    found = out.llm.guarantee
    assert not found.proved
    assert found.threshold is None
    assert found.rows_by_model == {f"openai:{CHEAP}": 0, f"openai:{STRONG}": 200}
    assert set(out["note"]) == {"strong"}
    assert found.saving_usd < 0


def test_a_table_that_is_too_small_for_a_sample_says_so(luna: str, sim: Simulator) -> None:
    TwoModels(sim)

    with pytest.warns(UserWarning, match="10 rows are too few to prove anything by a sample"):
        out = ask(frame(10))

    assert set(out["note"]) == {"strong"}


def test_samples_give_a_confidence_to_a_model_without_token_probabilities(luna: str, sim: Simulator) -> None:
    models = TwoModels(sim)

    def answer(request: SimRequest) -> SimAnswer:
        text = request.prompt.removeprefix("What is ").removesuffix("?")
        if request.model == STRONG:
            return SimAnswer.value(models.strong(text))
        value = models.strong(text)
        if models.is_unsure(text):
            value = value | {"mood": MOODS[asked[text] % 3]}
            asked[text] += 1
        return SimAnswer.value(value)

    asked: Counter[str] = Counter()
    sim.set(answers=answer)
    df = frame(300)

    out = ask(df, samples=3, concurrency=1)

    found = out.llm.guarantee
    assert found.proved
    assert found.figures.source == "samples"
    strong = [models.strong(text)["mood"] for text in df["text"]]
    assert (out["mood"].astype(str) == strong).all(), "where all three agree they are right here"
    assert found.threshold == 1


def test_an_estimate_says_what_it_may_save_and_what_it_costs_without(luna: str, sim: Simulator) -> None:
    TwoModels(sim)
    options: Any = {"model": f"openai:{CHEAP}", "judge": f"openai:{STRONG}", "decide": "escalate", "guarantee": 0.95}

    found = frame(1_000).llm.estimate(Review, PROMPT, effort="none", **options)
    alone = frame(1_000).llm.estimate(Review, PROMPT, effort="none", model=f"openai:{STRONG}")

    assert sim.stats().requests == 0
    assert found.strong == alone
    assert found.least_strong == 100
    assert "openai:gpt-6-sol on 100 to 1,000 rows" in repr(found)
    assert f"openai:gpt-6-sol alone {format_usd(alone.cost_usd)}" in repr(found)
