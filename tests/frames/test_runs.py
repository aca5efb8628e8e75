"""`pllm.runs`, `pllm.run` and `pllm.frame`: the runs that are known, of this kernel and of earlier ones."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
import time
import tracemalloc
import weakref
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import polars as pl
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution import live_of, run_registry
from pllm_notebook.frames import lost_accessors
from pllm_notebook.frames.lazy_accessor import register_accessor
from pllm_notebook.frames.recorded_run import RecordedRun
from pllm_notebook.sim import SimAnswer, SimRequest
from pllm_notebook.store.later import finish_writes

from .frame_libraries import LIBRARIES, FrameKit, Texts

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


class Mark(BaseModel):
    """Mark the text."""

    mark: int


@pytest.fixture
def ready(cache_dir: Path) -> Iterator[Path]:
    def answer(request: SimRequest) -> Any:
        return SimAnswer.refusal() if "bad" in request.prompt else {"mark": len(request.prompt)}

    pllm.configure(sim={"answers": answer}, model="sim:openai")
    run_registry.forget_all()
    yield cache_dir
    run_registry.forget_all()


def test_runs_are_those_of_this_kernel_and_of_earlier_ones(ready: Path, kit: FrameKit, texts: Texts) -> None:
    first = kit.llm(texts("a").parse(Mark, "{t}")).run.id
    run_registry.forget_all()
    second = texts("a", "bad").parse(Mark, "{t}")

    runs = pllm.runs()

    assert [run.id for run in runs] == [first, kit.llm(second).run.id]
    assert isinstance(runs[0], RecordedRun)
    assert runs[-1] is kit.llm(second).run
    assert runs.frame["rows"].tolist() == [1, 2]
    assert runs.frame["failed"].tolist() == [0, 1]
    assert runs.frame["asked"].tolist() == ["{t}", "{t}"]
    assert len(runs[-1:]) == 1


def test_runs_are_shown_as_a_table_that_obeys_no_markup(ready: Path, texts: Texts) -> None:
    texts("a").parse(Mark, "<script>alert(1)</script>{t}")

    shown = pllm.runs()._repr_html_()

    assert "<table>" in shown
    assert "sim:openai" in shown
    assert "<script>" not in shown
    run_registry.forget_all()
    assert pllm.runs()._repr_html_() == shown
    assert "<script>" not in pllm.runs()[-1]._repr_html_()


def test_a_run_is_opened_by_its_id(ready: Path, kit: FrameKit, texts: Texts) -> None:
    out = texts("a", "bad").parse(Mark, "Mark {t}", temperature=0.5)
    run_id = kit.llm(out).run.id
    assert pllm.run(run_id) is kit.llm(out).run
    run_registry.forget_all()

    run = pllm.run(run_id)

    assert repr(run).startswith(f"<RecordedRun {run_id} done: 1 of 2 rows answered (0 from cache, 1 failed), $0.0")
    assert run.status.tolist() == ["ok", "failed"]
    assert run.errors["kind"].tolist() == ["refusal"]
    assert run.reply(0)["object"] == "chat.completion"
    assert run.header["options"] == {"model": "sim:openai", "temperature": 0.5, "progress": False}
    assert run.header["schema"]["properties"].keys() == {"mark"}
    assert '"""Mark the text."""' in run.header["source"]
    assert run.header["served"] == ["gpt-6-luna"]
    with pytest.raises(PllmError, match="There is no run 'none'"):
        pllm.run("none")
    with pytest.raises(UsageError):
        pllm.run(3)
    with pytest.raises(UsageError, match=r"\[-1\] is the newest\. pllm\.run\('3f2a'\) opens one"):
        pllm.runs()["3f2a"]


def test_the_registry_holds_no_text_of_rows_and_no_key(ready: Path, kit: FrameKit, texts: Texts) -> None:
    extra = {"metadata": {"api_key": "sk-proj-abcdefghijklmnop"}}
    out = texts("MYSECRETTEXT", "bad MYSECRETTEXT").parse(Mark, "Mark {t}", extra_body=extra)
    _ = kit.llm(out).errors
    finish_writes()

    kept = b"".join(path.read_bytes() for path in (ready / "runs").iterdir())

    assert b"Mark {t}" in kept
    assert b"MYSECRETTEXT" not in kept
    assert b"abcdefghijklmnop" not in kept


def test_records_are_cleared_and_answers_stay(ready: Path, kit: FrameKit, texts: Texts) -> None:
    out = texts("a").parse(Mark, "{t}")
    run_registry.forget_all()

    assert pllm.runs.clear(older_than=timedelta(days=1)) == 0
    assert pllm.runs.clear() == 1

    assert pllm.runs() == []
    with pytest.raises(PllmError, match="no longer in the registry of runs"):
        _ = kit.llm(out).status
    assert kit.llm(kit.drop(out, "mark")).estimate(Mark, "{t}").cached == 1


def test_a_run_that_was_cancelled_is_recorded(ready: Path, texts: Texts) -> None:
    pllm.configure(sim={"answers": lambda request: SimAnswer.hang() if "slow" in request.prompt else {"mark": 1}})
    run = texts("a", "slow").submit(Mark, "{t}")
    while run.progress().done < 1:
        time.sleep(0.01)
    run.cancel()
    with pytest.raises(PllmError):
        run.result()
    run_id = run.id
    del run
    run_registry.forget_all()

    found = pllm.run(run_id)

    assert found.state == "cancelled"
    assert found.status.tolist() == ["ok", "pending"]


def test_a_registry_that_cannot_be_written_costs_no_answer(
    ready: Path, kit: FrameKit, texts: Texts, caplog: pytest.LogCaptureFixture
) -> None:
    ready.mkdir()
    (ready / "runs").write_text("a file where the folder should be")

    with caplog.at_level(logging.WARNING):
        out = texts("a").parse(Mark, "{t}")

    assert kit.column(out, "mark") == [1]
    assert kit.values(kit.llm(out).status) == ["ok"]
    assert caplog.text.count("could not be written to the registry of runs") == 1


# What is held.


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "samples": {"samples": 3},
    "judge": {"samples": 2, "decide": "judge"},
    "pack": {"pack": 4},
    "batch": {"mode": "batch", "confirm": False},
}


# A job waits for its provider's clock: seconds, for what is no different in each library.
HELD = [(kit, name) for kit in LIBRARIES for name in KINDS if name != "batch" or kit.name == "pandas"]


@pytest.mark.parametrize(("kit", "name"), HELD, ids=str)
@pytest.mark.sample(5)
def test_a_run_that_nobody_holds_is_gone_without_a_search_for_garbage(
    ready: Path, kit: FrameKit, texts: Texts, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(run_registry, "LARGEST_BYTES", 0)
    options = KINDS[name]
    llm = texts(*(f"text {n}" for n in range(8)), "bad")
    gc.disable()
    try:
        run = llm.submit(Literal["1", "2"] if "judge" in options.values() else Mark, "{t}", **options)
        held = [weakref.ref(one) for one in (run, live_of(run).execution, live_of(run).table, live_of(run).rows)]
        out = run.result()
        run_id = run.id
        del run

        until = time.monotonic() + 60  # the thread that stored its answers may be at its last line
        while any(one() is not None for one in held) and time.monotonic() < until:
            time.sleep(0.01)
        assert [one() for one in held] == [None] * 4
    finally:
        gc.enable()
    assert isinstance(pllm.run(run_id), RecordedRun)
    assert len(kit.llm(out).status) == 9


def test_a_handle_that_a_person_holds_keeps_its_rows(
    ready: Path, kit: FrameKit, texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_registry, "LARGEST_BYTES", 0)
    run = texts("a", "bb").submit(Mark, "{t}")
    run.result()
    for n in range(3):
        texts(f"{n}").parse(Mark, "{t}")

    assert kit.column(run.to_frame(), "mark") == [1, 2]
    assert run in pllm.runs()
    assert kit.column(run.retry(["refusal"]).result(), "mark") == [1, 2]


def test_a_copied_handle_is_of_the_same_run_and_a_pickled_one_is_refused(ready: Path, texts: Texts) -> None:
    run = texts("a").submit(Mark, "{t}")
    run.wait()

    assert copy.copy(run) is run
    assert copy.deepcopy({"run": run})["run"] is run
    with pytest.raises(PllmError, match=rf"^The run '{run.id}' cannot be pickled: .*pllm\.run\('{run.id}'\) finds it"):
        pickle.dumps(run)


def test_a_result_that_nobody_has_had_is_kept_until_the_next_run(
    ready: Path, kit: FrameKit, texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_registry, "LARGEST_BYTES", 0)
    texts("a").submit(Mark, "{t}").wait()

    assert kit.rows(pllm.runs()[-1].to_frame()) == [{"t": "a", "mark": 1}]  # type: ignore[union-attr]
    assert isinstance(pllm.runs()[-1], RecordedRun)


@pytest.mark.sample(1)
def test_chunk_after_chunk_takes_no_more_than_one(ready: Path, texts: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_registry, "LARGEST_BYTES", 200_000)
    llm = texts(*(f"text {n}" for n in range(300)))
    llm.parse(Mark, "{t}")
    held = []
    tracemalloc.start()
    gc.disable()
    try:
        for n in range(8):
            llm.parse(Mark, "{t}")
            finish_writes()
            held.append(tracemalloc.get_traced_memory()[0])
            assert len(run_registry._RUNS.value.held) <= 1, n
    finally:
        gc.enable()
        tracemalloc.stop()

    assert held[-1] - held[2] < 300_000


# `df.llm` and another package.


def test_a_frame_can_be_asked_without_the_accessor(ready: Path, kit: FrameKit) -> None:
    frame = kit.frame({"t": ["a"]})

    assert kit.column(pllm.frame(frame).parse(Mark, "{t}"), "mark") == [1]
    assert kit.column(pllm.frame(frame["t"]).parse(Mark, "{value}"), "mark") == [1]
    with pytest.raises(UsageError, match=r"^pllm.frame takes a DataFrame or a Series, not int. Nothing was sent.$"):
        pllm.frame(1)


@pytest.mark.parametrize("frame_class", [pd.DataFrame, pl.DataFrame])
def test_an_accessor_that_is_anothers_is_told_and_left_alone(
    monkeypatch: pytest.MonkeyPatch, frame_class: type[Any]
) -> None:
    class Theirs:
        pass

    registered: list[str] = []
    monkeypatch.setattr(frame_class, "llm", Theirs())

    with pytest.warns(UserWarning, match=r"DataFrame.llm already belongs to .*test_runs.*pllm_notebook.frame\(df\)"):
        register_accessor(frame_class, registered.append, "pllm_notebook.frames.pandas.adapter:FrameLLM")

    assert registered == []
    assert lost_accessors().startswith("DataFrame.llm: taken by another package.")
    monkeypatch.undo()
    assert lost_accessors() == ""
