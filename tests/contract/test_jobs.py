"""What a person asks of batch jobs, through every provider's real SDK: look, fetch, cancel, resubmit, hurry, import."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook import engine
from pllm_notebook.batch import Job
from pllm_notebook.exceptions import NotConfirmedError, UsageError
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from pllm_notebook.store import close_stores
from tests.contract.sides import ANTHROPIC, GOOGLE, OPENAI, Side, reach

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

LONG_S = 1000.0


def rows(count: int) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"text {i}" for i in range(count)]})


def batch(model: str, count: int, **options: Any) -> pd.DataFrame:
    out: pd.DataFrame = rows(count).llm.parse(
        bool, "Is {text} good?", model=model, mode="batch", confirm=False, **options
    )
    return out


def live(model: str, count: int) -> pd.DataFrame:
    out: pd.DataFrame = rows(count).llm.parse(bool, "Is {text} good?", model=model)
    return out


def pending(model: str, sim: Simulator, count: int, **options: Any) -> Job:
    """Submit a job that stays open until the clock is moved, and leave its run."""
    sim.set(batch_s=LONG_S)
    batch(model, count, wait=False, **options)
    (job,) = [job for job in pllm.jobs() if not job.final]
    return job


def ended(model: str, sim: Simulator, count: int, **faults: float) -> Job:
    """Submit a job that ends with *faults*, and take it in."""
    sim.set(**faults)
    job = pending(model, sim, count)
    sim.advance(LONG_S)
    (done,) = pllm.jobs().fetch(job.id)
    assert done.final
    sim.set(**dict.fromkeys(faults, 0))
    return done


def restart() -> None:
    """What a kernel's end does."""
    engine.shutdown()
    close_stores()


def known(out: pd.DataFrame) -> dict[str, int]:
    return {state: count for state, count in out.llm.status.value_counts().items() if count}


def job_cost(job: Job) -> float | None:
    return next(one.cost_usd for one in pllm.jobs() if one.id == job.id)


