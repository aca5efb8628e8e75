"""What a call took and cost, in one sense for all providers."""

from __future__ import annotations

from typing import Any

import genai_prices
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.sim import SimAnswer, Simulator
from pllm_notebook.types import Usage
from tests.contract.scripts import InTurn, words
from tests.contract.sides import Side


class Fact(BaseModel):
    name: str


def price(side: Side, usage: genai_prices.Usage) -> float:
    return float(genai_prices.calc_price(usage, side.name, provider_id=side.priced).total_price)


def close(usd: float) -> Any:
    """Equal but for the last bit: ours is arithmetic on floats, the table's on decimals."""
    return pytest.approx(usd, rel=1e-12)


@pytest.mark.parametrize("cached", [0, 300, 1000])
def test_a_call_costs_what_the_price_table_says(hosted: Side, sim: Simulator, cached: int) -> None:
    usage = {"input_tokens": 1000, "output_tokens": 200, "cached_tokens": cached, "reasoning_tokens": 50}
    sim.set(answers=lambda request: SimAnswer.text("yes", usage=usage))

    out = words("a").llm.complete("say {text}", model=hosted.model)

    (row,) = out.llm.usage.drop(columns="latency_s").to_dict("records")
    expected = price(hosted, genai_prices.Usage(input_tokens=1000, cache_read_tokens=cached, output_tokens=200))
    assert row == {
        "input_tokens": 1000,
        "output_tokens": 200,
        "cache_read_tokens": cached,
        "cache_write_tokens": 0,
        "reasoning_tokens": 50,
        "cost_usd": close(expected),
        "attempts": 1,
        "cached": False,
    }
    assert out.llm.run.cost == close(expected)


# One usage block of each provider's documentation with everything in it, and what it comes to.
FULL = {
    "openai": (
        {
            "id": "chatcmpl-1",
            "model": "gpt-6-luna",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 2000,
                "completion_tokens": 300,
                "total_tokens": 2300,
                "prompt_tokens_details": {"cached_tokens": 1200, "cache_write_tokens": 500},
                "completion_tokens_details": {"reasoning_tokens": 250},
            },
        },
        Usage(2000, 300, 1200, 500, 250),
    ),
    "responses": (
        {
            "id": "resp_1",
            "model": "gpt-5-pro",
            "status": "completed",
            "error": None,
            "output": [
                {"type": "reasoning", "summary": []},
                {
                    "type": "message",
                    "phase": "commentary",
                    "content": [{"type": "output_text", "text": "Let me see."}],
                },
                {"type": "message", "phase": "final_answer", "content": [{"type": "output_text", "text": "yes"}]},
            ],
            "usage": {
                "input_tokens": 2000,
                "input_tokens_details": {"cached_tokens": 1200, "cache_write_tokens": 500},
                "output_tokens": 300,
                "output_tokens_details": {"reasoning_tokens": 250},
                "total_tokens": 2300,
            },
        },
        Usage(2000, 300, 1200, 500, 250),
    ),
    "anthropic": (
        {
            "id": "msg_1",
            "type": "message",
            "model": "claude-haiku-5-5",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "text", "text": "yes"},
            ],
            "stop_reason": "end_turn",
            "usage": {
                "input_tokens": 300,
                "cache_creation_input_tokens": 500,
                "cache_read_input_tokens": 1200,
                "output_tokens": 300,
                "output_tokens_details": {"thinking_tokens": 250},
            },
        },
        Usage(2000, 300, 1200, 500, 250),
    ),
    "google": (
        {
            "candidates": [
                {
                    "content": {"role": "model", "parts": [{"text": "Hm.", "thought": True}, {"text": "yes"}]},
                    "finishReason": "STOP",
                }
            ],
            "usageMetadata": {
                "promptTokenCount": 1990,
                "toolUsePromptTokenCount": 10,
                "cachedContentTokenCount": 1200,
                "candidatesTokenCount": 50,
                "thoughtsTokenCount": 250,
                "totalTokenCount": 2300,
            },
            "modelVersion": "gemini-3.5-flash-lite",
            "responseId": "r1",
        },
        Usage(2000, 300, 1200, 0, 250),
    ),
}


