"""What a request under a ceiling may take: learned from answers, bounded by the type, never more than it can cost."""

from __future__ import annotations

import random
from enum import Enum
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from pllm_notebook.execution.budget import ModelBudget, Need, RunBudget
from pllm_notebook.execution.token_bounds import (
    TokenBounds,
    rounded_down,
    rounded_up,
    set_output_limit,
    thinking_tokens,
)
from pllm_notebook.prices import Rate
from pllm_notebook.providers.openai.facts import DIALECT as OPENAI
from pllm_notebook.schema import OutputType, longest_json

RATE = Rate(1e-6, 10e-6, 1e-7, 1.25e-6, float("inf"), None)


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Label(BaseModel):
    colour: Colour
    sure: bool
    score: int = Field(ge=1, le=100)


class Note(BaseModel):
    label: Label
    text: str


@pytest.mark.parametrize(
    ("kind", "longest"),
    [
        (bool, '{"value":false}'),
        (Literal["a", "neutral"], '{"value":"neutral"}'),
        (Label, '{"colour":"green","sure":false,"score":100}'),
        (Literal[True] | None, '{"value":false}'),
    ],
)
def test_a_bounded_type_has_a_longest_answer(kind: Any, longest: str) -> None:
    bytes_ = longest_json(OutputType.of(kind).fit(OPENAI).schema)

    assert bytes_ is not None
    assert len(longest) <= bytes_ + 1  # "true" may be the only boolean that is allowed
    assert bytes_ <= len(longest) + 4


@pytest.mark.parametrize("kind", [str, int, float, list[bool], Note, dict[str, bool], list[Literal["a"]]])
def test_a_type_without_a_bound_has_none(kind: Any) -> None:
    assert longest_json(OutputType.of(kind).fit(OPENAI).schema) is None


def test_the_first_answers_have_room_to_reason_and_those_of_a_bounded_type_need_less() -> None:
    assert TokenBounds(16_384).usual_limit == 1024
    assert TokenBounds(16_384, longest=20, reasons=True).usual_limit == 1024
    assert TokenBounds(16_384, longest=20, reasons=False).usual_limit == 192
    assert TokenBounds(100).usual_limit == 100


def test_a_limit_is_a_few_times_what_answers_took_and_follows_them() -> None:
    token_bounds = TokenBounds(16_384)

    token_bounds.answered(100)
    assert token_bounds.usual_limit == 384
    token_bounds.answered(3_000)
    assert token_bounds.usual_limit == 6_144
    for _ in range(128):
        token_bounds.answered(10)
    assert token_bounds.usual_limit == 96


def test_one_long_answer_does_not_make_all_others_dear() -> None:
    token_bounds = TokenBounds(16_384)

    for tokens in (*[100] * 20, 10_000):
        token_bounds.answered(tokens)

    assert token_bounds.usual_limit == 384


def test_an_answer_that_was_cut_off_has_much_more_room_and_never_more_than_there_is() -> None:
    token_bounds = TokenBounds(16_384)
    limits = [128]

    while limits[-1] < 16_384:
        limits.append(token_bounds.wider(limits[-1]))

    assert limits == [128, 512, 2_048, 8_192, 16_384]


def test_what_is_asked_for_reasoning_is_on_top() -> None:
    assert thinking_tokens({"thinking": {"type": "enabled", "budget_tokens": 4_000}}) == 4_000
    assert thinking_tokens({"generationConfig": {"thinkingConfig": {"thinkingBudget": -1}}}) == 0
    assert TokenBounds(16_384, thinking=4_000).usual_limit == 6_144


def test_limits_are_few_and_round_up_or_down() -> None:
    for tokens in range(1, 20_000, 7):
        assert rounded_down(tokens) <= tokens <= rounded_up(tokens)
        assert rounded_up(tokens) <= tokens * 1.5 + 1
    assert len({rounded_up(tokens) for tokens in range(1, 16_385)}) < 30


def test_a_limit_takes_the_place_of_the_one_that_is_there_and_of_nothing_else() -> None:
    assert set_output_limit({"max_tokens": 9, "model": "m"}, 5) == {"max_tokens": 5, "model": "m"}
    assert set_output_limit({"generationConfig": {"maxOutputTokens": 9, "topK": 1}}, 5) == {
        "generationConfig": {"maxOutputTokens": 5, "topK": 1}
    }
    assert set_output_limit({"model": "m"}, 5) == {"model": "m"}


def test_what_all_requests_share_is_bounded_by_what_it_was_counted_as() -> None:
    token_bounds = TokenBounds(100)
    assert token_bounds.input_bound(8_000, 200, 0) == 8_512

    for tokens in (2_010, 2_030, 5, 2_020):  # one of them tells nonsense
        token_bounds.counted(tokens, 0)

    assert token_bounds.input_bound(8_000, 200, 0) == 2_015 + 200 + 64
    assert token_bounds.input_bound(8_000, None, 0) == 8_512
    assert token_bounds.input_bound(8_000, 200, 1) == 8_512  # another dress is counted anew


def budget_of(ceiling: float, left: int) -> ModelBudget:
    run_budget = RunBudget(ceiling)
    run_budget.expect("a run", lambda: left)
    return ModelBudget(run_budget, RATE, 16_384, "a model")


NEED = Need(input_tokens=1_000, usual_limit=128, smallest_limit=48, most=16_384)


def test_a_share_of_much_money_buys_a_wide_limit() -> None:
    reserved = budget_of(100.0, left=100).reserve(NEED)

    assert reserved is not None
    assert reserved.output_limit == 16_384
    assert reserved.usd == RATE.ceiling_usd(1_000, 16_384)


def test_a_share_of_little_money_buys_what_is_needed() -> None:
    budget = budget_of(0.3, left=100)

    reserved = [budget.reserve(NEED) for _ in range(100)]

    assert [each.output_limit for each in reserved if each is not None] == [128] * 100


def test_the_last_of_the_money_goes_to_one_request_at_a_time() -> None:
    budget = budget_of(RATE.ceiling_usd(1_000, 60), left=100)

    first, second = budget.reserve(NEED), budget.reserve(NEED)

    assert first is not None
    assert first.output_limit in (59, 60)
    assert second is None


def test_a_request_that_is_not_worth_sending_is_not_sent() -> None:
    assert budget_of(RATE.ceiling_usd(1_000, 40), left=1).reserve(NEED) is None


@pytest.mark.parametrize("seed", range(20))
def test_reservations_never_pass_a_ceiling(seed: int) -> None:
    draw = random.Random(seed)
    budget = budget_of(draw.uniform(0.01, 1.0), left=200)
    run_budget, out = budget.run_budget, []

    for _ in range(300):
        need = Need(draw.randrange(100, 9_000), draw.randrange(64, 2_000), draw.randrange(16, 64), 16_384)
        reserved = budget.reserve(need)
        if out and (reserved is None or draw.random() < 0.5):
            usd = out.pop()
            budget.settle(usd, 1, draw.choice([None, draw.uniform(0, usd)]), 0)
        if reserved is not None:
            out.append(reserved.usd)
        assert run_budget.spent_usd + run_budget.reserved_usd <= (run_budget.ceiling_usd or 0) * (1 + 1e-9)
    for usd in out:
        budget.settle(usd, 1, None, 0)

    assert run_budget.reserved_usd == 0.0
