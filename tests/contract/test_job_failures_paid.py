"""What a batch job's lines without an answer cost, and what a run that waits for them gets."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.batch import Job, JobState, Journal, LineOutcome
from pllm_notebook.batch_jobs import service
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


def test_a_line_whose_answer_is_no_longer_in_the_cache_ends_its_waiting_run(
    luna: str, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "FIRST_LOOK_S", 0.02)
    sim.set(batch_s=3600)
    run = pd.DataFrame({"text": ["a", "b"]}).llm.submit_text("{text}", model=luna, mode="batch", confirm=False)
    journal = Journal.open(str(cache_dir))
    while not (jobs := [job for job in journal.jobs() if job.state in (JobState.SUBMITTED, JobState.RUNNING)]):
        threading.Event().wait(0.02)
    (job,) = jobs

    # Another kernel takes the answers in, and its cache is cleared before this kernel looks.
    while not journal.lease(job.id, "other", time.time() + 600):
        threading.Event().wait(0.02)
    journal.lines.settle(job.id, [(line.key, LineOutcome("", 0.1)) for line in journal.lines.of(job.id)])
    for state in (JobState.ENDED, JobState.INGESTING):
        job = journal.move(journal.job(job.id), state, "other")
    journal.end(job, JobState.DONE, "other", "missing", "missing")

    errors = run.result().llm.errors
    assert errors["kind"].tolist() == ["missing", "missing"]
    assert "is no longer in the cache" in errors["message"].iloc[0]
    assert sim.stats().requests == 0
    journal.close()
