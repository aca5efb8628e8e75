"""Runs that nobody holds any more: their answers, samples and states, read from the registry and the cache."""

from __future__ import annotations

import copy
import datetime as dt
import os
import pickle
import textwrap
import time
from array import array
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator

import pllm_notebook as pllm
from pllm_notebook.exceptions import NameClashError, PllmError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.execution.results import UNPLANNED
from pllm_notebook.execution.row_record import SampleRecord
from pllm_notebook.execution.run_recorder import RunRecorder
from pllm_notebook.frames.item_lists import submit_list, submit_one
from pllm_notebook.frames.recorded_run import RecordedRun
from pllm_notebook.sim import SimAnswer, SimRequest
from pllm_notebook.store.process_identity import has_exited, this_process
from pllm_notebook.store.run_files import RunFiles
from tests.contract.scripts import words
from tests.forked import Forked

from .frame_libraries import FrameKit

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


class Item(BaseModel):
    """One item."""

    name: str
    size: int


class Rich(BaseModel):
    """Of every kind of column."""

    kind: Literal["a", "b"]
    count: int
    share: float
    good: bool
    day: dt.date
    at: dt.datetime
    took: dt.timedelta
    item: Item
    items: list[Item]
    sizes: dict[str, int]
    exact: Decimal
    data: bytes
    pair: tuple[int, str]
    note: str | None = None
    weight: float = Field(default=2.5, alias="wt")


class Mark(BaseModel):
    """Mark the text."""

    mark: int


class Shouted(BaseModel):
    """Mark the text."""

    word: str

    @field_validator("word")
    @classmethod
    def _shout(cls, word: str) -> str:
        return word.upper()


@pytest.fixture
def ready(cache_dir: Path) -> Iterator[Path]:
    def answer(request: SimRequest) -> Any:
        properties = (request.schema or {}).get("properties", {})
        if "bad" in request.prompt:
            return SimAnswer.refusal()
        if "answer" in properties:  # a judge's
            return {"scores": [], "answer": {"mark": 99}}
        if "mark" in properties:
            return {"mark": len(request.messages[-1][1]) + (request.index if "unsure" in request.prompt else 0)}
        return {"word": "low"} if "word" in properties else f"said {request.prompt}"

    pllm.configure(sim={"answers": answer}, model="sim:openai")
    run_registry.forget_all()
    yield cache_dir
    run_registry.forget_all()


def let_go(out: Any) -> RecordedRun:
    """Open the run of a result as a new kernel would."""
    run_id = pllm.frame(out).run.id
    run_registry.forget_all()
    run = pllm.run(run_id)
    assert isinstance(run, RecordedRun)
    return run


def assert_same(kit: FrameKit, frame: Any, other: Any) -> None:
    """Check that two frames have the same columns, dtypes and values."""
    assert kit.dtypes(frame) == kit.dtypes(other)
    assert kit.rows(frame) == kit.rows(other)


