"""Prices: the same figure as the table's own arithmetic, and never 0 for unknown."""

from __future__ import annotations

import genai_prices
import pytest

from pllm_notebook.prices import rate_of
from pllm_notebook.types import Usage

MODELS = [("openai", "gpt-6-luna"), ("anthropic", "claude-haiku-5-5"), ("google", "gemini-3.8-flash")]


@pytest.mark.parametrize(("provider", "model"), MODELS)
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("total", [1_000, 300_000, 1_000_000])
def test_a_call_costs_what_the_table_says(provider: str, model: str, batch: bool, total: int) -> None:
    written = 0 if provider == "google" else 50
    rate = rate_of(provider, model, batch=batch)

    cost = rate.cost_usd(Usage(total, 100, 200, written)) if rate else None

    table = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=total, cache_read_tokens=200, cache_write_tokens=written, output_tokens=100),
        model,
        provider_id=provider,
        price_context={"processing": "batch"} if batch else None,
    )
    assert cost == pytest.approx(float(table.total_price), rel=1e-9)


@pytest.mark.parametrize("total", [1_000, 300_000])
def test_a_prefix_that_is_cached_for_an_hour_costs_twice_the_input_and_for_minutes_a_quarter_more(total: int) -> None:
    hour, minutes = (rate_of("anthropic", "claude-haiku-5-5", hour=hour) for hour in (True, False))
    assert hour is not None
    assert minutes is not None

    plain, written = Usage(total, 0), Usage(total, 0, 0, total)

    assert hour.cost_usd(written) == pytest.approx(2 * hour.cost_usd(plain), rel=1e-9)
    assert hour.ceiling_usd(total, 0) == hour.cost_usd(written)
    assert minutes.cost_usd(written) == pytest.approx(1.25 * minutes.cost_usd(plain), rel=1e-9)
    assert minutes.ceiling_usd(total, 0) == minutes.cost_usd(written)


@pytest.mark.parametrize("total", [1_000, 300_000])
@pytest.mark.parametrize(("provider", "model"), [MODELS[0], MODELS[2]])
def test_where_there_is_no_price_for_an_hour_a_write_costs_what_it_does(provider: str, model: str, total: int) -> None:
    hour, minutes = (rate_of(provider, model, hour=hour) for hour in (True, False))
    assert hour is not None
    assert minutes is not None

    assert hour.ceiling_usd(total, 10) == minutes.ceiling_usd(total, 10)


def test_a_model_nobody_knows_has_no_price() -> None:
    assert rate_of("openai", "no-such-model") is None


def test_a_model_of_your_own_is_free() -> None:
    rate = rate_of("local", "whatever.gguf")

    assert rate is not None
    assert rate.cost_usd(Usage(1000, 1000)) == 0.0


@pytest.mark.parametrize(("provider", "model"), MODELS)
def test_a_bound_is_never_below_the_cost(provider: str, model: str) -> None:
    rate = rate_of(provider, model)
    assert rate is not None

    for used in (Usage(1000, 50), Usage(1000, 50, 900), Usage(1000, 50, 0, 1000), Usage(400_000, 10)):
        assert rate.ceiling_usd(used.input_tokens, used.output_tokens) >= rate.cost_usd(used)


@pytest.mark.parametrize("total", [10, 300_000])
@pytest.mark.parametrize(("provider", "model"), MODELS)
def test_cached_tokens_beyond_the_input_never_lower_the_cost(provider: str, model: str, total: int) -> None:
    rate = rate_of(provider, model)
    assert rate is not None

    beyond = rate.cost_usd(Usage(total, 10, 2 * total, total))

    assert beyond == rate.cost_usd(Usage(3 * total, 10, 2 * total, total))
    assert beyond > rate.cost_usd(Usage(0, 10))
