"""No crash, lost answer or late list makes a batch be paid twice (see `crashes`)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.batch.crashes import GRACE_S, PROVIDERS, Outcome, Scenario, play, play_all, scenarios


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory where there is one: thousands of journals, each with many commits."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as directory:
        yield Path(directory)


def played(directory: Path, provider: str, lag_s: float, **change: object) -> list[tuple[Scenario, Outcome]]:
    return [
        one
        for scenario in scenarios(lags_s=[lag_s], providers=[provider])
        # The other strangers, and every other lag, are played by benchmarks/batch_crashes.py.
        if scenario.stranger_s == 600.0
        for one in play_all(replace(scenario, **change), str(directory))  # type: ignore[arg-type]
    ]


@pytest.mark.sample(1)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_within_the_grace_period_no_row_is_paid_twice_and_every_row_is_answered(memory: Path, provider: str) -> None:
    all_played = played(memory, provider, 600.0)

    assert len(all_played) > 100
    assert [one for one in all_played if one[1].paid_twice or one[1].unfinished] == []


@pytest.mark.sample(1)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_beyond_the_grace_period_nothing_is_created_again_unasked(memory: Path, provider: str) -> None:
    lost = [
        one for one in played(memory, provider, 2 * GRACE_S, allowed=False) if one[1].paid_twice or one[1].creates > 1
    ]

    assert lost == []


def test_a_job_that_is_listed_after_the_grace_period_is_still_found(memory: Path) -> None:
    scenario = Scenario("openai", 2 * GRACE_S, "lost", allowed=False)

    assert play(scenario, str(memory)) == Outcome(died=False, paid_twice=0, unfinished=0, creates=1)


def test_allowed_beyond_the_grace_period_it_is_paid_twice_as_the_person_was_told(memory: Path) -> None:
    scenario = Scenario("openai", 2 * GRACE_S, "lost", allowed=True)

    assert play(scenario, str(memory)) == Outcome(died=False, paid_twice=2, unfinished=0, creates=2)


def test_a_strangers_ended_job_of_the_same_size_does_not_keep_a_job_uncertain_for_ever(memory: Path) -> None:
    scenario = Scenario("anthropic", 0.0, "down", stranger_s=600.0)

    assert play(scenario, str(memory)) == Outcome(died=False, paid_twice=0, unfinished=0, creates=2)


def test_a_strangers_running_job_of_the_same_size_is_waited_for(memory: Path) -> None:
    scenario = Scenario("anthropic", 0.0, "lost", stranger_s=86_400.0)

    assert play(scenario, str(memory)) == Outcome(died=False, paid_twice=0, unfinished=0, creates=1)


def test_the_naive_order_fails_this(memory: Path) -> None:
    known_bad = play_all(Scenario("openai", 0.0, naive=True), str(memory))

    assert sum(outcome.paid_twice for _, outcome in known_bad) > 0