# The answers.


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "flatten": {"flatten": True, "prefix": "p_"},
    "json": {"nested": "json"},
    "explode": {"explode": "items"},
    "messages": {"error_column": "why"},
    "pack": {"pack": 2},
    "samples": {"samples": 2, "agreement_column": "agree"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.sample(7)
def test_the_answers_of_a_run_that_is_not_held_come_back_beside_its_rows(
    cache_dir: Path, kit: FrameKit, options: dict[str, Any]
) -> None:
    pllm.configure(model="sim:openai")
    frame = kit.frame({"t": ["x", "y"]})
    out = kit.llm(frame).parse(Rich, "{t}", **options)

    run = let_go(out)

    assert_same(kit, run.to_frame(frame), out)
    assert_same(kit, run.to_frame(frame, response_format=Rich), out)
    assert kit.llm(run.to_frame(frame)).run.id == run.id


@pytest.mark.parametrize("kind", [bool, list[Item], Literal["a", "b"], int | None, None])
def test_a_type_without_fields_is_read_back(cache_dir: Path, kit: FrameKit, kind: Any) -> None:
    pllm.configure(model="sim:openai")
    frame = kit.frame({"t": ["x", "y"]})
    out = kit.llm(frame).complete("{t}") if kind is None else kit.llm(frame).parse(kind, "{t}")

    assert_same(kit, let_go(out).to_frame(frame), out)


def test_rows_get_their_answers_by_their_content(ready: Path, kit: FrameKit) -> None:
    frame = kit.frame({"t": ["a", "bb", "bad"]})
    out = kit.llm(frame).parse(Mark, "{t}")
    run = let_go(out)

    with pytest.warns(UserWarning, match="was not asked about 1 row of this frame"):
        mixed = run.to_frame(kit.frame({"n": [1, 2, 3, 4], "t": ["bb", "new", "a", "bb"]}))

    assert kit.column(mixed, "mark") == [2, None, 1, 2]
    assert kit.names(mixed) == ["n", "t", "mark"]
    assert_same(kit, run.to_frame(out), out)
    with pytest.raises(PllmError, match="No row of this frame has the content"):
        run.to_frame(kit.frame({"t": ["other"]}))
    with pytest.raises(PllmError, match=r"asked about \['t'\], and \['t'\] is not in this frame"):
        run.to_frame(kit.rename(frame, "t", "u"))
    with pytest.raises(NameClashError):
        run.to_frame(kit.put(frame, "mark", [7, 7, 7]))


def test_what_validators_change_needs_the_type(ready: Path, kit: FrameKit) -> None:
    frame = kit.frame({"t": ["a"]})
    out = kit.llm(frame).parse(Shouted, "{t}")
    run = let_go(out)

    assert kit.column(out, "word") == ["LOW"]
    assert kit.column(run.to_frame(frame), "word") == ["low"]
    assert kit.column(run.to_frame(frame, response_format=Shouted), "word") == ["LOW"]
    with pytest.raises(UsageError, match=r"made the columns \['word'\], and response_format= makes \['mark'\]"):
        run.to_frame(response_format=Mark)


def test_a_run_of_this_kernel_takes_the_type_as_an_earlier_one_does(ready: Path, kit: FrameKit) -> None:
    frame = kit.frame({"t": ["a"]})
    run = kit.llm(kit.llm(frame).parse(Shouted, "{t}")).run

    assert kit.column(run.to_frame(response_format=Shouted), "word") == ["LOW"]
    assert kit.column(run.to_frame(frame, response_format=Shouted), "word") == ["LOW"]
    assert run.to_frame(response_format=None) is not None
    for df in (None, frame):
        with pytest.raises(UsageError, match=r"made the columns \['word'\], and response_format= makes \['mark'\]"):
            run.to_frame(df, response_format=Mark)


def test_an_answer_that_left_the_cache_is_missing_and_told(ready: Path, kit: FrameKit) -> None:
    frame = kit.frame({"t": ["a", "bad", "bb"]})
    run = let_go(kit.llm(frame).parse(Mark, "{t}"))
    assert run.status.tolist() == ["ok", "failed", "ok"]
    pllm.cache.clear()
    kit.llm(kit.frame({"t": ["bb"]})).parse(Mark, "{t}")

    with pytest.warns(UserWarning, match="1 answer of the run .* no longer in the cache"):
        out = run.to_frame(frame)

    assert kit.column(out, "mark") == [None, None, 2]
    assert kit.dtypes(out)["mark"].lower() == "int64"
    assert run.status.tolist() == ["lost", "failed", "ok"]


def test_an_answer_after_a_repair_is_read_from_its_last_reply(cache_dir: Path, kit: FrameKit) -> None:
    def answer(request: SimRequest) -> Any:
        return {"mark": 5} if len(request.messages) > 1 else SimAnswer.text('{"mark": "none"}')

    pllm.configure(sim={"answers": answer}, model="sim:openai")
    frame = kit.frame({"t": ["a", "bb"]})
    out = kit.llm(frame).parse(Mark, "{t}", max_repairs=1)

    assert kit.column(out, "mark") == [5, 5]
    run = let_go(out)
    assert kit.column(run.to_frame(frame), "mark") == [5, 5]


_SPENT = ("input_tokens", "output_tokens", "cost_usd", "latency_s", "attempts", "cached")


@pytest.mark.parametrize("how", ["repaired", "refused", "sampled", "retried"])
def test_the_usage_of_rows_of_several_replies_and_of_failed_ones_is_known_later(
    cache_dir: Path, kit: FrameKit, how: str
) -> None:
    refuses = [how in ("refused", "retried")]

    def answer(request: SimRequest) -> Any:
        if refuses[0] and "bb" in request.prompt:
            return SimAnswer.refusal()
        if how == "repaired" and len(request.messages) == 1 and "bb" in request.prompt:
            return SimAnswer.text('{"mark": "none"}')
        return {"mark": len(request.prompt)}

    pllm.configure(sim={"answers": answer}, model="sim:openai")
    options: dict[str, Any] = {"samples": 3} if how == "sampled" else {}
    run = kit.llm(kit.frame({"t": ["a", "bb", "ccc"]})).submit(Mark, "{t}", **options)
    run.wait()
    if how == "retried":
        refuses[0] = False
        run.retry(["refusal"]).wait()
    out = run.to_frame()
    live = kit.rows(kit.llm(out).usage)
    del run

    recorded = let_go(out)

    assert live[1]["attempts"] == {"repaired": 2, "refused": 1, "sampled": 3, "retried": 2}[how]
    for later in (recorded.usage_of(range(3)), kit.rows(kit.llm(out).usage)):
        for row in range(3):
            assert [later[row][name] for name in _SPENT] == pytest.approx([live[row][name] for name in _SPENT])


def test_a_run_that_is_not_held_tells_its_question_cost_usage_and_errors(ready: Path, kit: FrameKit) -> None:
    out = kit.llm(kit.frame({"t": ["a", "bad"]})).parse(Mark, "{t}", system="Be brief.")
    live, cost = kit.rows(kit.llm(out).usage)[0], kit.llm(out).run.cost
    run = let_go(out)

    assert run.question["prompt"] == "{t}"
    assert run.question["system"] == "Be brief."
    assert run.cost == cost
    assert kit.column(kit.llm(out).errors, "kind") == ["refusal"]
    recorded = kit.rows(kit.llm(out).usage)[0]
    for name in ("input_tokens", "cost_usd", "attempts", "cached"):
        assert recorded[name] == live[name]


def test_calls_and_decisions_are_not_read_back_as_values(ready: Path, kit: FrameKit) -> None:
    out = kit.llm(kit.frame({"q": ["1"], "a": ["1"], "b": ["1"]})).decide(["a", "b"], "{q}")

    with pytest.raises(PllmError, match="decisions between columns, which the registry cannot read back"):
        let_go(out).to_frame()


# Samples.


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decide": "judge"},
        {"judge": "sim:anthropic", "decide": "escalate"},
        {"decide": lambda marks: marks[-1]},
        {"decide": lambda marks: Mark(mark=77)},
    ],
    ids=["vote", "judge", "escalate", "chosen", "made"],
)
def test_samples_and_agreement_outlive_the_run_in_every_library(
    ready: Path, kit: FrameKit, options: dict[str, Any]
) -> None:
    frame = kit.frame({"t": ["a", "unsure", "bad"]})
    out = kit.llm(frame).parse(Mark, "{t}", samples=3, **options)
    live = kit.llm(out)
    samples, agreement = kit.rows(live.samples), kit.rows(live.agreement)
    run = let_go(out)

    again = kit.rows(kit.llm(out).samples)

    same = ["position", "label", "model", "sample", "chosen", "decided", "mark"]
    assert [[row[name] for name in same] for row in again] == [[row[name] for name in same] for row in samples]
    assert [row["failure"] is None for row in again] == [True] * 6 + [False] * 3
    assert kit.rows(kit.llm(out).agreement) == agreement
    if 77 in kit.column(out, "mark"):  # what a function made is in no reply
        assert kit.column(run.to_frame(frame), "mark") == [None] * 3
    else:
        assert_same(kit, run.to_frame(frame), out)


