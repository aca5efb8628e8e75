"""A live run and a batch job that want the same rows pay for them once, whichever came first."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook import LLMConfig, LLMPromptContext, ParallelAIUtilities, engine
from pllm_notebook.batch_jobs import service as offices
from pllm_notebook.exceptions import UsageError
from pllm_notebook.runtime import RUNTIME
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from pllm_notebook.store import close_stores
from tests.contract.sides import Side

DAY_S = 24 * 3600.0
PATIENCE_S = 180


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, sim: Simulator) -> None:
    """Looks at a job follow each other; a job takes an hour of the simulator's."""
    monkeypatch.setattr(offices, "FIRST_LOOK_S", 0.02)
    sim.set(answers=lambda request: request.prompt.upper(), batch_s=3600)


def rows(count: int) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"text {i}" for i in range(count)]})


def submit(model: str, count: int, **options: Any) -> pllm.Run:
    return rows(count).llm.submit_text("{text}", model=model, **options)


def by_batch(model: str, count: int) -> pllm.Run:
    """Submit a job and have its rows given back pending."""
    run = submit(model, count, mode="batch", confirm=False, wait=False)
    assert run.result().llm.status.eq("pending").all()
    return run


def restart() -> None:
    """Begin as another kernel would: nothing in memory."""
    engine.shutdown()
    close_stores()


@pytest.mark.parametrize("kernel", ["same", "next"])
def test_a_live_run_leaves_what_waits_in_a_job_pending_and_says_in_which(
    hosted: Side, sim: Simulator, kernel: str
) -> None:
    by_batch(hosted.model, 10)
    (job,) = pllm.jobs()
    before = sim.stats().requests
    if kernel == "next":
        restart()

    with pytest.warns(UserWarning, match="wait in batch job") as told:
        out = submit(hosted.model, 12).result()

    # What an earlier test left to the garbage collector may warn here too.
    (message,) = [str(one.message) for one in told if one.category is UserWarning]
    assert message == (
        f"10 rows wait in batch job {job.id[:8]}; nothing was sent for them. wait=True waits for the job, "
        f"pllm.jobs().send_live({job.id[:8]!r}) sends now, at the live price."
    )
    assert out.llm.status.tolist() == ["pending"] * 10 + ["ok"] * 2
    assert out["answer"].isna().tolist() == [True] * 10 + [False] * 2
    assert sim.stats().requests - before == 2


def test_an_estimate_leaves_out_what_waits_in_a_job(luna: str, sim: Simulator) -> None:
    by_batch(luna, 10)

    found = rows(12).llm.estimate(None, "{text}", model=luna)

    assert (found.pending, found.calls) == (10, 2)


def test_a_live_run_that_waits_has_the_jobs_answers(luna: str, sim: Simulator) -> None:
    by_batch(luna, 10)
    before = sim.stats().requests
    restart()

    run = submit(luna, 12, wait=True)
    while run.progress().done < 2:
        threading.Event().wait(0.02)
    sim.advance(DAY_S)
    out = run.result()

    assert out["answer"].tolist() == [f"TEXT {i}" for i in range(12)]
    assert sim.stats().requests - before == 2


def test_send_live_sends_the_waiting_rows_and_the_cell_has_them(luna: str, sim: Simulator) -> None:
    by_batch(luna, 10)
    (job,) = pllm.jobs()
    with pytest.warns(UserWarning, match="10 rows wait"):
        submit(luna, 10).result()

    pllm.jobs().send_live(job.id[:8], confirm=False)
    before = sim.stats().requests
    out = submit(luna, 10).result()

    assert out["answer"].tolist() == [f"TEXT {i}" for i in range(10)]
    assert sim.stats().requests == before


def test_rows_of_a_job_that_its_provider_lost_are_sent_live_once_it_is_abandoned(luna: str, sim: Simulator) -> None:
    by_batch(luna, 10)
    (job,) = pllm.jobs()
    with pytest.raises(UsageError, match=r"cancel it instead.*Nothing was changed\.$"):
        pllm.jobs().abandon(job.id)
    sim.reset()
    pllm.jobs().refresh()
    pllm.jobs().abandon(job.id)

    out = submit(luna, 10).result()

    assert out["answer"].tolist() == [f"TEXT {i}" for i in range(10)]


def test_a_batch_leaves_out_what_a_live_run_asks_at_this_moment(luna: str, sim: Simulator) -> None:
    together = threading.Barrier(11)  # the calls of the live run, and this test

    def answer(request: SimRequest) -> Any:
        if not request.batch:
            together.wait(PATIENCE_S)
        return SimAnswer.text(request.prompt.upper(), latency_s=2.0)

    sim.set(answers=answer)
    live = submit(luna, 10, concurrency=10)
    together.wait(PATIENCE_S)

    batch = submit(luna, 15, mode="batch", confirm=False, wait=False)
    states = batch.result().llm.status

    assert live.result()["answer"].tolist() == [f"TEXT {i}" for i in range(10)]
    assert states.tolist() == ["cached"] * 10 + ["pending"] * 5
    assert [job.total for job in pllm.jobs()] == [5]


def test_samples_and_lists_leave_what_waits_in_a_job_too(luna: str, sim: Simulator) -> None:
    by_batch(luna, 3)
    before = sim.stats().requests

    with pytest.warns(UserWarning, match="3 rows wait in batch job"):
        out = submit(luna, 3, samples=2).result()
    prompts = [LLMPromptContext(new_message=f"text {i}", llm_config=LLMConfig(client="openai", model="gpt-6-luna"))
               for i in range(3)]  # fmt: skip
    with pytest.warns(UserWarning, match="3 rows wait in batch job"):
        outputs = ParallelAIUtilities().run_parallel_ai_completion_sync(prompts)

    assert out.llm.status.eq("pending").all()
    assert [output.error for output in outputs] == ["pending: there is no answer yet"] * 3
    assert sim.stats().requests - before == 3  # the second samples


def test_a_refreshing_run_asks_although_a_job_will_answer(luna: str, sim: Simulator) -> None:
    by_batch(luna, 3)

    out = submit(luna, 3, cache="refresh").result()

    assert out["answer"].tolist() == ["TEXT 0", "TEXT 1", "TEXT 2"]


def test_a_job_whose_simulator_has_ended_is_given_up_by_what_every_error_names(cache_dir: Path) -> None:
    def kernel() -> None:
        pllm.configure(cache_dir=cache_dir, model="sim:openai", sim={"batch_s": 3600.0}, poll=False, progress=False)

    kernel()
    by_batch("sim:openai", 2)
    RUNTIME.reset()
    kernel()
    (job,) = pllm.jobs()
    way_out = f"pllm.jobs().abandon({job.id[:8]!r}) lets its rows be asked again."

    assert way_out in pllm.jobs().frame["message"].item()
    for command in ("cancel", "send_live", "resubmit"):
        also = {} if command == "cancel" else {"confirm": False}
        with pytest.raises(UsageError) as caught:
            getattr(pllm.jobs(), command)(job.id, **also)
        assert way_out in str(caught.value)

    pllm.jobs().abandon(job.id)
    assert submit("sim:openai", 2).result()["answer"].notna().all()
