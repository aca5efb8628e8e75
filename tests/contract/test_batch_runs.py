"""The same call in the same cell, by batch job, through every provider's real SDK."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook import engine
from pllm_notebook.batch import JobState, Journal
from pllm_notebook.batch_jobs import service as offices
from pllm_notebook.exceptions import MissingKeyError, NotConfirmedError, UsageError
from pllm_notebook.execution import live_of
from pllm_notebook.frames.table_rows import TableRows
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from pllm_notebook.store import close_stores
from tests.contract.scripts import InTurn, words
from tests.contract.sides import Side
from tests.faults.children import until

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


class Mood(BaseModel):
    """The mood of a text."""

    mood: Literal["good", "bad"]
    score: int = Field(ge=1, le=5)


GOOD = SimAnswer.value({"mood": "good", "score": 3})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, sim: Simulator) -> None:
    """Jobs end at the next look, and looks follow each other."""
    monkeypatch.setattr(offices, "FIRST_LOOK_S", 0.02)
    sim.set(batch_s=0)


def batch(model: str, frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    out: pd.DataFrame = frame.llm.parse(
        Mood, "How is {text}?", model=model, **({"mode": "batch", "confirm": False} | options)
    )
    return out


def submit(model: str, frame: pd.DataFrame, **options: Any) -> pllm.Run:
    return frame.llm.submit(Mood, "How is {text}?", model=model, mode="batch", confirm=False, **options)


def restart() -> None:
    """What a kernel's end does."""
    engine.shutdown()
    close_stores()


def rows(count: int) -> pd.DataFrame:
    return words(*(f"text {n}" for n in range(count)))


def until_submitted(run: pllm.Run) -> None:
    assert live_of(run)._end.handed.wait(60)


def test_every_provider_answers_by_batch_and_live_runs_find_it(side: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.value({"mood": "bad", "score": 1 + len(request.prompt) % 5}))

    out = batch(side.model, rows(20))
    live = batch(side.model, rows(20), mode="async")

    assert out["mood"].tolist() == ["bad"] * 20
    assert out["score"].tolist() == [1 + len(f"How is text {n}?") % 5 for n in range(20)]
    pd.testing.assert_frame_equal(out, live)
    assert live.llm.status.eq("cached").all()
    stats = sim.stats()
    assert (stats.requests, stats.batch_jobs, stats.batch_lines) == (0, 1, 20)


def test_plain_text_goes_by_batch_too(side: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: request.prompt.upper())

    out = rows(3).llm.complete("say {text}", model=side.model, mode="batch", confirm=False)

    assert out["answer"].tolist() == ["SAY TEXT 0", "SAY TEXT 1", "SAY TEXT 2"]


def test_what_was_answered_live_is_not_in_the_job(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: GOOD)
    batch(luna, rows(5), mode="async")

    batch(luna, rows(12))

    stats = sim.stats()
    assert (stats.requests, stats.batch_lines) == (5, 7)


def test_a_batch_costs_half(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: GOOD)

    live = batch(luna, rows(10), mode="async").llm.run.cost
    half = batch(luna, rows(10), salt="another").llm.run.cost

    assert live is not None
    assert half == pytest.approx(live / 2, rel=0.05)


def test_equal_rows_are_one_line(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: GOOD)

    out = batch(luna, words("a", "b", "a", "a"))

    assert out["mood"].tolist() == ["good"] * 4
    assert sim.stats().batch_lines == 2


def test_a_large_run_makes_as_many_jobs_as_the_provider_asks_for(luna: str, sim: Simulator, monkeypatch: Any) -> None:
    from pllm_notebook.providers.openai import batch as api
    from pllm_notebook.types import BatchLimits

    monkeypatch.setattr(api.OpenAIBatchAPI, "limits", BatchLimits(8, 10**6), raising=False)
    sim.set(answers=lambda request: GOOD)

    out = batch(luna, rows(20))

    assert out["mood"].notna().all()
    assert sim.stats().batch_jobs == 3


def test_an_invalid_answer_is_repaired_in_the_cohorts_next_job(luna: str, sim: Simulator) -> None:
    wrong = SimAnswer.value({"mood": "good", "score": 9})
    sim.set(answers=InTurn(wrong, GOOD))

    out = batch(luna, rows(4))

    assert out["score"].tolist() == [3] * 4
    stats = sim.stats()
    assert (stats.batch_jobs, stats.batch_lines) == (2, 8)


def test_samples_share_one_job_and_judgements_the_next(luna: str, sim: Simulator) -> None:
    def answer(request: SimRequest) -> Any:
        if '"candidates"' in request.prompt:
            marks = dict.fromkeys(("accuracy", "completeness", "relevance", "quality", "consistency"), 5)
            return SimAnswer.value({"scores": [{"candidate": 1} | marks], "answer": {"mood": "bad", "score": 5}})
        return SimAnswer.value({"mood": "good", "score": 1 + request.index % 5})

    sim.set(answers=answer)

    out = batch(luna, rows(6), samples=2, decide="judge")

    assert out["mood"].notna().all()
    stats = sim.stats()
    assert stats.batch_jobs == 2
    assert stats.batch_lines == 12 + live_of(out.llm.run).execution.decider.judged