def test_every_field_of_a_providers_usage_is_counted_once(hosted: Side, sim: Simulator) -> None:
    body, usage = FULL[hosted.id]
    sim.set(answers=lambda request: SimAnswer.status(200, body=body))

    run = words("a").llm.submit_text("say {text}", model=hosted.model)
    out = run.result()

    expected = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    assert out["answer"].tolist() == ["yes"]
    assert run.explain(0).usage == usage
    assert run.cost == close(price(hosted, expected))


def test_a_price_that_nobody_knows_is_unknown_and_not_zero(compatible: Side, sim: Simulator) -> None:
    out = words("a").llm.complete("say {text}", model=compatible.model)

    assert out.llm.run.cost is None
    assert out.llm.usage["cost_usd"].isna().tolist() == [True]
    assert out.llm.usage["input_tokens"].notna().tolist() == [True]


def test_a_server_that_counts_nothing_leaves_usage_unknown(compatible: Side, sim: Simulator) -> None:
    body = {"choices": [{"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}]}
    sim.set(answers=lambda request: SimAnswer.status(200, body=body))

    out = words("a").llm.complete("say {text}", model=compatible.model)

    assert out["answer"].tolist() == ["yes"]
    assert out.llm.usage[["input_tokens", "output_tokens", "cost_usd"]].isna().all(axis=None)


def test_a_cached_row_shows_what_it_cost_when_it_was_paid(hosted: Side, sim: Simulator) -> None:
    first = words("a").llm.complete("say {text}", model=hosted.model)

    again = words("a").llm.complete("say {text}", model=hosted.model)

    assert again.llm.usage["cost_usd"].tolist() == first.llm.usage["cost_usd"].tolist()
    assert again.llm.usage["cached"].tolist() == [True]
    assert again.llm.run.cost == 0.0


def test_equal_rows_are_paid_for_once(hosted: Side, sim: Simulator) -> None:
    out = words("a", "a", "b").llm.complete("say {text}", model=hosted.model)

    costs = out.llm.usage["cost_usd"].tolist()
    assert sim.stats().requests == 2
    assert out.llm.run.cost == close(costs[0] + costs[2])


def test_a_repaired_row_costs_both_of_its_calls(hosted: Side, sim: Simulator) -> None:
    first = SimAnswer.text('{"name": 1}', usage={"input_tokens": 100, "output_tokens": 10})
    second = SimAnswer.text('{"name": "n"}', usage={"input_tokens": 150, "output_tokens": 20})
    sim.set(answers=InTurn(first, second))

    out = words("a").llm.parse(Fact, "{text}", model=hosted.model)

    expected = price(hosted, genai_prices.Usage(input_tokens=100, output_tokens=10))
    expected += price(hosted, genai_prices.Usage(input_tokens=150, output_tokens=20))
    usage = out.llm.usage
    assert out["name"].tolist() == ["n"]
    assert (usage["input_tokens"][0], usage["output_tokens"][0], usage["attempts"][0]) == (250, 30, 2)
    assert usage["cost_usd"][0] == close(expected)
    assert out.llm.run.cost == close(expected)


def test_the_sum_of_a_run_is_what_the_provider_counted(hosted: Side, sim: Simulator) -> None:
    sim.set(reasoning_tokens=7, cached_prefix_tokens=3)

    out = words(*"abcdefgh").llm.parse(Fact, "{text}", model=hosted.model)

    stats, usage = sim.stats(), out.llm.usage
    assert (usage["input_tokens"].sum(), usage["output_tokens"].sum()) == (stats.input_tokens, stats.output_tokens)
    assert pllm.runs()[-1].progress().input_tokens == stats.input_tokens
    assert pllm.runs()[-1].progress().output_tokens == stats.output_tokens
