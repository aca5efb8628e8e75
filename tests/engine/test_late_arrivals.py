"""Requests that do not arrive in step: what a reply reports is then older than it seems."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from pllm_notebook.engine import Limiter
from tests.engine.modelled import ModelServer, lognormal
from tests.engine.virtual import Calls, dispatcher_to, run_virtual

ROWS = 3_000
PER_S = 100


def refused_and_took_s(on_the_way_s: Callable[[random.Random], float], seed: int) -> tuple[int, float]:
    """Run ROWS calls at PER_S a second, and return the refusals and the seconds that it took."""

    async def main() -> tuple[int, float]:
        server = ModelServer(
            rpm=60.0 * PER_S, rng=random.Random(seed), latency_s=lognormal(0.3), on_the_way_s=on_the_way_s
        )
        dispatcher = dispatcher_to(server, Limiter())
        calls = Calls([str(row) for row in range(ROWS)])
        dispatcher.attach(calls.queue)
        await calls.all()
        assert calls.kinds() == ["ok"] * ROWS
        await dispatcher.aclose()
        return server.refused, asyncio.get_running_loop().time()

    return run_virtual(main)


@pytest.mark.sample(3)
@pytest.mark.parametrize("seed", [7, 8, 9])
@pytest.mark.parametrize(
    "on_the_way_s",
    [
        pytest.param(lambda rng: rng.expovariate(100), id="spread"),
        pytest.param(lambda rng: 0.1 if rng.random() < 0.1 else 0.002, id="one in ten is late"),
    ],
)
def test_requests_that_arrive_out_of_step_are_hardly_refused_and_lose_no_rate(
    on_the_way_s: Callable[[random.Random], float], seed: int
) -> None:
    refused, took_s = refused_and_took_s(on_the_way_s, seed)

    assert refused <= ROWS * 0.005
    assert took_s <= (ROWS - PER_S) / PER_S * 1.02 + 1.0  # the bucket holds a second's worth; the last ones' latency
