"""Runs of one kernel that want the same rows by batch: each is told as if it were alone, and no line is sent twice."""

from __future__ import annotations

import asyncio
import html
import threading
from typing import Any

import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.batch import Journal
from pllm_notebook.batch_jobs import service as offices
from pllm_notebook.exceptions import StoreError
from pllm_notebook.execution import live_of
from pllm_notebook.frames.table_rows import TableRows
from pllm_notebook.sim import SimAnswer, Simulator
from tests.faults.children import until

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

PATIENCE_S = 180


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, sim: Simulator) -> None:
    """Looks at a job follow each other; a job takes an hour of the simulator's."""
    monkeypatch.setattr(offices, "FIRST_LOOK_S", 0.02)
    sim.set(answers=lambda request: request.prompt.upper(), batch_s=3600)


def submit(model: str, count: int, **options: Any) -> pllm.Run:
    frame = pd.DataFrame({"text": [f"text {n}" for n in range(count)]})
    return frame.llm.submit(None, "{text}", model=model, mode="batch", **({"confirm": False} | options))


def given_back(run: pllm.Run) -> pd.Series:
    """Give the rows' state once the run is given back by `wait=False`."""
    assert live_of(run)._end.handed.wait(PATIENCE_S)
    assert not run.done()
    states: pd.Series = run.result().llm.status
    return states


def ended(run: pllm.Run) -> list[Any]:
    assert live_of(run)._end.ended.wait(PATIENCE_S)
    answers: list[Any] = run.to_frame()["answer"].tolist()
    return answers


def test_a_second_run_of_the_same_rows_is_given_back_pending_like_the_first(luna: str, sim: Simulator) -> None:
    first = submit(luna, 3, wait=False)
    given_back(first)

    second = submit(luna, 3, wait=False)

    assert given_back(second).eq("pending").all()
    assert sim.stats().batch_jobs == 1
    sim.advance(4000)
    assert ended(first) == ended(second) == ["TEXT 0", "TEXT 1", "TEXT 2"]


def test_a_second_run_with_some_rows_more_submits_those_alone_and_is_given_back(luna: str, sim: Simulator) -> None:
    given_back(submit(luna, 2, wait=False))

    second = submit(luna, 5, wait=False)

    assert given_back(second).eq("pending").all()
    assert lines() == [2, 3]
    sim.advance(4000)
    assert len(set(ended(second))) == 5


def test_a_second_run_of_rows_that_are_just_being_planned_is_given_back_when_they_are_submitted(
    luna: str, sim: Simulator
) -> None:
    first, second = submit(luna, 4, wait=False), submit(luna, 4, wait=False)

    assert given_back(first).eq("pending").all()
    assert given_back(second).eq("pending").all()
    assert lines() == [4]


@pytest.mark.parametrize("waits", [(False, True), (True, False)], ids=["second", "first"])
def test_one_of_two_runs_waits_for_the_answers_and_the_other_does_not(
    luna: str, sim: Simulator, waits: tuple[bool, bool]
) -> None:
    runs = []
    for wait in waits:
        runs.append(submit(luna, 3, wait=wait))
        assert live_of(runs[-1])._end.handed.wait(PATIENCE_S)
    waiting, other = sorted(runs, key=lambda run: live_of(run).spec.options.wait is False)

    assert given_back(other).eq("pending").all()
    assert not waiting.done()
    sim.advance(4000)

    assert waiting.result()["answer"].tolist() == ended(other) == ["TEXT 0", "TEXT 1", "TEXT 2"]
    assert sim.stats().batch_lines == 3


def test_a_run_goes_on_with_the_rows_of_one_that_was_stopped(luna: str, sim: Simulator) -> None:
    first = submit(luna, 3, wait=False)
    given_back(first)
    second = submit(luna, 4, wait=False)
    given_back(second)

    first.cancel()
    first.wait()
    third = submit(luna, 3, wait=False)

    assert given_back(third).eq("pending").all()
    sim.advance(4000)
    assert ended(second)[:3] == ended(third) == ["TEXT 0", "TEXT 1", "TEXT 2"]
    assert sim.stats().batch_lines == 4