def test_fields_with_majorities_of_their_own_are_put_together_again(cache_dir: Path, kit: FrameKit) -> None:
    given = iter([("a", 1), ("a", 2), ("b", 2)])

    def answer(request: SimRequest) -> Any:
        name, size = next(given)
        return {"name": name, "size": size}

    pllm.configure(sim={"answers": answer}, model="sim:openai")
    frame = kit.frame({"t": ["x"]})
    out = kit.llm(frame).parse(Item, "{t}", samples=3, concurrency=1)

    assert kit.rows(out) == [{"t": "x", "name": "a", "size": 2}]
    assert_same(kit, let_go(out).to_frame(frame), out)


def test_a_sample_takes_thirteen_bytes_and_a_decision_two(ready: Path) -> None:
    record = let_go(words("a", "b").llm.parse(Mark, "{text}", samples=3)).record
    assert record is not None
    samples = record.samples
    assert isinstance(samples, SampleRecord)

    assert (samples.keys.nbytes + samples.failure.nbytes) / (2 * 3) == 13
    assert (samples.chosen.nbytes + samples.how.nbytes) / 2 == 2


# What is no frame.


def test_runs_of_lists_and_single_prompts_are_recorded(ready: Path) -> None:
    listed = submit_list(["a", "bad", "bb"], Mark, "{value}")
    listed.result()
    one = submit_one("Say {name}", {"name": "it"}, None)
    one.result()
    config = pllm.LLMConfig(client="sim:openai", model="gpt-6-luna", response_format="text")
    contexts = [pllm.LLMPromptContext(new_message=text, llm_config=config) for text in ("x", "y", "x")]
    outputs = pllm.ParallelAIUtilities().run_parallel_ai_completion_sync(contexts)
    ids = [listed.id, one.id]
    del listed, one
    run_registry.forget_all()

    runs = pllm.runs()

    assert [run.id for run in runs][:2] == ids
    assert runs.frame["rows"].tolist() == [3, 1, 3]
    assert runs.frame["asked"].tolist() == ["{value}", "Say {name}", "3 prompts"]
    first, second, third = runs
    assert isinstance(first, RecordedRun)
    assert isinstance(second, RecordedRun)
    assert isinstance(third, RecordedRun)
    assert first.status.tolist() == ["ok", "failed", "ok"]
    assert first.to_frame()["mark"].fillna(0).tolist() == [1, 0, 2]
    assert second.to_frame()["answer"].tolist() == ["said Say it"]
    assert third.to_frame()["answer"].tolist() == [output.str_content for output in outputs]
    assert third.record is not None
    assert third.record.content[0] == third.record.content[2] != third.record.content[1]
    with pytest.raises(PllmError, match="it has no dataframe"):
        first.to_frame(words("a"))


