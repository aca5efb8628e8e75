"""Several processes with one account: each takes its part of the limits."""

from __future__ import annotations

import asyncio
import random

import pytest

from pllm_notebook.engine import LearnedLimits, Limiter
from tests.engine.modelled import ModelServer, lognormal
from tests.engine.virtual import Calls, dispatcher_to, run_virtual

ROWS = 1_000


def refused_and_took_s(tells: str, *, divided: bool, apart_s: float = 0.0) -> tuple[int, float]:
    """Send the same rows from three processes, and return the refusals and the seconds until the last has ended."""

    async def main() -> tuple[int, float]:
        server = ModelServer(rpm=6_000.0, tells=tells, rng=random.Random(7), latency_s=lognormal(0.3))
        limiters = [Limiter() for _ in range(3)]
        sending: set[int] = set()

        def divide() -> None:
            for process in sending if divided else ():
                limiters[process].divide(len(sending))

        async def process(number: int) -> None:
            await asyncio.sleep(number * apart_s)
            sending.add(number)
            divide()
            dispatcher = dispatcher_to(server, limiters[number])
            calls = Calls([f"{number} {row}" for row in range(ROWS)])
            dispatcher.attach(calls.queue)
            await calls.all()
            assert calls.kinds() == ["ok"] * ROWS
            sending.discard(number)
            divide()
            await dispatcher.aclose()

        await asyncio.gather(*map(process, range(3)))
        return server.refused, asyncio.get_running_loop().time()

    return run_virtual(main)


@pytest.mark.sample(4)
@pytest.mark.parametrize("apart_s", [0.0, 5.0])
@pytest.mark.parametrize(("tells", "most"), [("full", 90), ("times", 180), ("retry_after", 180), ("nothing", 160)])
def test_processes_that_divide_the_limits_are_hardly_refused_and_lose_no_time(
    tells: str, most: int, apart_s: float
) -> None:
    refused, took_s = refused_and_took_s(tells, divided=True, apart_s=apart_s)

    assert refused <= most
    # 3,000 calls at 6,000 a minute, and what a refused call may wait at the end.
    assert took_s <= 32.0


def test_processes_that_do_not_divide_them_are_refused_ten_times_as_often() -> None:
    refused, _ = refused_and_took_s("full", divided=False)
    divided, _ = refused_and_took_s("full", divided=True)

    assert refused > 10 * divided


def test_what_a_part_of_the_limits_learned_is_kept_as_the_whole() -> None:
    limiter = Limiter()
    limiter.restore(0.0, LearnedLimits(6_000.0, 100.0, 90_000.0, 900.0))
    limiter.divide(3)
    assert limiter.requests.rate == pytest.approx(2_000 / 60)

    known = limiter.export()

    assert known.requests_per_min == pytest.approx(6_000.0)
    assert known.requests_at_once == pytest.approx(100.0)
    assert known.tokens_per_min == pytest.approx(90_000.0)
    limiter.divide(1)
    assert limiter.requests.rate == pytest.approx(100.0)


def test_the_display_names_the_whole_limit_and_the_processes() -> None:
    limiter = Limiter()
    limiter.restore(0.0, LearnedLimits(6_000.0, 1.0))
    limiter.divide(2)
    limiter.charge(0.0, 10.0)
    limiter.charge(0.0, 10.0)

    assert limiter.blocked_by(0.0) == "at the provider's limit: 6,000 requests a minute, divided among 2 processes"