def test_rows_can_share_calls_in_a_batch(luna: str, sim: Simulator) -> None:
    out = batch(luna, rows(10), pack=5)

    assert out["mood"].notna().all()
    assert sim.stats().batch_lines == 2


def test_not_waiting_gives_pending_rows_and_the_next_cell_takes_them_in(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: GOOD, batch_s=3600)
    pending = batch(luna, rows(5), wait=False)
    assert pending["mood"].isna().all()
    assert pending.llm.status.eq("pending").all()
    assert sim.stats().batch_jobs == 1

    sim.advance(4000)
    out = batch(luna, rows(5))

    assert out["mood"].tolist() == ["good"] * 5
    assert sim.stats().batch_jobs == 1


@pytest.mark.parametrize("how", ["wait", "result", "await", "again"])
def test_every_way_to_wait_for_a_run_returns_once_the_jobs_are_submitted(luna: str, sim: Simulator, how: str) -> None:
    sim.set(answers=lambda request: GOOD, batch_s=3600)
    run = submit(luna, rows(3), wait=False)

    async def awaited() -> pd.DataFrame:
        out: pd.DataFrame = await run
        return out

    if how == "again":
        run.wait()
    if how in ("wait", "again"):
        run.wait()
        out = run.to_frame()
    else:
        out = run.result() if how == "result" else asyncio.run(awaited())

    assert not run.done()
    assert out.llm.status.eq("pending").all()
    sim.advance(4000)
    assert live_of(run)._end.ended.wait(60)
    assert run.result()["mood"].tolist() == ["good"] * 3


def test_a_new_kernel_adopts_the_jobs_and_submits_only_new_rows(side: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: GOOD, batch_s=3600)
    batch(side.model, rows(5), wait=False)
    restart()

    run = submit(side.model, rows(8))
    until_submitted(run)
    assert sim.stats().batch_jobs == 2
    sim.advance(4000)

    assert run.result()["mood"].tolist() == ["good"] * 8
    assert sim.stats().batch_lines == 8
    assert sim.stats().repeated == 0


def test_an_answer_cut_off_in_a_batch_that_nobody_waited_for_serves_no_larger_limit(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.truncated("one two three"), batch_s=3600)
    options = {"model": luna, "mode": "batch", "confirm": False}
    rows(2).llm.complete("say {text}", max_output_tokens=3, wait=False, **options)
    restart()
    sim.advance(4000)
    pllm.jobs().fetch()
    sim.set(answers=lambda request: "one two three four")

    short = rows(2).llm.complete("say {text}", model=luna, max_output_tokens=3)
    longer = rows(2).llm.complete("say {text}", model=luna, max_output_tokens=9)

    assert short.llm.errors["kind"].tolist() == ["truncated"] * 2
    assert longer["answer"].tolist() == ["one two three four"] * 2
    assert sim.stats().requests == 2


def test_stopping_stops_waiting_and_never_the_job(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: GOOD, batch_s=3600)
    run = submit(luna, rows(3))
    until_submitted(run)

    run.cancel()
    run.wait()
    sim.advance(4000)
    again = batch(luna, rows(3))

    assert run.state == "cancelled"
    assert again["mood"].tolist() == ["good"] * 3
    assert sim.stats().batch_jobs == 1


