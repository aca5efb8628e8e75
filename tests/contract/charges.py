"""What the simulator's providers could charge, priced apart from the package's own arithmetic."""

from __future__ import annotations

import datetime as dt

import genai_prices
from genai_prices.data_snapshot import get_snapshot

from pllm_notebook.sim import Simulator

__all__ = ["charged"]


def charged(sim: Simulator, *models: str, deciding: str = "") -> float:
    """US dollars that the simulator's providers could charge for *models*, all where none is named.

    The model *deciding* was asked by its decision endpoint alone, which has prices of its own.
    """
    total = 0.0
    for name, (read, cached, written, output) in sim.stats().charged.items():
        provider, _, rest = name.partition("/")
        model, _, batch = rest.partition(" ")
        if models and model not in models:
            continue
        provider = f"{provider}-decisions" if model == deciding else provider
        _, info = get_snapshot().find_provider_model(model, None, provider, None)
        prices = info.get_prices(dt.datetime.now(dt.UTC), {"processing": "batch"} if batch else None)
        usage = genai_prices.Usage(
            input_tokens=read, cache_read_tokens=cached, cache_write_tokens=written, output_tokens=output
        )
        total += float(prices.calc_price(usage)["total_price"])
    return total