@pytest.mark.parametrize("side", [OPENAI, ANTHROPIC, GOOGLE], ids=lambda side: side.id)
def test_a_job_in_parts_gives_what_it_has_and_resubmit_sends_exactly_the_rest(
    side: Side, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(side, sim, monkeypatch)
    sim.set(batch_s=0, batch_line_error=0.04, batch_missing=0.01, batch_unknown=1)
    out = batch(side.model, 1000)
    (job,) = pllm.jobs()
    sim.set(batch_line_error=0, batch_missing=0, batch_unknown=0)
    paid = sim.stats().batch_lines

    again = pllm.jobs().resubmit(job.id, confirm=False).fetch()

    assert known(out) == {"ok": 950, "failed": 50}
    kinds = out.llm.errors["kind"].value_counts().to_dict()
    assert kinds == {"server_error" if side is OPENAI else "overloaded": 40, "missing": 10}
    assert (job.total, job.answered, job.failed, job.unknown) == (1000, 950, 50, 1)
    assert [(new.total, new.answered) for new in pllm.jobs() if new.id != job.id] == [(50, 50)]
    assert len(again) <= 1
    assert sim.stats().batch_lines - paid == 50
    assert known(live(side.model, 1000)) == {"cached": 1000}
    assert (sim.stats().requests, sim.stats().repeated) == (0, 0)


def test_resubmit_reads_the_results_of_a_job_that_has_just_ended_first(luna: str, sim: Simulator) -> None:
    sim.set(batch_line_error=1)
    job = pending(luna, sim, 5)
    restart()
    sim.advance(LONG_S)
    while str(job.state) not in ("ended", "ingesting"):
        (job,) = pllm.jobs().refresh(job.id)
    sim.set(batch_line_error=0)

    (again,) = pllm.jobs().resubmit(job.id, confirm=False)

    assert again.total == 5


def test_resubmitting_twice_sends_once(hosted: Side, sim: Simulator) -> None:
    job = ended(hosted.model, sim, 20, batch_line_error=0.5)

    first = pllm.jobs().resubmit(job.id, confirm=False)
    second = pllm.jobs().resubmit(job.id, confirm=False)

    assert (len(first), len(second)) == (1, 0)
    assert sim.stats().batch_jobs == 2


def test_resubmit_leaves_out_what_was_answered_live_since(luna: str, sim: Simulator) -> None:
    job = ended(luna, sim, 20, batch_line_error=0.5)
    live(luna, 20)

    again = pllm.jobs().resubmit(job.id, confirm=False)

    assert len(again) == 0
    assert (sim.stats().requests, sim.stats().batch_jobs) == (10, 1)


def test_resubmit_leaves_out_what_waits_in_a_later_job(luna: str, sim: Simulator) -> None:
    job = ended(luna, sim, 20, batch_line_error=0.5)
    later = pending(luna, sim, 12)

    (again,) = pllm.jobs().resubmit(job.id, confirm=False)

    assert 0 < later.total < 10
    assert again.total == 10 - later.total


def test_expired_lines_are_resubmitted_alone(luna: str, sim: Simulator) -> None:
    job = ended(luna, sim, 20, batch_expire=0.25)

    (again,) = pllm.jobs().resubmit(job.id, confirm=False)

    assert (job.ending, job.answered, job.failed) == ("expired", 15, 5)
    assert again.total == 5


def test_nothing_is_resubmitted_or_hurried_unless_somebody_says_yes(luna: str, sim: Simulator) -> None:
    job = ended(luna, sim, 20, batch_line_error=0.5)
    asked: list[str] = []

    with pytest.raises(NotConfirmedError, match=r"there is no interactive input to confirm it.*Nothing was sent"):
        pllm.jobs().resubmit(job.id)
    with pytest.raises(NotConfirmedError, match=r"^Not confirmed. Nothing was sent.$"):
        pllm.jobs().resubmit(job.id, confirm=lambda question: bool(asked.append(question)))

    assert asked == [f"Submit 10 of the 20 lines of batch job {job.id[:8]} again to {luna}, for about $0.00042?"]
    assert sim.stats().batch_jobs == 1
    other = pending(luna, sim, 30)
    with pytest.raises(NotConfirmedError, match=r"^20 of the 20 lines .* would have been sent live for about \$0.00"):
        pllm.jobs().send_live(other.id)
    assert sim.stats().requests == 0


def test_a_job_that_has_not_ended_is_not_resubmitted_and_one_that_has_is_not_hurried(luna: str, sim: Simulator) -> None:
    done = ended(luna, sim, 3, batch_line_error=1.0)
    job = pending(luna, sim, 5, salt="other")

    with pytest.raises(UsageError, match=r"has not ended.*Nothing was sent"):
        pllm.jobs().resubmit(job.id, confirm=False)
    with pytest.raises(UsageError, match=r"nothing of it is pending. Nothing was sent"):
        pllm.jobs().send_live(done.id, confirm=False)


def test_hurried_lines_are_live_answers_and_the_jobs_own_are_put_aside(
    hosted: Side, sim: Simulator, cache_dir: Path
) -> None:
    job = pending(hosted.model, sim, 20)

    told = pllm.jobs().send_live(job.id, confirm=False)

    assert (told.answered, told.batch_first, told.failed, told.left) == (20, 0, {}, 0)
    assert known(live(hosted.model, 20)) == {"cached": 20}
    assert sim.stats().requests == 20
    paid_live = live(hosted.model, 20).llm.usage["cost_usd"].tolist()
    sim.advance(LONG_S)
    (done,) = pllm.jobs().fetch(job.id)
    assert (str(done.state), done.answered) == ("done", 0)
    assert pllm.jobs().frame["answered_elsewhere"].tolist() == [20]
    assert pllm.jobs().frame["otherwise"].tolist() == [20]
    # What the batch answered was paid for too: it is counted, kept, and takes no live answer's place.
    assert done.cost_usd == pytest.approx(sum(paid_live) / 2, rel=0.01)
    assert len((cache_dir / "jobs" / f"{job.id}.second.jsonl").read_bytes().splitlines()) == 20
    assert live(hosted.model, 20).llm.usage["cost_usd"].tolist() == paid_live


def test_a_job_longer_than_what_is_held_ready_is_hurried_whole(luna: str, sim: Simulator) -> None:
    job = pending(luna, sim, 1100)

    told = pllm.jobs().send_live(job.id, confirm=False)

    assert (told.answered, told.left) == (1100, 0)
    assert sim.stats().requests == 1100


def test_a_run_that_waits_for_the_job_goes_on_with_the_live_answers(luna: str, sim: Simulator) -> None:
    sim.set(batch_s=LONG_S)
    run = rows(20).llm.submit(bool, "Is {text} good?", model=luna, mode="batch", confirm=False)
    while not (jobs := list(pllm.jobs())):
        threading.Event().wait(0.02)

    with pytest.warns(DeprecationWarning, match="hurry is now send_live"):
        told = pllm.jobs().hurry(jobs[0].id, confirm=False)

    assert known(run.result()) == {"cached": 20}
    # The run itself paid nothing, and the answers keep the price that was paid for them.
    assert run.cost == 0.0
    assert live(luna, 20).llm.usage["cost_usd"].sum() == pytest.approx(told.cost_usd)
    assert sim.stats().requests == 20


def test_what_the_job_answers_first_is_not_sent_live_and_keeps_its_place(
    luna: str, sim: Simulator, cache_dir: Path
) -> None:
    job = pending(luna, sim, 40)
    begun = threading.Event()
    go_on = threading.Event()

    def answer(request: SimRequest) -> SimAnswer:
        if not request.batch:
            begun.set()
            go_on.wait(60)
        return SimAnswer.value({"value": True})

    sim.set(answers=answer)
    pllm.configure(concurrency=4)
    told: list[Any] = []
    hurrying = threading.Thread(target=lambda: told.append(pllm.jobs().send_live(job.id, confirm=False)))

    hurrying.start()
    begun.wait(60)
    sim.advance(LONG_S)
    pllm.jobs().fetch(job.id)
    go_on.set()
    hurrying.join(60)

    assert (told[0].answered + told[0].batch_first, told[0].left) == (40, 0)
    assert told[0].batch_first == 40 - sim.stats().requests >= 30
    late = (cache_dir / "jobs" / f"{job.id}.second.jsonl").read_text().splitlines()
    assert [orjson.loads(line)["came"] for line in late] == ["live"] * told[0].answered
    assert known(live(luna, 40)) == {"cached": 40}
    assert live(luna, 40).llm.usage["cost_usd"].sum() == pytest.approx(job_cost(job))


def test_lines_that_are_cut_off_live_are_answered_and_not_paid_for_again(luna: str, sim: Simulator) -> None:
    job = pending(luna, sim, 5)
    sim.set(answers=lambda request: SimAnswer.truncated("{"))

    told = pllm.jobs().send_live(job.id, confirm=False)
    out = live(luna, 5)

    assert (told.answered, told.failed, told.left) == (5, {}, 0)
    assert out.llm.errors["kind"].tolist() == ["truncated"] * 5
    assert sim.stats().requests == 5


def test_a_refused_key_leaves_the_lines_with_the_job(luna: str, sim: Simulator) -> None:
    job = pending(luna, sim, 100)
    sim.set(answers=lambda request: SimAnswer.status(401))

    told = pllm.jobs().send_live(job.id, confirm=False)

    assert (told.answered, told.batch_first, list(told.failed)) == (0, 0, ["authentication"])
    assert told.left == 100 - told.failed["authentication"] > 0
    sim.set(answers=lambda request: SimAnswer.value({"value": True}))
    sim.advance(LONG_S)
    (done,) = pllm.jobs().fetch(job.id)
    assert done.answered == 100


def test_lines_that_fail_live_stay_with_the_job(luna: str, sim: Simulator) -> None:
    job = pending(luna, sim, 10)
    sim.set(error_500=1.0)
    pllm.configure(max_retries=0)

    told = pllm.jobs().send_live(job.id, confirm=False)

    assert (told.answered, told.failed, told.left) == (0, {"server_error": 10}, 0)
    sim.set(error_500=0.0)
    sim.advance(LONG_S)
    (done,) = pllm.jobs().fetch(job.id)
    assert done.answered == 10


def test_hurrying_keeps_the_ceiling(luna: str, sim: Simulator) -> None:
    pllm.configure(max_cost_usd=1, max_output_tokens=100)
    job = pending(luna, sim, 50)
    pllm.configure(max_cost_usd=0.0002)

    told = pllm.jobs().send_live(job.id, confirm=False)

    assert told.cost_usd is not None
    assert 0 < told.cost_usd <= 0.0002
    assert told.left == 50 - told.answered > 0


def test_a_ceiling_that_cannot_be_kept_sends_nothing(luna: str, sim: Simulator) -> None:
    job = pending(luna, sim, 5)
    pllm.configure(max_cost_usd=1)

    with pytest.raises(
        UsageError, match=r"cannot be enforced: the requests .* without an output limit.*Nothing was sent"
    ):
        pllm.jobs().send_live(job.id, confirm=False)

    assert sim.stats().requests == 0


def test_an_interrupt_of_hurry_sends_no_more_and_keeps_what_came(luna: str, sim: Simulator) -> None:
    job = pending(luna, sim, 200)
    landed, stopped = itertools.count(1), threading.Event()

    def answer(request: SimRequest) -> SimAnswer:
        number = next(landed)
        if number == 20:
            os.kill(os.getpid(), signal.SIGINT)
        if number >= 20:  # so that it does not matter how soon the interrupt is seen
            stopped.wait(60)
        return SimAnswer.value({"value": True})

    sim.set(answers=answer, latency_s=0.05)
    pllm.configure(concurrency=4)

    with pytest.raises(KeyboardInterrupt):
        pllm.jobs().send_live(job.id, confirm=False)

    stopped.set()
    sent = sim.stats().requests
    assert 20 <= sent < 24
    sim.set(answers=None)
    assert not next(iter(pllm.jobs())).final
    out = live(luna, 200)
    assert known(out)["cached"] >= 16


def test_another_kernel_fetches_with_no_run_at_all(hosted: Side, sim: Simulator) -> None:
    pending(hosted.model, sim, 20)
    restart()
    sim.advance(LONG_S)

    done = pllm.jobs().fetch()

    assert [(str(job.state), job.answered) for job in done] == [("done", 20)]
    assert known(live(hosted.model, 20)) == {"cached": 20}
    assert sim.stats().requests == 0


def test_refresh_shows_what_the_provider_counts(luna: str, sim: Simulator) -> None:
    pending(luna, sim, 20)
    sim.advance(LONG_S / 2)

    (line,) = pllm.jobs().refresh().frame.to_dict("records")

    assert (line["state"], line["model"], line["total"], line["failed"]) == ("running", luna, 20, 0)
    assert 5 <= line["answered"] <= 15


def test_cancelling_keeps_what_is_answered(hosted: Side, sim: Simulator) -> None:
    job = pending(hosted.model, sim, 20)
    sim.advance(LONG_S / 2)

    pllm.jobs().cancel(job.id[:6])
    (done,) = pllm.jobs().fetch(job.id)

    assert done.ending == "cancelled"
    assert pllm.jobs().frame["state"].tolist() == ["cancelled"]
    assert done.answered + done.failed == 20
    states = {"cached": done.answered, "ok": done.failed}
    assert known(live(hosted.model, 20)) == {state: count for state, count in states.items() if count}


def test_a_key_that_is_not_at_hand_is_named(luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    job = pending(luna, sim, 5)
    restart()
    monkeypatch.delenv("OPENAI_API_KEY")
    asked = sim.stats().batch_requests

    left = pllm.jobs().fetch()

    assert left.unreached == 1
    assert left.frame["message"].tolist() == ["It needs OPENAI_API_KEY, which is not set here."]
    with pytest.raises(UsageError, match="It needs OPENAI_API_KEY"):
        pllm.jobs().cancel(job.id)
    with pytest.raises(UsageError, match="It needs OPENAI_API_KEY"):
        pllm.jobs().send_live(job.id, confirm=False)
    monkeypatch.setenv("OPENAI_API_KEY", "anothers")
    (message,) = pllm.jobs().frame["message"]
    assert message == (
        f"It was made with another key, client or address than is set here. Where that is gone for good, "
        f"pllm.jobs().abandon({job.id[:8]!r}) lets its rows be asked again."
    )
    assert sim.stats().batch_requests == asked


def test_an_id_may_be_shortened_while_it_is_one_jobs(luna: str, sim: Simulator) -> None:
    job = pending(luna, sim, 3)

    assert [found.id for found in pllm.jobs().refresh(job.id[:4])] == [job.id]
    for work in (pllm.jobs().refresh, pllm.jobs().fetch):
        with pytest.raises(UsageError, match=r"^There is no batch job ''\. Give at least 4 characters"):
            work("")
    with pytest.raises(UsageError, match=r"^There is no batch job 'zzzz'\. Nothing was sent\.$"):
        pllm.jobs().refresh("zzzz")
    with pytest.raises(UsageError, match=r"Give at least 4 characters of its id\."):
        pllm.jobs().refresh(job.id[:3])


def test_looking_at_jobs_makes_no_journal(cache_dir: Path) -> None:
    jobs = pllm.jobs()

    assert (repr(jobs), jobs._repr_html_(), len(jobs.fetch())) == ("No batch jobs.", "<p>No batch jobs.</p>", 0)
    assert list(jobs.frame.columns)[:3] == ["job", "state", "model"]
    assert not (cache_dir / "jobs.db").exists()


def test_the_table_escapes_what_it_shows(luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["<script>\x1b[31mred"])
    pending(luna, sim, 3)

    assert "&lt;script&gt;red" in pllm.jobs()._repr_html_()
    assert "\x1b" not in repr(pllm.jobs())


@pytest.mark.parametrize("side", [OPENAI, ANTHROPIC, GOOGLE], ids=lambda side: side.id)
@pytest.mark.parametrize("named", [False, True], ids=["found out", "named"])
def test_a_downloaded_file_is_taken_in_by_its_ids(
    side: Side, named: bool, sim: Simulator, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(side, sim, monkeypatch)
    job = ended(side.model, sim, 40, batch_line_error=0.1, batch_unknown=2)
    path = download(side, sim, job, tmp_path)
    pllm.configure(cache_dir=tmp_path / "elsewhere")

    first = pllm.import_results(path, model=side.model if named else None)
    second = pllm.import_results(path)

    failed = {"server_error" if side is OPENAI else "overloaded": 4}
    assert (first.taken, first.known, first.unknown, first.failed) == (36, 0, 2, failed)
    assert (second.taken, second.known) == (0, 36)
    assert repr(second).startswith("0 answers were taken in; 36 were known, 4 lines have none")
    assert known(live(side.model, 40)) == {"cached": 36, "ok": 4}
    assert sim.stats().requests == 4


def test_imported_answers_are_what_a_pending_job_was_waited_for(
    luna: str, sim: Simulator, cache_dir: Path, tmp_path: Path
) -> None:
    job = ended(luna, sim, 10)
    path = download(OPENAI, sim, job, tmp_path)
    pllm.configure(cache_dir=tmp_path / "elsewhere")
    again = pending(luna, sim, 10)

    pllm.import_results(path)

    assert pllm.jobs().send_live(again.id, confirm=False).answered == 0
    assert known(live(luna, 10)) == {"cached": 10}


def test_a_file_that_holds_no_results_is_refused(cache_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n')

    with pytest.raises(UsageError, match=r"is not a file of batch results.*Nothing was taken in"):
        pllm.import_results(path)


def download(side: Side, sim: Simulator, job: Job, folder: Path) -> Path:
    """Get a job's results as a person gets them, and give the file."""
    if side is ANTHROPIC:
        addresses = [f"{sim.base_url('anthropic')}/v1/messages/batches/{job.remote}/results"]
    elif side is GOOGLE:
        addresses = [f"{sim.base_url('google')}/v1beta/{file}:download?alt=media" for file in job.files]
    else:
        addresses = [f"{sim.base_url('openai')}/files/{file}/content" for file in job.files]
    path = folder / "results.jsonl"
    with path.open("wb") as target:
        for address in addresses:
            headers = {"authorization": "Bearer any-key", "x-api-key": "any-key", "x-goog-api-key": "any-key"}
            headers["anthropic-version"] = "2023-06-01"
            with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
                target.write(answer.read())
    return path