def test_a_run_that_was_stopped_before_it_was_planned_keeps_no_other_from_submitting(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim.set(answers=lambda request: GOOD)
    planning, stopped = threading.Event(), threading.Event()
    make = TableRows.__init__

    def slow(self: TableRows, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        prompts = self.prompts

        def held(rows: range) -> Any:
            planning.set()
            assert stopped.wait(60)
            return prompts(rows)

        self.prompts = held  # type: ignore[assignment]

    with monkeypatch.context() as patch:
        patch.setattr(TableRows, "__init__", slow)
        run = submit(luna, rows(3))
    assert planning.wait(60)
    run.cancel()
    stopped.set()
    run.wait()

    assert batch(luna, rows(3))["mood"].tolist() == ["good"] * 3


def test_a_refreshed_row_whose_line_fails_is_a_failure_and_not_its_older_answer(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: GOOD)
    batch(luna, rows(2))
    sim.set(batch_expire=1)

    out = batch(luna, rows(2), cache="refresh")

    assert out.llm.errors["kind"].tolist() == ["expired"] * 2


def test_a_job_whose_creation_was_not_answered_is_found_and_not_made_again(hosted: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: GOOD, batch_create_lost=1)

    out = batch(hosted.model, rows(4))

    assert out["mood"].tolist() == ["good"] * 4
    assert sim.stats().batch_jobs == 1
    assert sim.stats().repeated == 0


def test_lines_that_fail_are_failures_of_their_rows_and_a_retry_sends_them_alone(hosted: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: GOOD, batch_line_error=0.3, batch_missing=0.2)
    run = submit(hosted.model, rows(40))
    run.wait()
    first = run.to_frame()
    failed = int(first["mood"].isna().sum())
    assert 0 < failed < 40
    assert set(run.errors["kind"]) <= {"server_error", "overloaded", "missing", "rate_limit"}
    lines = sim.stats().batch_lines

    sim.set(batch_line_error=0, batch_missing=0)
    out = run.retry().result()

    assert out["mood"].notna().all()
    assert sim.stats().batch_lines == lines + failed or sim.stats().batch_lines == 40


def test_expired_lines_can_be_sent_again(hosted: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: GOOD, batch_expire=0.5)
    run = submit(hosted.model, rows(20))
    run.wait()
    assert set(run.errors["kind"]) == {"expired"}

    sim.set(batch_expire=0)

    assert run.retry().result()["mood"].notna().all()


def test_a_refused_job_fails_its_rows_with_the_providers_words(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: GOOD, batch_fail=1)

    run = submit(luna, rows(3))
    run.wait()

    assert run.to_frame()["mood"].isna().all()
    assert len(run.errors) == 3


def test_a_ceiling_holds_for_a_batch(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: GOOD)

    run = submit(luna, rows(50), max_cost_usd=0.0005, max_output_tokens=50)
    run.wait()

    assert 0 < (run.cost or 0) <= 0.0005
    assert set(run.errors["kind"]) <= {"budget"}


def test_nobody_there_and_no_word_submits_nothing(luna: str, sim: Simulator) -> None:
    with pytest.raises(NotConfirmedError, match="confirm=False"):
        batch(luna, rows(3), confirm=True)

    assert sim.stats().batch_jobs == 0


@pytest.mark.parametrize(("word", "jobs"), [("y", 1), ("no", 0)])
def test_a_person_is_asked_and_sees_both_prices(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch, word: str, jobs: int
) -> None:
    sim.set(answers=lambda request: GOOD)
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return word

    monkeypatch.setattr(sys.modules["pllm_notebook.execution.confirmation"], "is_interactive", lambda: True)
    monkeypatch.setattr("builtins.input", answer)

    if jobs:
        batch(luna, rows(3), confirm=True)
    else:
        with pytest.raises(NotConfirmedError):
            batch(luna, rows(3), confirm=True)

    assert sim.stats().batch_jobs == jobs
    assert "as a batch" in asked[0]


def test_what_needs_no_job_asks_nobody(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: GOOD)
    batch(luna, rows(3))

    out = batch(luna, rows(3), confirm=True)

    assert out["mood"].notna().all()


def test_rows_that_wait_in_a_job_are_not_confirmed_again(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: GOOD, batch_s=3600)
    batch(luna, rows(3), wait=False)
    sim.advance(4000)

    out = batch(luna, rows(3), confirm=True)

    assert out["mood"].notna().all()


def test_a_missing_key_is_told_and_no_job_is_planned(cache_dir: Any) -> None:
    with pytest.raises(MissingKeyError):
        batch("anthropic:claude-haiku-5-5", rows(2))

    assert Journal.open(str(cache_dir)).jobs() == []


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("sim:openai", {"cache": "off"}, "cache='off'"),
        ("sim:openai", {"cache": "only"}, "cache='only'"),
        ("local:smollm2", {}, "no batch API"),
    ],
)
def test_what_cannot_go_by_batch_is_told_before_anything_is_sent(
    cache_dir: Any, model: str, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        batch(model, rows(2), **options)


def test_a_job_is_journalled_before_it_is_created_and_done_when_its_rows_are_stored(
    luna: str, sim: Simulator, cache_dir: Any
) -> None:
    sim.set(answers=lambda request: GOOD, batch_s=3600)
    run = submit(luna, rows(3))
    until_submitted(run)

    (job,) = Journal.open(str(cache_dir)).jobs()
    assert job.state in (JobState.SUBMITTED, JobState.RUNNING)
    sim.advance(4000)
    run.wait()
    until(lambda: Journal.open(str(cache_dir)).jobs()[0].state is JobState.DONE, "the job is done")

    (job,) = Journal.open(str(cache_dir)).jobs()
    assert (job.state, job.total, job.answered) == (JobState.DONE, 3, 3)
    assert job.provider == "openai"


def test_two_frames_at_once_get_a_job_each_and_share_equal_rows(hosted: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: GOOD, batch_s=3600)
    one, other = submit(hosted.model, rows(6)), submit(hosted.model, rows(9))
    until_submitted(one)
    until_submitted(other)
    sim.advance(4000)

    assert one.result()["mood"].notna().all()
    assert other.result()["mood"].notna().all()
    assert sim.stats().batch_lines == 9
    assert sim.stats().repeated == 0


def test_a_server_without_batch_jobs_is_said_to_have_none(sim: Simulator, cache_dir: object) -> None:
    pllm.configure(servers={"here": sim.base_url("compatible") + "/nowhere"})

    out = batch("here:small", rows(2))

    assert out.llm.errors["kind"].tolist() == ["bad_request"] * 2
    assert out.llm.errors["message"][0].startswith("This server takes no batch jobs, since it has no /files: ")
