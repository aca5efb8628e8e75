"""Every public method of `.llm`, in every library: it works there, or says what to call in its place."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import dask.dataframe as dd
import pandas as pd
import polars as pl
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.accessor import LLMAccessor
from pllm_notebook.frames.frame_accessor import FrameAccessor
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.sides import OPENAI, reach
from tests.contract.two_models import PROMPT, TwoModels, options
from tests.contract.two_models import Review as Judged

from .frame_libraries import FrameKit

MOODS = ("good", "bad")
ROWS = 80
TEXTS = [f"text {n}" for n in range(ROWS)]


class Mood(BaseModel):
    """The mood of a text."""

    mood: Literal["good", "bad"]


def drawn(*parts: object) -> float:
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:8], 16) / 2**32


def right(text: str) -> str:
    return MOODS[int(text.split()[-1]) % 2]


def answer(request: SimRequest) -> Any:
    if request.tools:
        return SimAnswer.tool_calls([("file", {"mood": "good"})])
    if '"candidates"' in request.messages[0][1]:
        return {"scores": [], "answer": "left"}
    if "The text below is sent to a model" in request.prompt:  # which another one is proposed for
        return "```\nRead this: {text}\n```"
    if request.schema is None:
        return f"said {request.prompt}"
    if "evidence" in str(request.schema):
        return {"evidence": {"mood": "text"}, "answer": {"mood": right(request.prompt)}}
    # Right in most samples, and less often behind another prompt.
    wrong = drawn(request.prompt, request.index) < (0.5 if request.prompt.startswith("Other") else 0.2)
    return {"mood": MOODS[(MOODS.index(right(request.prompt)) + wrong) % 2]}


def file(mood: str) -> None:
    """File a text."""


class Asked:
    """What the calls below are given: rows, and the results of asking about them."""

    def __init__(self, kit: FrameKit, directory: Path) -> None:
        self.kit, self.directory = kit, directory
        self.frame = kit.frame({"text": TEXTS, "gold": [right(text) for text in TEXTS]})
        self.few = kit.llm(kit.frame({"text": TEXTS[:3]}))

    def result(self, **options: Any) -> Any:
        return self.kit.llm(self.kit.llm(self.frame).parse(Mood, "Read {text}", **options))

    def sampled(self) -> Any:
        return self.result(samples=3, probabilities="samples")

    def moods(self, frame: Any) -> list[Any]:
        return self.kit.column(frame, "mood")

    def shown(self, value: Any) -> str:
        """Return what a notebook shows of a report, which has a repr too."""
        assert repr(value)
        return str(value._repr_html_())


def a_parse(asked: Asked) -> None:
    assert asked.moods(asked.few.parse(Mood, "Read {text}")) == asked.moods(
        asyncio.run(asked.few.aparse(Mood, "Read {text}"))
    )


def a_complete(asked: Asked) -> None:
    said = ["said text 0", "said text 1", "said text 2"]
    assert asked.kit.column(asked.few.complete("{text}", column="said"), "said") == said
    assert asked.kit.column(asyncio.run(asked.few.acomplete("{text}", column="said")), "said") == said
    assert asked.kit.column(asked.few.submit_text("{text}", column="said").result(), "said") == said


def a_preview(asked: Asked) -> None:
    shown = asked.few.preview(Mood, "Read {text}", rows=2)
    assert (len(asked.moods(shown.frame)), shown.estimate.cached) == (2, 2)
    assert "text 1" in asked.shown(shown)


def a_tools(asked: Asked) -> None:
    assert asked.kit.column(asked.few.call_tools([file], "{text}"), "tool") == ["file"] * 3
    assert asked.kit.column(asyncio.run(asked.few.acall_tools([file], "{text}")), "tool") == ["file"] * 3
    assert asked.kit.column(asked.few.submit_calls([file], "{text}").result(), "tool") == ["file"] * 3


def a_decision(asked: Asked) -> None:
    frame = asked.kit.frame({"q": ["which?"], "one": ["left"], "two": ["right"]})
    call = asked.kit.llm(frame)
    for out in (
        call.decide(["one", "two"], "{q}"),
        asyncio.run(call.adecide(["one", "two"], "{q}")),
        call.submit_decision(["one", "two"], "{q}").result(),
    ):
        assert asked.kit.column(out, "decision") == ["left"]


def a_reduction(asked: Asked) -> None:
    pieces = asked.kit.llm(asked.kit.frame({"text": ["word " * 30]})).chunks("text", tokens=20)
    assert len(asked.kit.rows(pieces)) > 1
    call = asked.kit.llm(pieces)
    assert len(asked.kit.rows(call.reduce("Join {text}", tokens=200))) == 1
    assert len(asked.kit.rows(asyncio.run(call.areduce("Join {text}", tokens=200)))) == 1


def a_view(name: str, lines: int) -> Callable[[Asked], None]:
    def check(asked: Asked) -> None:
        out = {"evidence": lambda: asked.result(evidence=True), "usage": asked.result, "status": asked.result}
        value = getattr(out.get(name, asked.sampled)(), name)
        count = len(asked.kit.values(value)) if name == "status" else len(asked.kit.rows(value))
        assert count == lines

    return check


def a_failure(asked: Asked) -> None:
    pllm.configure(sim={"answers": lambda request: SimAnswer.refusal("No.")})
    with pytest.warns(UserWarning, match="3 of 3 rows failed"):
        out = asked.few.parse(Mood, "Read {text}")
    assert asked.kit.column(asked.kit.llm(out).errors, "kind") == ["refusal"] * 3


def a_run(asked: Asked) -> None:
    out = asked.result()
    assert out.run.id == pllm.runs()[-1].id
    assert "said" not in asked.shown(out.explain(0))
    assert out.explain(-1).prompt == f"Read text {ROWS - 1}"


def a_guarantee(asked: Asked) -> None:
    with pytest.raises(pllm.PllmError, match="guarantee="):
        _ = asked.result().guarantee


def an_evaluation(asked: Asked) -> None:
    found = asked.result().evaluate(against="gold", field="mood")
    assert found.answered == ROWS
    assert "precision" in asked.shown(found)
    assert len(asked.kit.rows(found.report)) == 2


def a_calibration(asked: Asked) -> None:
    found = asked.sampled().calibrate(against="gold", field="mood")
    assert len(asked.kit.values(found.confidence)) == ROWS
    assert asked.shown(found)


def a_comparison(asked: Asked) -> None:
    other = asked.kit.llm(asked.frame).parse(Mood, "Other {text}")
    found = asked.result().compare(other, against="gold", field="mood")
    changed = found.changed
    assert 0 < len(asked.kit.rows(changed)) < ROWS
    assert isinstance(changed, type(asked.frame))
    assert asked.shown(found)


def a_label(asked: Asked) -> None:
    out = asked.result()
    assert out.label(against="gold", field="mood") == ROWS
    assert out.evaluate(against="labels", field="mood").answered == ROWS
    assert len(pllm.labels()) == ROWS


def a_review(asked: Asked) -> None:
    found = asked.result().review(n=4)
    found.accept()
    found.choose("bad")
    assert repr(found)
    assert len(pllm.labels()) == 2


def a_recheck(asked: Asked) -> None:
    out = asked.result()
    drift = out.recheck(n=5)
    assert len(asyncio.run(out.arecheck(n=5)).fields) == 1
    assert [field.field for field in drift.fields] == ["mood"]
    assert len(asked.kit.rows(drift.frames[0])) == 5
    assert asked.shown(drift)


def a_report(asked: Asked) -> None:
    out = asked.result()
    out.label(against="gold", field="mood", pi=1.0)
    report = out.report(asked.directory / "report.html", rows=2, bundle=asked.directory / "bundle.zip")
    assert "text 0" in (asked.directory / "report.html").read_text()
    assert report.methods
    assert asked.kit.rows(report.means)


def a_race(asked: Asked) -> None:
    prompts = {"plain": "Read {text}", "other": "Other {text}"}
    llm = asked.kit.llm(asked.frame)
    race = llm.race(Mood, prompts, against="gold", field="mood")
    awaited = asyncio.run(llm.arace(Mood, prompts, against="gold", field="mood"))
    assert awaited.best() == race.best()
    assert sorted(asked.kit.column(race.table, "arm")) == ["other", "plain"]
    assert asked.shown(race)
    again = asked.kit.llm(asked.frame).parse(**race.best())
    assert len(asked.moods(again)) == ROWS


def an_improvement(asked: Asked) -> None:
    out = asked.result()
    improved = out.improve(against="gold", field="mood", proposals=1)
    awaited = asyncio.run(out.aimprove(against="gold", field="mood", proposals=1))
    assert awaited.best() == improved.best()
    assert asked.shown(improved)
    assert improved.best()["prompt"]


CALLS: dict[str, Callable[[Asked], None]] = {
    "parse aparse": a_parse,
    "submit": lambda asked: asked.few.submit(Mood, "Read {text}").wait(),
    "complete acomplete submit_text": a_complete,
    "preview": a_preview,
    "estimate": lambda asked: _is(asked.few.estimate(Mood, "Read {text}").calls, 3),
    "request_lines": lambda asked: _is(len(asked.few.request_lines(Mood, "Read {text}", rows=2).lines), 2),
    "call_tools acall_tools submit_calls": a_tools,
    "decide adecide submit_decision": a_decision,
    "chunks reduce areduce": a_reduction,
    "status": a_view("status", ROWS),
    "usage": a_view("usage", ROWS),
    "samples": a_view("samples", 3 * ROWS),
    "agreement": a_view("agreement", ROWS),
    "confidence": a_view("confidence", ROWS),
    "probabilities": a_view("probabilities", 2 * ROWS),
    "evidence": a_view("evidence", ROWS),
    "doubtful": lambda asked: _is(len(asked.kit.rows(asked.sampled().doubtful(4))), 4),
    "errors": a_failure,
    "run explain": a_run,
    "guarantee": a_guarantee,
    "evaluate": an_evaluation,
    "calibrate": a_calibration,
    "compare": a_comparison,
    "label": a_label,
    "review": a_review,
    "recheck arecheck": a_recheck,
    "report": a_report,
    "race arace": a_race,
    "improve aimprove": an_improvement,
}


def _is(found: object, expected: object) -> None:
    assert found == expected


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_each_method_is_called_below() -> None:
    assert {name for names in CALLS for name in names.split()} == public(FrameAccessor)


@pytest.fixture
def asked(kit: FrameKit, cache_dir: Path, tmp_path: Path) -> Asked:
    pllm.configure(sim={"answers": answer}, model="sim:openai")
    return Asked(kit, tmp_path)


@pytest.mark.sample(29)
@pytest.mark.parametrize("names", CALLS)
@pytest.mark.filterwarnings("ignore:.*rows failed")
def test_each_method_works_in_every_library(asked: Asked, names: str) -> None:
    CALLS[names](asked)


@pytest.mark.sample(1)
def test_the_promise_of_a_run_is_of_the_library_that_was_asked(
    kit: FrameKit, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(OPENAI, sim, monkeypatch)
    TwoModels(sim)
    frame = kit.frame({"text": [f"thing {n}" for n in range(300)]})

    out = kit.llm(frame).parse(Judged, PROMPT, **options())

    found = kit.llm(out).guarantee
    assert len(kit.values(found.answered_by)) == sum(found.rows_by_model.values()) == 300


def test_a_column_alone_has_the_methods_of_rows_in_every_library(asked: Asked, kit: FrameKit) -> None:
    column = kit.llm(kit.series(TEXTS[:3], "text"))

    assert public(FrameAccessor) - public(type(column)) == public(FrameAccessor) - public(LLMAccessor)
    assert kit.values(column.complete("{value}")) == ["said text 0", "said text 1", "said text 2"]
    out = kit.llm(column.parse(Mood, "Read {value}"))
    assert kit.values(out.status) == ["ok"] * 3
    assert column.estimate(Mood, "Read {value}").cached == 3


LAZY = {
    "a LazyFrame": lambda: pl.LazyFrame({"text": TEXTS}),
    "a Dask frame": lambda: dd.from_pandas(pd.DataFrame({"text": TEXTS}), npartitions=2),
    "a Dask series": lambda: dd.from_pandas(pd.DataFrame({"text": TEXTS}), npartitions=2)["text"],
}


@pytest.mark.sample(42)
@pytest.mark.parametrize("name", sorted(public(FrameAccessor)))
@pytest.mark.parametrize("kind", LAZY)
def test_rows_that_are_not_there_yet_have_the_method_or_say_what_to_call(cache_dir: Path, kind: str, name: str) -> None:
    llm = pllm.frame(LAZY[kind]())

    assert type(llm) is type(LAZY[kind]().llm)
    if name in ("parse", "complete", "preview", "estimate"):
        assert callable(getattr(llm, name))
        return
    with pytest.raises(UsageError, match=rf"has no rows yet.*\.llm\.{name}.*Nothing was sent\.$"):
        getattr(llm, name)


@pytest.mark.parametrize("kind", LAZY)
def test_what_has_no_rows_yet_shows_what_can_be_asked_of_it(kind: str) -> None:
    shown = repr(LAZY[kind]().llm)

    assert shown.startswith(f"llm of {kind}: .parse(Model, prompt")
    assert ".estimate(Model, prompt) sends nothing" in shown
