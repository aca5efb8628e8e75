"""The caller's own limits, by the server's count: of a run as a whole, and of runs that share an account."""

from __future__ import annotations

import time

import pandas as pd
import pytest

from pllm_notebook import engine
from pllm_notebook.engine.shared_engine import MOST_IDLE
from pllm_notebook.sim import Simulator
from tests.contract.departures import Departures

MANY = pd.DataFrame({"text": [f"row {n}" for n in range(12)]})
SECOND_MODEL = "openai:gpt-6-sol"


def words(count: int) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"word {n}" for n in range(count)]})


@pytest.mark.parametrize("decide", ["vote", "judge"])
def test_samples_of_two_models_and_their_judge_keep_one_concurrency(
    sim: Simulator, luna: str, departures: Departures, decide: str
) -> None:
    sim.set(latency_s=0.02)

    MANY.llm.parse(bool, "Is {text} nice?", models=[luna, SECOND_MODEL], samples=3, decide=decide, concurrency=5)

    stats = sim.stats()
    assert stats.requests >= 6 * len(MANY)
    assert departures.peak <= 5


def test_a_tightened_concurrency_is_used_up(sim: Simulator, luna: str, departures: Departures) -> None:
    sim.set(latency_s=0.2)

    MANY.llm.parse(bool, "Is {text} nice?", models=[luna, SECOND_MODEL], samples=3, concurrency=5)

    assert departures.peak == 5


def test_repairs_count_too(sim: Simulator, luna: str, departures: Departures) -> None:
    sim.set(latency_s=0.02, wrong_schema=0.3)

    MANY.llm.parse(bool, "Is {text} nice?", model=luna, samples=2, concurrency=3)

    assert departures.peak <= 3


def test_runs_of_one_account_keep_the_tighter_concurrency(sim: Simulator, luna: str, departures: Departures) -> None:
    sim.set(latency_s=0.03)

    first = MANY.llm.submit(bool, "Is {text} nice?", model=luna, concurrency=6)
    second = MANY.llm.submit(bool, "Is {text} big?", model=SECOND_MODEL, concurrency=4)
    first.result()
    second.result()

    assert departures.peak <= 6
    assert first.cost is not None
    assert sim.stats().answered == 2 * len(MANY)


def test_two_models_keep_one_rate_of_requests(sim: Simulator, luna: str) -> None:
    began = time.monotonic()

    words(10).llm.parse(bool, "Is {text} nice?", models=[luna, SECOND_MODEL], samples=2, requests_per_min=1_200)

    # 40 requests at 20 a second, of which a second's worth may leave at once.
    assert sim.stats().requests == 40
    assert time.monotonic() - began >= 0.95


def test_two_runs_keep_one_rate_of_requests(sim: Simulator, luna: str) -> None:
    began = time.monotonic()

    first = words(20).llm.submit(bool, "Is {text} nice?", model=luna, requests_per_min=1_200)
    second = words(20).llm.submit(bool, "Is {text} big?", model=SECOND_MODEL, requests_per_min=1_200)
    first.result()
    second.result()

    assert time.monotonic() - began >= 0.95


def test_a_run_that_states_no_limit_is_held_by_nobody_elses(sim: Simulator, luna: str, departures: Departures) -> None:
    sim.set(latency_s=1.0)

    slow = words(4).llm.submit(bool, "Is {text} nice?", model=luna, concurrency=1)
    words(10).llm.parse(bool, "Is {text} big?", model=SECOND_MODEL)

    assert departures.peak >= 5
    slow.cancel()


def test_models_asked_in_turn_leave_few_connections_open(sim: Simulator, luna: str) -> None:
    for n in range(3 * MOST_IDLE):
        words(1).llm.parse(bool, "Is {text} nice?", model=f"openai:gpt-6-{n}")

    lanes = engine.engine().dispatchers
    assert len(lanes) == 3 * MOST_IDLE
    # One more may be closing at this moment.
    assert sum(lane.connected for lane in lanes) <= MOST_IDLE + 1


def test_a_model_whose_connections_were_closed_is_asked_again(sim: Simulator, luna: str) -> None:
    for n in range(MOST_IDLE + 2):
        words(1).llm.parse(bool, "Is {text} nice?", model=f"openai:gpt-6-{n}")

    out = words(2).llm.parse(bool, "Is {text} big?", model="openai:gpt-6-0")

    assert set(out.llm.status) == {"ok"}