def test_a_run_submits_the_rows_of_one_that_is_stopped_while_they_are_looked_for(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, goes_on = threading.Event(), threading.Event()
    pending = Journal.pending

    def held(self: Journal, keys: Any) -> Any:
        found = pending(self, keys)
        looking.set()
        assert goes_on.wait(PATIENCE_S)
        return found

    monkeypatch.setattr(Journal, "pending", held)
    first = submit(luna, 3, wait=False)
    assert looking.wait(PATIENCE_S)
    second = submit(luna, 3, wait=False)
    until_aboard(2)

    first.cancel()
    first.wait()
    goes_on.set()

    assert given_back(second).eq("pending").all()
    sim.advance(4000)
    assert ended(second) == ["TEXT 0", "TEXT 1", "TEXT 2"]
    assert sim.stats().batch_lines == 3


def test_a_run_that_is_stopped_while_another_waits_for_its_plan_lets_the_other_submit(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning, goes_on = threading.Event(), threading.Event()
    make = TableRows.__init__

    def slow(self: TableRows, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        prompts = self.prompts

        def held(rows: range) -> Any:
            planning.set()
            assert goes_on.wait(PATIENCE_S)
            return prompts(rows)

        self.prompts = held

    with monkeypatch.context() as patch:
        patch.setattr(TableRows, "__init__", slow)
        first = submit(luna, 5, wait=False)
    assert planning.wait(PATIENCE_S)
    second = submit(luna, 2, wait=False)
    assert not live_of(second)._end.handed.wait(1.0)

    first.cancel()
    goes_on.set()

    assert given_back(second).eq("pending").all()


def test_a_run_that_is_stopped_while_its_tool_works_lets_the_other_submit(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.tool_calls([("weigh", {"what": "cocoa"})]), batch_s=0)
    working, goes_on = threading.Event(), threading.Event()

    def weigh(what: str) -> str:
        """Weigh something."""
        working.set()
        assert goes_on.wait(PATIENCE_S)
        return "2 kg"

    first = submit(luna, 1, wait=False, tools=[weigh], run_tools=True)
    assert working.wait(PATIENCE_S)
    sim.set(batch_s=3600)
    second = submit(luna, 2, wait=False)
    # The first may yet bring a further turn, which would share the job.
    assert not live_of(second)._end.handed.wait(1.0)

    first.cancel()

    assert given_back(second).eq("pending").all()
    goes_on.set()


def test_a_run_that_joined_rows_which_cannot_be_planned_is_told_so_too(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning, goes_on = threading.Event(), threading.Event()

    def broken(*args: Any) -> Any:
        planning.set()
        assert goes_on.wait(PATIENCE_S)
        raise StoreError("The disk is full. Nothing was sent.")

    monkeypatch.setattr(Journal, "plan", broken)
    first = submit(luna, 2, wait=False)
    assert planning.wait(PATIENCE_S)
    second = submit(luna, 2, wait=False)
    until_aboard(2)

    goes_on.set()

    for run in (first, second):
        assert live_of(run)._end.ended.wait(PATIENCE_S)
        with pytest.raises(StoreError, match="disk is full"):
            run.result()


def test_an_answer_cut_off_for_one_run_is_asked_again_for_one_with_more_room(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.truncated("one two three"))
    short = submit(luna, 2, wait=False, max_output_tokens=3)
    given_back(short)
    longer = submit(luna, 2, wait=False, max_output_tokens=9)
    given_back(longer)
    sim.set(answers=lambda request: "one two three four", batch_s=0)

    sim.advance(4000)

    ended(short)
    assert ended(longer) == ["one two three four"] * 2
    assert short.errors["kind"].tolist() == ["truncated"] * 2
    assert sim.stats().batch_lines == 4


def test_a_run_that_cannot_pay_for_all_rows_is_given_back_when_what_it_can_is_submitted(
    luna: str, sim: Simulator
) -> None:
    run = submit(luna, 50, wait=False, max_cost_usd=0.0005, max_output_tokens=50)

    assert given_back(run).eq("pending").all()
    assert 0 < sum(lines()) < 50


def running() -> list[offices.BatchService]:
    return [batch_service for batch_service in offices._SERVICES.value.values() if batch_service._engine.loop.alive]


def lines() -> list[int]:
    """Give how many lines each job has, oldest first."""
    return [job.total for batch_service in running() for job in batch_service.journal.jobs()]


def until_aboard(waiters: int) -> None:
    """Wait until each call that is on its way has so many runs aboard."""
    for _ in range(PATIENCE_S * 100):
        dispatchers = [dispatcher for batch_service in running() for dispatcher in batch_service._dispatchers.values()]
        flights = [waiting_call for dispatcher in dispatchers for waiting_call in dispatcher._waiting_calls.values()]
        if flights and all(len(waiting_call.waiters) == waiters for waiting_call in flights):
            return
        threading.Event().wait(0.01)
    raise AssertionError("nobody joined")


def test_a_job_that_its_provider_does_not_have_says_what_to_do_wherever_it_is_waited_for(
    luna: str, sim: Simulator
) -> None:
    first = submit(luna, 2, wait=False)
    given_back(first)
    first.cancel()
    (job,) = pllm.jobs()
    sim.reset()
    way_out = (
        f"If it is gone for good, pllm.jobs().abandon({job.id[:8]!r}) gives the job up, and its rows can be sent again."
    )

    jobs = pllm.jobs().refresh()
    second = submit(luna, 2)

    assert way_out in repr(jobs)
    assert way_out in html.unescape(jobs._repr_html_())
    until(lambda: second.progress().note.endswith(way_out), "the waiting run says why it waits")
    pllm.jobs().abandon(job.id)
    assert way_out not in repr(pllm.jobs())
    until(lambda: sim.stats().batch_jobs == 1, "the waiting run submits its rows anew")
    sim.advance(4000)
    assert ended(second) == ["TEXT 0", "TEXT 1"]


def test_an_abandoned_job_that_is_concluded_late_fails_no_row_of_the_job_after_it(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    concluding = offices.BatchService._conclude

    async def late(service: Any, job: Any, dispatcher: Any) -> None:
        if job.state == "abandoned":  # as on a busy machine: when the rows are in the next job
            while not any(going.id != job.id and not going.final for going in service.journal.jobs()):
                await asyncio.sleep(0.01)
        await concluding(service, job, dispatcher)
        concluded.append(str(job.state))

    concluded: list[str] = []
    monkeypatch.setattr(offices.BatchService, "_conclude", late)
    first = submit(luna, 2, wait=False)
    given_back(first)
    first.cancel()
    (job,) = pllm.jobs()
    sim.reset()
    pllm.jobs().refresh()
    second = submit(luna, 2)
    until(lambda: bool(second.progress().note), "the waiting run says why it waits")

    pllm.jobs().abandon(job.id)
    until(lambda: "abandoned" in concluded, "the job before is concluded")
    until(lambda: sim.stats().batch_jobs == 1, "the waiting run submits its rows anew")
    sim.advance(4000)

    assert ended(second) == ["TEXT 0", "TEXT 1"]
