"""`hedge=True`, over real HTTP: a request that hangs does not hold up the run, and money is put by for the second."""

from __future__ import annotations

import pytest

from pllm_notebook.sim import Simulator
from tests.contract.scripts import words
from tests.contract.sides import Side

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

ROWS = 60
FRAME = words(*(f"{n:04d} " + "x" * 1995 for n in range(ROWS)))
# At most 2,600 bytes of prompt as cache writes, and 100 tokens out.
ONE_CALL_USD = 2600 * 0.125e-6 + 100 * 0.5e-6


def test_a_request_that_hangs_is_answered_by_its_second(hosted: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: "y", latency_s=0.02, hang=0.05)

    out = FRAME.llm.complete("{text}", model=hosted.model, hedge=True, timeout_s=100.0)

    assert (out["answer"] == "y").all()
    attempts = out.llm.usage["attempts"]
    assert set(attempts) == {1, 2}
    assert attempts.sum() >= sim.stats().requests, "one that was cancelled at once may never have been seen"


@pytest.mark.parametrize(
    ("calls_usd", "twice", "timeout_s"), [(ROWS * ONE_CALL_USD, True, 60.0), (1.5 * ONE_CALL_USD, False, 1.5)]
)
def test_a_second_request_is_sent_only_below_the_ceiling(
    luna: str, sim: Simulator, calls_usd: float, twice: bool, timeout_s: float
) -> None:
    frame = FRAME.head(40)
    sim.set(answers=lambda request: "y", latency_s=0.02)
    given = {"model": luna, "max_output_tokens": 100}
    answered = frame.llm.submit_text("{text}", max_cost_usd=1.0, salt="before", **given)
    answered.wait()
    assert answered.cost is not None
    before = sim.stats().requests

    sim.set(answers=lambda request: "y", latency_s=0.02, hang=0.05)
    run = frame.llm.submit_text(
        "{text}", max_cost_usd=answered.cost + calls_usd, hedge=True, timeout_s=timeout_s, max_retries=0, **given
    )
    run.wait()

    assert (sim.stats().requests - before > len(frame)) is twice
    assert run.cost is not None
    assert run.cost <= answered.cost
