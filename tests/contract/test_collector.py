"""However a run ends, Python collects its garbage as eagerly as before."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import ProviderRejectedError, RunInterrupted
from pllm_notebook.execution.gc_tuning import RELAXED_THRESHOLD
from pllm_notebook.sim import SimAnswer, Simulator
from tests.contract.scripts import words

OWN = (613, 7, 9)


@pytest.fixture(autouse=True)
def own_thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*OWN)
    yield
    gc.set_threshold(*before)


def test_a_run_that_succeeds_puts_the_collector_back(luna: str, sim: Simulator) -> None:
    out = words("a", "b").llm.complete("{text}", model=luna)

    assert out["answer"].notna().all()
    assert gc.get_threshold() == OWN


def test_a_run_that_fails_puts_the_collector_back(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.status(401))

    with pytest.raises(ProviderRejectedError):
        words("a", "b").llm.complete("{text}", model=luna)

    assert gc.get_threshold() == OWN


def test_a_run_is_eased_until_it_is_cancelled_and_another_inside_it_changes_nothing(luna: str, sim: Simulator) -> None:
    sim.set(latency_s=0.1)
    long = words(*(f"row {n}" for n in range(500))).llm.submit_text("{text}", model=luna, concurrency=1)

    words("b").llm.complete("{text}", model=luna)
    during = gc.get_threshold()
    long.cancel()
    with pytest.raises(RunInterrupted):
        long.result()

    assert during == (RELAXED_THRESHOLD, 7, 9)
    assert gc.get_threshold() == OWN


def test_a_retry_puts_the_collector_back(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.status(400))
    with pytest.warns(UserWarning, match="failed"):
        words("a").llm.complete("{text}", model=luna)
    sim.set(answers=lambda request: "now")

    again = pllm.runs()[-1].retry(["bad_request"])
    again.wait()

    assert again.to_frame()["answer"].tolist() == ["now"]
    assert gc.get_threshold() == OWN
