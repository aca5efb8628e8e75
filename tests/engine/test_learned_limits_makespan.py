"""A run that begins with what an earlier one learned, in virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pllm_notebook.engine import LearnedLimits, Limiter
from pllm_notebook.execution.learned_limits import LimitCache
from tests.engine.modelled import ModelServer, lognormal
from tests.engine.virtual import Calls, dispatcher_to, run_virtual

KEY = ("mine", "", "model")


def second_run(known: LearnedLimits | None, calls: int, **server: Any) -> tuple[float, ModelServer, LearnedLimits]:
    """Run on a server that is as good as new; give its makespan in seconds, the server, and what was learned."""

    async def main() -> tuple[float, ModelServer, LearnedLimits]:
        provider, limiter = ModelServer(latency_s=lognormal(), **server), Limiter()
        if known is not None:
            limiter.restore(asyncio.get_running_loop().time(), known)
        dispatcher, run = dispatcher_to(provider, limiter), Calls([str(n) for n in range(calls)])
        dispatcher.attach(run.queue)
        await run.all()
        await dispatcher.aclose()
        assert set(run.kinds()) == {"ok"}
        return asyncio.get_running_loop().time(), provider, limiter.export()

    return run_virtual(main)


@pytest.mark.parametrize(("rpm", "share"), [(300, 0.25), (1200, 0.65)])
def test_an_inferred_rate_spares_the_next_run_the_refusals_of_inferring_it(
    tmp_path: Path, rpm: int, share: float
) -> None:
    # What is left are the refusals that show a limit to be where it was; the higher it is, the more of all they are.
    # Half a minute finds the rate; the next run is short, as a second look at a few rows is.
    _, _, learned = second_run(None, rpm // 2, rpm=rpm, tells="nothing")
    LimitCache(str(tmp_path)).keep(KEY, learned)
    short = rpm // 12
    before_s, before, _ = second_run(None, short, rpm=rpm, tells="nothing")

    after_s, after, _ = second_run(LimitCache(str(tmp_path)).known(KEY), short, rpm=rpm, tells="nothing")

    assert before.refused >= 16
    assert after.refused <= share * before.refused
    assert after_s <= 1.05 * before_s


def test_an_inferred_rate_is_not_a_ceiling_once_the_limit_is_gone() -> None:
    seconds, server, _ = second_run(LearnedLimits(inferred_per_min=1200.0), 3000, tells="nothing")

    assert server.refused == 0
    assert seconds < 10.0  # at the old rate it would take 150 s


def test_a_reported_limit_spares_the_next_run_the_refusals_before_the_first_reply() -> None:
    _, first, learned = second_run(None, 100, rpm=600, tells="full")

    _, second, _ = second_run(learned, 100, rpm=600, tells="full")

    assert first.refused > 10
    assert second.refused <= 1


@pytest.mark.parametrize("tells", ["full", "nothing"])
def test_a_reported_limit_is_not_a_ceiling_once_it_is_raised_or_no_longer_reported(tells: str) -> None:
    before = LearnedLimits(requests_per_min=60.0, requests_at_once=1.0, window=4.0)

    seconds, _, _ = second_run(before, 600, rpm=6000, tells=tells)

    assert seconds < 9.0  # at the old limit it would take 600 s
