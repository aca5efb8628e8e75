"""One odd answer among several of a decision endpoint: it fails its own row, never a neighbour.

A request holds the questions about one row. A row with an odd answer fails as one with an odd field in a generated
reply does: as a whole, or in the fields of that call where chat writes others.
"""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator

from .test_decisions import GOOGLE, decided, reach_all

pytestmark = pytest.mark.filterwarnings("ignore:.*(rows failed|lacks? a field)")


class Opinion(BaseModel):
    mood: Literal["good", "bad"]
    again: bool


class Written(Opinion):
    summary: str


SHARES = {"good": 0.9, "bad": 0.1}
LISTED = [{"value": value, "probability": p} for value, p in SHARES.items()]
MOOD = {"type": "choice", "name": "mood", "choice": "good", "probabilities": LISTED}
AGAIN = {"type": "predicate", "name": "again", "probability": 0.9}
FINE = [MOOD, AGAIN]
ODD: dict[str, tuple[list[Any], str]] = {
    "another type": ([MOOD, AGAIN | {"type": "odd"}], "an answer of the type 'odd'"),
    "text as a probability": ([MOOD, AGAIN | {"probability": "high"}], "'high', not a number"),
    "an option too few": ([MOOD | {"probabilities": LISTED[:1]}, AGAIN], "other options than the question: bad"),
    "an answer missing": ([MOOD], "no answer to the question 'again'"),
    "an answer without a name": ([MOOD, AGAIN | {"name": None}], "no answer to the question 'again'"),
    "an answer twice": ([MOOD, MOOD, AGAIN], "two answers to the question 'mood'"),
    "no answers": ([], "no answer to the question 'mood'"),
}
TOKENS = 100
USAGE = {"input_tokens": TOKENS, "output_tokens": 0, "total_tokens": TOKENS}


def replying(sim: Simulator, odd: list[Any], fine: list[Any] = FINE) -> None:
    def answers(request: SimRequest) -> SimAnswer:
        if "questions" not in request.body:
            return SimAnswer.value({"summary": "so"})
        said = odd if request.prompt == "two" else fine
        return SimAnswer.status(200, body={"answers": said, "model": "gpt-6-luna", "usage": USAGE})

    sim.set(answers=answers)


@pytest.mark.parametrize("case", ODD)
def test_an_odd_answer_fails_its_own_row_alone(luna: str, sim: Simulator, case: str) -> None:
    odd, said = ODD[case]
    replying(sim, odd)

    out = decided(Opinion, "one", "two", "three", max_retries=0)

    assert sim.stats().requests == 3, "one for each row: no request holds two"
    assert out.llm.status.tolist() == ["ok", "failed", "ok"]
    assert out["mood"].isna().tolist() == out["again"].isna().tolist() == [False, True, False]
    assert out.llm.errors[["position", "kind"]].to_numpy().tolist() == [[1, "malformed_reply"]]
    assert said in out.llm.errors["message"].iloc[0]
    assert out.llm.errors["cost_usd"].isna().all(), "perhaps paid"


@pytest.mark.parametrize("case", ODD)
def test_an_odd_answer_leaves_what_chat_has_written(luna: str, sim: Simulator, case: str) -> None:
    replying(sim, ODD[case][0])

    out = decided(Written, "one", "two", max_retries=0)

    assert out["summary"].tolist() == ["so", "so"]
    assert out["mood"].isna().tolist() == [False, True]
    assert out.llm.errors[["position", "kind", "field"]].to_numpy().tolist() == [
        [1, "malformed_reply", "mood"],
        [1, "malformed_reply", "again"],
    ]


@pytest.mark.parametrize("case", ODD)
def test_only_the_row_with_an_odd_answer_is_sent_and_paid_for_again(luna: str, sim: Simulator, case: str) -> None:
    replying(sim, ODD[case][0])
    decided(Opinion, "one", "two", "three", max_retries=0)

    replying(sim, FINE)
    out = decided(Opinion, "one", "two", "three", max_retries=0)

    assert sim.stats().requests == 4
    assert out.llm.status.tolist() == ["cached", "ok", "cached"]
    assert pllm.runs()[-1].progress().input_tokens == TOKENS


@pytest.mark.parametrize("case", ODD)
def test_a_reply_with_an_odd_answer_is_paid_or_perhaps_paid_and_never_both(
    luna: str, sim: Simulator, case: str
) -> None:
    replying(sim, ODD[case][0])

    decided(Opinion, "one", "two", "three", max_retries=1)

    spent = pllm.runs()[-1].progress()
    assert spent.input_tokens // TOKENS + spent.maybe_paid_requests == sim.stats().requests


def test_answers_in_another_order_and_to_no_question_are_read(luna: str, sim: Simulator) -> None:
    replying(sim, [AGAIN | {"name": "other"}, AGAIN, MOOD])

    out = decided(Opinion, "one", "two")

    assert out[["mood", "again"]].to_numpy().tolist() == [["good", True]] * 2
    assert out.llm.confidence["mood"].tolist() == [0.9, 0.9]


@pytest.mark.parametrize(("fault", "is_answered"), [
    ("refusal", False), ("filtered", False), ("truncation", True), ("wrong_schema", True), ("invalid_json", True),
])  # fmt: skip
@pytest.mark.parametrize("model", ["openai:gpt-6-luna", GOOGLE, "jev:jev-latest", "sgl:qwen"])
def test_faults_of_a_rehearsal_are_those_of_an_endpoint_that_writes_no_text(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch, model: str, fault: str, is_answered: bool
) -> None:
    reach_all(sim, monkeypatch)
    sim.set(**{fault: 1.0})

    out = decided(Opinion, model=model, max_retries=0)

    assert out["mood"].notna().all() == is_answered
    assert not set(out.llm.errors["kind"]) & {"server_error", "overloaded", "connection"}


def test_a_script_of_the_simulator_that_answers_no_question_is_told(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: {"mood": "odd", "again": True})

    out = decided(Opinion, max_retries=0)

    assert "'mood' is 'odd', which is none of its options: good, bad" in out.llm.errors["message"].iloc[0]
