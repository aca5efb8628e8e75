"""A reply to questions that is odd in any way is a misread reply, and spoils none of its group."""

from __future__ import annotations

from typing import Any, Literal

import orjson
import pytest
from pydantic import BaseModel

from pllm_notebook.schema import PLAIN, DecisionOutput, Invalid, Misread, OutputType, QuestionPlan, read_answers


class Opinion(BaseModel):
    mood: Literal["good", "bad"]


PLAN = QuestionPlan(OutputType.of(Opinion), 255)
OUTPUT = DecisionOutput(PLAN, PLAN.questions)
FINE = {"p": {"good": 0.9, "bad": 0.1}}
ODD: list[Any] = [
    {},
    "good",
    ["good"],
    7,
    {"p": None},
    {"p": ["good", "bad"]},
    {"p": {"good": None, "bad": 0.1}},
    {"p": {"good": "0.9", "bad": "0.1"}},
    {"p": {"good": True, "bad": False}},
    {"p": {"good": [0.9], "bad": {}}},
    FINE | {"choice": ["good"]},
    FINE | {"choice": {}},
    FINE | {"choice": 1},
]


@pytest.mark.parametrize("given", ODD, ids=str)
def test_an_answer_of_any_other_form_is_misread(given: Any) -> None:
    with pytest.raises(Misread, match="mood"):
        read_answers(PLAN.questions, orjson.dumps({"mood": given}))


@pytest.mark.parametrize("given", ODD, ids=str)
def test_an_odd_reply_leaves_the_others_of_its_group_alone(given: Any) -> None:
    texts = [orjson.dumps({"mood": one}) for one in (FINE, given, FINE)]

    first, odd, last = OUTPUT.fit(PLAIN).parse_many(texts)

    assert isinstance(odd, Invalid)
    assert first == last == {"mood": read_answers(PLAN.questions, texts[0])["mood"]}