def test_a_run_of_a_list_makes_no_frame(ready: Path, kit: FrameKit) -> None:
    submit_list(["a"], Mark, "{value}").result()

    with pytest.raises(PllmError, match="No known run made this frame"):
        _ = kit.llm(kit.frame({"value": ["a"], "mark": [1]})).status


def test_without_a_cache_a_run_has_its_counts_and_no_keys(ready: Path, kit: FrameKit) -> None:
    out = kit.llm(kit.frame({"t": ["a", "bad"]})).parse(Mark, "{t}", cache="off")
    assert kit.values(kit.llm(out).status) == ["ok", "failed"]

    run = let_go(out)

    assert (run.header["answered"], run.header["failed"], run.state) == (1, 1, "done")
    assert run.record is None
    assert RunFiles(str(ready)).arrays(run.id) is None
    with pytest.raises(PllmError, match="had no cache"):
        run.to_frame()


# A process that was killed.


@pytest.mark.sample(1)
def test_a_killed_run_is_interrupted_and_has_what_had_come(ready: Path, kit: FrameKit) -> None:
    script = f"""
        import pandas as pd, pllm_notebook as pllm
        from pllm_notebook.sim import SimAnswer
        from pydantic import BaseModel
        class Mark(BaseModel):
            mark: int
        pllm.configure(cache_dir={str(ready)!r}, progress=False, model="sim:openai", sim={{
            "answers": lambda r: SimAnswer.hang() if "slow" in r.prompt else {{"mark": len(r.prompt)}}}})
        run = pd.DataFrame({{"t": ["a", "slow", "ccc"]}}).llm.submit(Mark, "{{t}}")
        while run.progress().done < 2 or not ROWS():
            pass
        print(run.id, flush=True)
        run.wait()
    """
    rows = f"""
        import time
        from pllm_notebook.store.run_files import RunFiles
        def ROWS():
            time.sleep(0.02)
            files = RunFiles({str(ready)!r})
            return any(files.arrays(header["id"]) for header in files.headers())
    """
    child = Forked(["-c", textwrap.dedent(rows) + textwrap.dedent(script)], os.environ)
    run_id = child.stdout.readline().decode().strip()
    going = pllm.run(run_id)
    assert going.state == "running"
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        stream.close()

    run = pllm.run(run_id)

    assert run.state == "interrupted"
    assert pllm.runs().frame["state"].tolist() == ["interrupted"]
    assert run.status.tolist() == ["ok", "pending", "ok"]
    assert run.to_frame()["mark"].fillna(0).tolist() == [1, 0, 3]
    assert "at least" in repr(run)
    known = kit.llm(run.to_frame(kit.frame({"t": ["ccc", "slow"]})))
    assert [str(value) for value in kit.values(known.status)] == ["ok", "pending"]
    assert [row["cost_usd"] is not None for row in kit.rows(known.usage)] == [True, False]


