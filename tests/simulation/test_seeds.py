"""Lives from 500 seeds: whatever befalls a run, what `invariants` says holds."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.life import live

_SEEDS = 500
_AT_ONCE = 50


@pytest.mark.sample(1)
@pytest.mark.parametrize("first", range(0, _SEEDS, _AT_ONCE))
def test_whatever_befalls_a_run_nothing_is_lost_or_paid_twice_or_let_out(first: int) -> None:
    lives = [live(seed) for seed in range(first, first + _AT_ONCE)]

    broken = [lived for lived in lives if lived.faults]
    told = [f"{lived.faults[0]}\n    python -m tests.simulation {lived.seed}" for lived in broken]
    assert not broken, "\n".join(told)


@pytest.mark.parametrize("seed", [1, 28, 221, 370])
def test_one_seed_is_one_life(seed: int) -> None:
    first, second = live(seed), live(seed)

    assert first.trace == second.trace
    assert (first.runs, first.kills, first.requests, first.paid) == (
        second.runs,
        second.kills,
        second.requests,
        second.paid,
    )


def test_lives_meet_what_they_are_for() -> None:
    lives = [live(seed) for seed in range(60)]

    became = Counter[str]()
    for lived in lives:
        became.update(lived.paid)
    assert sum(lived.kills for lived in lives) > 5
    assert {"kept", "lost: killed", "lost: cancelled or cut off", "lost: spoilt"} <= became.keys()
