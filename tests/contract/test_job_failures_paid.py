"""What a batch job's lines without an answer cost, and what a run that waits for them gets."""

from __future__ import annotations

import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.batch import Job
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


def batch(model: str, count: int) -> pd.DataFrame:
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(count)]})
    out: pd.DataFrame = frame.llm.complete("{text}", model=model, mode="batch", confirm=False, column="said")
    return out


def taken_in() -> Job:
    """Return the only job once all of its lines are recorded, which is after its answers are."""
    (job,) = pllm.jobs()
    (done,) = pllm.jobs().fetch(job.id)
    return done


def test_a_line_that_succeeded_unreadably_makes_the_jobs_cost_unknown_not_lower(luna: str, sim: Simulator) -> None:
    def answers(request: SimRequest) -> SimAnswer:
        return SimAnswer.status(200, body={"output": 3}) if "text 1" in request.prompt else SimAnswer.text("fine")

    sim.set(batch_s=0, answers=answers)

    out = batch(luna, 3)

    job = taken_in()
    assert out.llm.errors["kind"].tolist() == ["malformed_reply"]
    assert (job.answered, job.failed, job.cost_usd) == (2, 1, None)


def test_a_line_that_failed_with_an_error_status_costs_nothing(luna: str, sim: Simulator) -> None:
    sim.set(batch_s=0, batch_line_error=1)

    batch(luna, 3)

    job = taken_in()
    assert (job.failed, job.cost_usd) == (3, 0.0)