def test_a_run_whose_result_nobody_takes_is_recorded_as_it_ended(ready: Path, kit: FrameKit) -> None:
    run = kit.llm(kit.frame({"t": ["a", "bb"]})).submit(Mark, "{t}")
    run.wait()

    files = RunFiles(ready)
    deadline = time.monotonic() + 60
    while next(files.headers())["state"] != "done" and time.monotonic() < deadline:
        time.sleep(0.05)

    assert [(one["state"], one["answered"]) for one in files.headers()] == [("done", 2)]


def test_a_process_is_known_by_when_it_began() -> None:
    here = this_process()

    assert not has_exited(here)
    assert has_exited(here | {"began": "another time"})
    assert has_exited(here | {"boot": "before the machine was started anew"})
    assert not has_exited(here | {"host": "another machine", "began": "then"})
    assert not has_exited(here | {"ids": "another container", "began": "then"})
    assert not has_exited({})


# What a notebook shows.


def test_what_a_notebook_shows_is_three_lines_that_obey_no_markup(ready: Path, kit: FrameKit) -> None:
    frame = kit.frame({"t": ["a", "bad"]})
    out = kit.llm(frame).parse(Mark, "<script>{t}</script>")
    run = kit.llm(out).run
    views = {"run": run._repr_html_(), "out": kit.llm(out)._repr_html_()}
    views["recorded"] = let_go(out)._repr_html_()
    views["series"] = kit.llm(frame["t"])._repr_html_()
    views["df"] = kit.llm(frame)._repr_html_()

    for name, shown in views.items():
        assert "<script>" not in shown, name
        assert shown.count("<br>") <= 3, name
        if name in ("run", "out", "recorded"):
            assert "<b>SIMULATED</b>" in shown, name
            assert "1 of 2 rows answered" in shown, name
    assert "2 rows, 1 column" in views["df"]
    assert "SIMULATED" in pllm.runs()._repr_html_()


def test_rows_are_written_at_their_planning_only_where_something_is_sent(tmp_path: Path) -> None:
    submitted: list[Any] = []
    workers: Any = SimpleNamespace(submit=lambda *work: submitted.append(work))
    execution = SimpleNamespace(queues=SimpleNamespace(in_flight=0), submitted=True)
    table = SimpleNamespace(call_of_row=array("q", [0, 1]))
    run: Any = SimpleNamespace(
        started_at=time.time(),
        execution=execution,
        table=table,
        done=lambda: False,
        spec=SimpleNamespace(options=SimpleNamespace(mode="async")),
    )
    recorder = RunRecorder(str(tmp_path))

    recorder.look(run, workers)
    assert submitted == []  # the cache may answer all of them
    execution.queues.in_flight = 1
    table.call_of_row[1] = UNPLANNED
    recorder.look(run, workers)
    assert submitted == []
    table.call_of_row[1] = 1
    recorder.look(run, workers)
    recorder.look(run, workers)

    assert len(submitted) == 1


# What a live run has, and this one has not.


def test_what_a_live_run_alone_has_is_refused_with_what_to_do(ready: Path) -> None:
    run = let_go(words("a").llm.complete("{text}"))

    for name in ("result", "wait", "retry", "explain", "cancel"):
        with pytest.raises(AttributeError, match=f"not in this kernel's memory, so it has no '{name}'"):
            getattr(run, name)
    with pytest.raises(AttributeError, match=r"^'RecordedRun' object has no attribute 'nothing'$"):
        getattr(run, "nothing")  # noqa: B009  mypy knows that it is not there
    assert pickle.loads(pickle.dumps(run)).id == copy.copy(run).id == run.id
