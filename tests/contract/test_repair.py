"""A reply that does not fit is shown to the model that wrote it, and the chain is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, Field, field_validator

from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.scripts import words
from tests.contract.sides import Side

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


class Line(BaseModel):
    amount: int


class Fact(BaseModel):
    name: str
    score: int = Field(ge=1, le=5)
    lines: list[Line]


WRONG = '{"name":"n","score":9,"lines":[{"amount":1},{"amount":"x"}]}'
RIGHT = '{"name":"n","score":3,"lines":[]}'
TOLD = (
    "That does not fit the schema:\n- at score: less_than_equal\n- at lines.1.amount: int_parsing\n"
    "Answer again, with the whole corrected JSON value alone."
)


def turns(*answers: Any) -> Callable[[SimRequest], Any]:
    """Give the nth answer to the nth turn of a conversation."""
    return lambda request: answers[min(len(request.messages) // 2, len(answers) - 1)]


def test_the_model_is_shown_where_its_reply_went_wrong(side: Side, sim: Simulator) -> None:
    seen: list[tuple[tuple[str, str], ...]] = []

    def answer(request: SimRequest) -> str:
        seen.append(request.messages)
        return WRONG if len(request.messages) == 1 else RIGHT

    sim.set(answers=answer)

    out = words("a").llm.parse(Fact, "read {text}", model=side.model)

    assert seen == [
        (("user", "read a"),),
        (("user", "read a"), ("assistant", WRONG), ("user", TOLD)),
    ]
    assert out["score"].tolist() == [3]
    assert out.llm.status.tolist() == ["ok"]
    assert out.llm.usage["attempts"].tolist() == [2]


def test_a_chain_of_repairs_is_replayed_from_the_cache(side: Side, sim: Simulator) -> None:
    sim.set(answers=turns(WRONG, "no", RIGHT))
    first = words("a").llm.parse(Fact, "read {text}", model=side.model, max_repairs=2)
    sent = sim.stats().requests

    again = words("a").llm.parse(Fact, "read {text}", model=side.model, max_repairs=2)

    assert (sent, sim.stats().requests) == (3, 3)
    assert first["score"].tolist() == again["score"].tolist() == [3]
    assert again.llm.status.tolist() == ["cached"]
    assert again.llm.usage["cost_usd"].tolist() == first.llm.usage["cost_usd"].tolist() or not side.priced


def test_without_repairs_a_wrong_reply_is_a_failure(side: Side, sim: Simulator) -> None:
    sim.set(answers=turns(WRONG, RIGHT))

    out = words("a").llm.parse(Fact, "read {text}", model=side.model, max_repairs=0)

    assert sim.stats().requests == 1
    assert out.llm.errors[["kind", "raw"]].to_numpy().tolist() == [["schema", WRONG]]
    assert out.llm.errors["message"][0] == (
        "score: Input should be less than or equal to 5 (got 9); "
        "lines.1.amount: Input should be a valid integer, unable to parse string as an integer (got 'x')"
    )


def test_more_repairs_go_on_from_what_was_paid(side: Side, sim: Simulator) -> None:
    sim.set(answers=turns(WRONG, WRONG, RIGHT))
    words("a").llm.parse(Fact, "read {text}", model=side.model, max_repairs=0)
    words("a").llm.parse(Fact, "read {text}", model=side.model, max_repairs=1)
    sent = sim.stats().requests

    out = words("a").llm.parse(Fact, "read {text}", model=side.model, max_repairs=2)

    assert (sent, sim.stats().requests) == (2, 3)
    assert out["score"].tolist() == [3]


def test_fewer_repairs_do_not_use_those_of_an_earlier_run(side: Side, sim: Simulator) -> None:
    sim.set(answers=turns(WRONG, RIGHT))
    words("a").llm.parse(Fact, "read {text}", model=side.model)

    out = words("a").llm.parse(Fact, "read {text}", model=side.model, max_repairs=0)

    assert out.llm.errors["kind"].tolist() == ["schema"]
    assert sim.stats().requests == 2


def test_a_reply_that_stays_wrong_is_a_paid_failure_with_all_its_turns(side: Side, sim: Simulator) -> None:
    wrong = SimAnswer.text(WRONG, usage={"input_tokens": 100, "output_tokens": 10})
    sim.set(answers=lambda request: wrong)

    out = words("a").llm.parse(Fact, "read {text}", model=side.model, max_repairs=2)
    again = words("a").llm.parse(Fact, "read {text}", model=side.model, max_repairs=2)

    assert sim.stats().requests == 3
    for frame in (out, again):
        assert frame.llm.errors[["kind", "attempts", "raw"]].to_numpy().tolist() == [["schema", 3, WRONG]]
        assert frame.llm.usage[["input_tokens", "output_tokens"]].to_numpy().tolist() == [[300, 30]]


def test_a_repair_that_is_refused_keeps_what_was_paid_before_it(side: Side, sim: Simulator) -> None:
    wrong = SimAnswer.text(WRONG, usage={"input_tokens": 100, "output_tokens": 10})
    refused = SimAnswer.refusal("no", usage={"input_tokens": 200, "output_tokens": 1})
    sim.set(answers=turns(wrong, refused))

    out = words("a").llm.parse(Fact, "read {text}", model=side.model)
    again = words("a").llm.parse(Fact, "read {text}", model=side.model)

    kind = "content_filter" if side.wire == "google" else "refusal"
    assert sim.stats().requests == 2
    for frame in (out, again):
        assert frame.llm.errors["kind"].tolist() == [kind]
        assert frame.llm.usage["input_tokens"].tolist() == [300]


def test_a_repair_that_cannot_be_sent_is_sent_by_the_next_run(side: Side, sim: Simulator) -> None:
    wrong = SimAnswer.text(WRONG, usage={"input_tokens": 100, "output_tokens": 10})
    sim.set(answers=turns(wrong, SimAnswer.status(500)))
    failing = words("a").llm.parse(Fact, "read {text}", model=side.model, max_retries=0)
    sim.set(answers=turns(WRONG, RIGHT))
    sent = sim.stats().requests

    out = words("a").llm.parse(Fact, "read {text}", model=side.model)

    assert failing.llm.errors["kind"].tolist() == ["server_error"]
    assert failing.llm.usage["input_tokens"].tolist() == [100]
    assert (sent, sim.stats().requests) == (2, 3)
    assert out["score"].tolist() == [3]


def test_the_wording_of_a_validator_does_not_move_the_key(side: Side, sim: Simulator) -> None:
    def worded(words_: str) -> type[BaseModel]:
        class Even(BaseModel):
            number: int

            @field_validator("number")
            @classmethod
            def even(cls, number: int) -> int:
                if number % 2:
                    raise ValueError(words_)
                return number

        return Even

    sim.set(answers=turns('{"number":1}', '{"number":2}'))
    words("a").llm.parse(worded("not even"), "read {text}", model=side.model)

    out = words("a").llm.parse(worded("must be even"), "read {text}", model=side.model)

    assert out["number"].tolist() == [2]
    assert sim.stats().requests == 2


def test_a_refreshed_row_repairs_anew(side: Side, sim: Simulator) -> None:
    sim.set(answers=turns(WRONG, RIGHT))
    words("a").llm.parse(Fact, "read {text}", model=side.model)
    sim.set(answers=turns(WRONG, RIGHT.replace("3", "4")))

    out = words("a").llm.parse(Fact, "read {text}", model=side.model, cache="refresh")
    again = words("a").llm.parse(Fact, "read {text}", model=side.model)

    assert sim.stats().requests == 4
    assert out["score"].tolist() == again["score"].tolist() == [4]
