"""An opened row of the run view: what is right about it becomes a label at once, and its evidence is marked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import polars as pl
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.execution import RunViewModel, live_of, run_registry, view_model
from pllm_notebook.notebook.row_checks import mark_row, row_checks
from pllm_notebook.notebook.saved_rows import saved_rows
from pllm_notebook.sim import SimAnswer, SimRequest

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


class Review(BaseModel):
    """Facts."""

    mood: Literal["good", "bad"]
    stars: int
    day: date | None
    tags: list[str]


ANSWER = {"mood": "good", "stars": 4, "day": "2026-11-30", "tags": ["a", "b"]}


@pytest.fixture
def ready(cache_dir: Path) -> Iterator[Path]:
    def answer(request: SimRequest) -> Any:
        return SimAnswer.refusal() if "refuse" in request.prompt else ANSWER

    pllm.configure(sim={"answers": answer}, model="sim:openai")
    run_registry.forget_all()
    yield cache_dir
    run_registry.forget_all()


def finished(frame: Any, kind: Any = Review, prompt: str = "Read: {text}", **given: Any) -> Any:
    run = frame.llm.submit(kind, prompt, **given)
    run.wait()
    return live_of(run)


def said(run: Any, row: int) -> dict[str, tuple[Any, bool]]:
    return {check["field"]: (check["label"], check["right"]) for check in row_checks(run, row)["checks"]}


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_a_value_that_is_wrong_gets_the_right_one_and_any_frame_with_the_row_finds_it(
    ready: Path, library: Any
) -> None:
    frame = library({"text": ["one", "two"], "other": [1, 2]})
    run = finished(frame, prefix="r_")

    problem = mark_row(run, {"row": 1, "field": "mood", "value": "bad"})

    assert problem == ""
    assert said(run, 1)["mood"] == ("bad", False)
    assert row_checks(run, 1)["mark"] == "wrong"
    assert row_checks(run, 0)["mark"] == ""
    (label,) = pllm.labels("mood")
    assert (label.value, label.run, label.drawn_by, label.pi, label.row) == (
        "bad",
        run.id,
        "view",
        None,
        {"text": "two"},
    )
    assert run.to_frame().llm.evaluate(against="labels").accuracy == 0.0


def test_a_whole_answer_is_right_field_by_field(ready: Path) -> None:
    run = finished(pd.DataFrame({"text": ["one"]}))

    mark_row(run, {"row": 0, "field": None})

    assert row_checks(run, 0)["mark"] == "right"
    assert {label.field: label.value for label in pllm.labels()} == ANSWER


@pytest.mark.parametrize(
    ("field", "typed", "stored"), [("stars", "2", 2), ("day", "2026-12-01", "2026-12-01"), ("tags", '["c"]', ["c"])]
)
def test_a_typed_value_is_of_the_fields_type(ready: Path, field: str, typed: str, stored: Any) -> None:
    run = finished(pd.DataFrame({"text": ["one"]}))

    assert mark_row(run, {"row": 0, "field": field, "value": typed}) == ""

    (label,) = pllm.labels(field)
    assert str(label.value).startswith(str(stored))


@pytest.mark.parametrize(
    ("field", "typed", "problem"),
    [("mood", "fine", "is one of ['good', 'bad']"), ("stars", "many", "is a whole number"), ("x", "1", "no field 'x'")],
)
def test_a_value_that_the_field_cannot_have_is_refused_and_stored_nowhere(
    ready: Path, field: str, typed: str, problem: str
) -> None:
    run = finished(pd.DataFrame({"text": ["one"]}))

    assert problem in mark_row(run, {"row": 0, "field": field, "value": typed})

    assert len(pllm.labels()) == 0


def test_what_was_said_is_taken_back(ready: Path) -> None:
    run = finished(pd.DataFrame({"text": ["one"]}))
    mark_row(run, {"row": 0, "field": "mood", "value": "bad"})

    mark_row(run, {"row": 0, "field": "mood", "undo": True})

    assert len(pllm.labels()) == 0
    assert row_checks(run, 0)["mark"] == ""


def test_a_row_without_an_answer_and_a_list_have_nothing_to_mark(ready: Path) -> None:
    failed = finished(pd.DataFrame({"text": ["refuse"]}))
    listed = finished(pd.DataFrame({"text": ["one"]}), list[Literal["a", "b"]], explode=True)

    assert row_checks(failed, 0)["checks"] == []
    assert row_checks(listed, 0)["checks"] == []
    assert row_checks(None, 0)["checks"] == []


def test_a_field_offers_the_values_that_its_type_lists(ready: Path) -> None:
    run = finished(pd.DataFrame({"text": ["one"]}))

    assert {check["field"]: check["choices"] for check in row_checks(run, 0)["checks"]} == {
        "mood": ["good", "bad"], "stars": [], "day": [], "tags": []
    }  # fmt: skip


class Fact(BaseModel):
    """A fact."""

    mood: Literal["good", "bad"]
    stars: int


def test_what_an_answer_quotes_is_marked_in_the_rows_own_text(cache_dir: Path) -> None:
    quotes = {"mood": "really fine", "stars": "six stars"}
    told = {"evidence": quotes, "answer": {"mood": "good", "stars": 5}}
    pllm.configure(sim={"answers": lambda request: told}, model="sim:openai")

    run = finished(pd.DataFrame({"text": ["It is really fine, five stars."]}), Fact, "{text}", evidence=True)

    assert row_checks(run, 0)["evidence"] == [
        ["text", [["It is ", ""], ["really fine", "mood"], [", five stars.", ""]]],
        ["not in the row", [["six stars", "stars"]]],
    ]


def test_rows_that_are_saved_have_their_quotes_marked_and_what_failed_says_why(cache_dir: Path) -> None:
    def answer(request: SimRequest) -> Any:
        if "refuse" in request.prompt:
            return SimAnswer.refusal()
        return {"evidence": {"mood": "<b>fine", "stars": "six"}, "answer": {"mood": "good", "stars": 5}}

    pllm.configure(sim={"answers": answer}, model="sim:openai")
    frame = pd.DataFrame({"text": [f"{'long ' * 90}It is <b>fine", "refuse"], "n": [1, 2]})
    run = finished(frame, Fact, "{text} {n}", evidence=True, save_rows=True)
    model = view_model(run)
    model.mark(0, "wrong")

    html = saved_rows(model, model.snapshot())

    assert "&lt;b&gt;fine</mark><sup>mood</sup>" in html
    assert "<b>" not in html
    assert "long " * 90 not in html
    assert "quoted, and not in the row: six" in html
    assert "ok · wrong · SIMULATED" in html
    assert "refusal: " in html
    plain = finished(frame, Fact, "{text} {n}", evidence=True)
    assert saved_rows(view_model(plain), view_model(plain).snapshot()) == ""


def test_rows_that_are_saved_have_their_confidence(cache_dir: Path) -> None:
    pllm.configure(model="sim:openai", effort="none")
    run = finished(pd.DataFrame({"text": ["one"]}), Literal["good", "bad"], probabilities=True, save_rows=True)
    model = view_model(run)

    html = saved_rows(model, model.snapshot())

    (p,) = run.to_frame().llm.confidence["answer"]
    assert ">confidence</th>" in html
    assert f">{p:.2f}</td>" in html


def test_sample_rows_have_a_confidence_where_there_is_one(cache_dir: Path) -> None:
    pllm.configure(model="sim:openai", effort="none")
    sure = finished(pd.DataFrame({"text": ["one"]}), Literal["good", "bad"], probabilities=True)
    plain = finished(pd.DataFrame({"text": ["one"]}), Literal["good", "bad"])

    snapshot, other = RunViewModel(sure).snapshot(), RunViewModel(plain).snapshot()

    (p,) = sure.to_frame().llm.confidence["answer"]
    assert snapshot["columns"]["confidence"] is True
    assert snapshot["sample"][0]["confidence"] == pytest.approx(p, abs=1e-4)
    assert row_checks(sure, 0)["confidence"] == [["answer", pytest.approx(p, abs=1e-4)]]
    assert (other["columns"]["confidence"], other["sample"][0]["confidence"]) == (False, None)


def test_pinned_rows_and_marks_are_in_every_view_and_bounded(ready: Path) -> None:
    run = finished(pd.DataFrame({"text": [f"row {n}" for n in range(60)]}))
    model = RunViewModel(run)

    for row in range(30):
        model.pin(row, pinned=True)
    model.pin(29, pinned=False)
    model.mark(3, "wrong")
    model.mark(4, "right")
    model.mark(4, "")

    snapshot = model.snapshot()
    assert [row["row"] for row in snapshot["pinned"]] == list(range(10, 29))
    assert snapshot["marks"] == {"3": "wrong"}
