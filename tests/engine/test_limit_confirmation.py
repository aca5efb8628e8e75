"""Bursts that confirm a limit, or show that its refusals were noise."""

from __future__ import annotations

import asyncio
import random

import pytest

from pllm_notebook.engine import Limiter
from pllm_notebook.engine.limits.limit_confirmation import LimitConfirmation
from tests.engine.grid import Scenario, measure
from tests.engine.modelled import ModelServer, lognormal
from tests.engine.virtual import Calls, dispatcher_to, run_virtual

# Calls 201 to 206 of 209 were refused, after 20 of 200 at random.
UNCLEAR = (201, 209, 6), (200.0, 20.0)


def unclear() -> LimitConfirmation:
    """A limit that could be noise: its first refusals have been judged."""
    confirmation = LimitConfirmation()
    confirmation.start(*UNCLEAR, due_at=1.0)
    assert confirmation.judge(210) is None
    return confirmation


def burst(confirmation: LimitConfirmation, now: float, first: int, refused: int) -> int:
    """Send a planned burst from the *first* number on, whose first calls are *refused*; return its last number."""
    nth = first - 1
    while confirmation.sends(now):
        nth += 1
        confirmation.sent(now, nth, 0.06)
    assert all(confirmation.refused(each) for each in range(first, min(nth, first + refused - 1) + 1))
    return nth


def test_many_refusals_in_a_row_confirm_a_limit_without_a_burst() -> None:
    confirmation = LimitConfirmation()

    confirmation.start((201, 210, 10), (200.0, 0.0), due_at=1.0)

    assert confirmation.judge(210) is True
    confirmation.plan(1.0, 210, 100.0, 0.5)
    assert not confirmation.sends(1.0)


def test_a_limit_that_refuses_a_burst_is_confirmed_and_not_tested_again() -> None:
    confirmation = unclear()
    confirmation.plan(2.0, 210, 100.0, 0.0)

    last = burst(confirmation, 2.0, 211, 4)

    assert last <= 214
    assert confirmation.judge(last) is True
    confirmation.plan(3.0, last, 100.0, 0.0)
    assert not confirmation.sends(3.0)


def test_bursts_that_are_mostly_admitted_refute_the_limit() -> None:
    confirmation = unclear()
    confirmation.plan(2.0, 210, 100.0, 0.0)
    last = burst(confirmation, 2.0, 211, 1)
    undecided = confirmation.judge(last)

    confirmation.plan(2.1, last, 100.0, 0.0)
    last = burst(confirmation, 2.1, last + 1, 0)

    assert (undecided, confirmation.judge(last)) == (None, False)


def test_calls_that_the_bucket_may_hold_are_no_evidence_of_noise() -> None:
    confirmation = unclear()
    confirmation.plan(2.0, 210, 100.0, 2.0)

    last = burst(confirmation, 2.0, 211, 0)
    without_room = unclear()
    without_room.plan(2.0, 210, 100.0, 0.0)

    assert last == burst(without_room, 2.0, 211, 0) + 2
    assert confirmation.judge(last) is without_room.judge(last - 2) is None


def test_a_burst_that_could_not_be_sent_at_once_is_not_sent_later() -> None:
    confirmation = unclear()

    confirmation.plan(2.0, 210, 100.0, 0.0)

    assert confirmation.sends(2.0)
    assert not confirmation.sends(2.1)


def test_a_limit_that_is_tested_again_may_have_had_room_at_first() -> None:
    confirmation = unclear()
    confirmation.restart(210, (50, 10))

    last = 210
    for refused in (0, 6):  # the bucket held a few calls: what was refused before was not its doing
        confirmation.plan(2.0, last, 100.0, 0.0)
        last = burst(confirmation, 2.0, last + 1, refused)
        verdict = confirmation.judge(last)

    assert verdict is True
    assert confirmation.found_room


# Of forty seeds those in which chance looked most like a limit: they reached 0.04 to 0.53 of the oracle's speed.
@pytest.mark.parametrize(
    ("share", "seed"), [(0.05, 4), (0.1, 4), (0.1, 39), (0.2, 13), (0.2, 16), (0.2, 35), (0.3, 12), (0.3, 34)]
)
def test_refusals_that_look_like_a_limit_by_chance_do_not_slow_a_run_down(share: float, seed: int) -> None:
    scenario = Scenario(1_500, 0.2, ({"noise": share, "slots": 64},))

    one = measure(scenario, seed)

    assert one.answered == scenario.rows
    assert one.efficiency >= 0.9
    assert one.noisy <= scenario.rows * (share / (1 - share) + 0.1)


# With seed 7 a limit is refuted after half a second, and the true one is found at the end of the bucket's burst.
@pytest.mark.parametrize("seed", [7, 8])
def test_under_noise_the_true_limit_is_found(seed: int) -> None:
    async def main() -> tuple[float | None, bool, int, float]:
        server = ModelServer(rpm=6_000.0, noise=0.2, tells="nothing", rng=random.Random(seed), latency_s=lognormal(0.3))
        limiter = Limiter()
        dispatcher = dispatcher_to(server, limiter)
        calls = Calls([str(row) for row in range(2_000)])
        dispatcher.attach(calls.queue)
        await calls.all()
        await dispatcher.aclose()
        assert calls.kinds() == ["ok"] * 2_000
        found = limiter.inferred.rate, limiter.inference.confirmation.confirmed
        return *found, server.refused, asyncio.get_running_loop().time()

    rate, confirmed, refused, took_s = run_virtual(main)

    assert confirmed
    # A call that is refused at random takes nothing from the bucket: 100 a second are admitted of 125 that are sent.
    assert 85 <= (rate or 0.0) <= 150
    assert refused <= 200
    assert took_s <= 21.0
