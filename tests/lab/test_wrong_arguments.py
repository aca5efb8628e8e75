"""What the lab is given and cannot use is refused before anything is sent, stored or written."""

from __future__ import annotations

import asyncio
import copy
import pickle
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import polars as pl
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.sim import SimRequest

PROMPTS = {"A": "A {text}", "B": "B {text}"}


class Review(BaseModel):
    """A review."""

    mood: Literal["good", "bad"]
    stars: int


class Mood(BaseModel):
    """A review."""

    mood: Literal["good", "bad"]


class Note(BaseModel):
    """A note."""

    note: str


class Sim:
    """Answers by the number at the end of a prompt: A is always right, B on two rows of three."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def answer(self, request: SimRequest) -> Any:
        self.asked.append(request.prompt)
        number = int(request.prompt.split()[-1])
        wrong = request.prompt.startswith("B") and number % 3 == 0
        return {"mood": ["good", "bad"][(number + wrong) % 2], "stars": number % 5}


@pytest.fixture
def sim_model(cache_dir: Path) -> Sim:
    model = Sim()
    pllm.configure(sim={"answers": model.answer}, model="sim:openai")
    return model


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({
        "text": [f"text {at}" for at in range(30)],
        "gold": [["good", "bad"][at % 2] for at in range(30)],
        "stars_as_text": [str(at % 5) for at in range(30)],
    })  # fmt: skip


@pytest.mark.parametrize("against", ["gold", "stars_as_text"])
def test_labels_that_no_answer_can_be_equal_to_are_refused_before_answers_are_paid_for(
    sim_model: Sim, frame: pd.DataFrame, against: str
) -> None:
    message = rf"No label in '{against}' can be a value of 'stars', which holds numbers: the labels are '.*\. Nothing"

    with pytest.raises(UsageError, match=message):
        frame.llm.race(Review, PROMPTS, against=against, field="stars")
    with pytest.raises(UsageError, match=message):
        pllm.compare(PROMPTS, Review, on=frame, against=against, field="stars")
    assert sim_model.asked == []

    out = frame.llm.parse(Review, "A {text}")
    with pytest.raises(UsageError, match=message):
        out.llm.label(against, field="stars")
    assert len(pllm.labels().frame) == 0


def test_labels_of_another_kind_of_number_are_labels(sim_model: Sim, frame: pd.DataFrame) -> None:
    frame["stars_as_real"] = [float(at % 5) for at in range(30)]

    race = frame.llm.race(Review, PROMPTS, against="stars_as_real", field="stars")

    assert race.arms[race.leader].accuracy == 1


@pytest.mark.parametrize(
    ("own", "others", "message"),
    [
        ({"max_cost_usd": 0.1}, {}, "The prompt 'A' says max_cost_usd=0.1, and max_cost_usd= of the race is for all"),
        ({"model": "sim:google"}, {"models": ["sim:openai", "sim:anthropic"]}, "says model='sim:google', and models="),
        ({"effort": "low"}, {"effort": ["low", "high"]}, "says effort='low', and effort="),
    ],
)
def test_what_the_race_decides_is_no_part_of_one_prompt(
    sim_model: Sim, frame: pd.DataFrame, own: dict[str, Any], others: dict[str, Any], message: str
) -> None:
    prompts = {"A": {"prompt": "A {text}", **own}, "B": "B {text}"}

    with pytest.raises(UsageError, match=message):
        frame.llm.race(Review, prompts, against="gold", field="mood", **others)

    assert sim_model.asked == []


def test_variants_without_a_common_field_are_refused_before_they_are_paid_for(
    sim_model: Sim, frame: pd.DataFrame
) -> None:
    variants = {"A": "A {text}", "B": {"prompt": "B {text}", "response_format": Note}}

    with pytest.raises(UsageError, match=r"no field in common.*\['mood', 'stars'\], another \['note'\]. Nothing"):
        pllm.compare(variants, Review, on=frame)

    assert sim_model.asked == []


def test_a_report_says_what_it_does_not_take(sim_model: Sim, frame: pd.DataFrame, tmp_path: Path) -> None:
    out = frame.llm.parse(Review, "A {text}")
    page, bundle = tmp_path / "report.html", tmp_path / "bundle"

    for wrong, message in [
        ({"by": 3}, "by= is the name of a column, or a list of names, not 3. Nothing was written."),
        ({"by": [3]}, "by= is the name of a column, or a list of names, not [3]. Nothing was written."),
        ({"title": 3}, "title is text, not 3. Nothing was written."),
        ({"bundle": bundle, "bundle_rows": "no"}, "bundle_rows is True or False, not 'no'. Nothing was written."),
        (
            {"bundle_rows": True},
            "bundle_rows=True says what is in a bundle, and bundle= names none. Nothing was written.",
        ),
    ]:
        with pytest.raises(UsageError) as seen:
            out.llm.report(page, **wrong)
        assert str(seen.value) == message

    assert not page.exists()
    assert not bundle.exists()


def test_a_label_is_by_somebody_with_a_name_and_of_columns_with_names(sim_model: Sim, frame: pd.DataFrame) -> None:
    out = frame.llm.parse(Review, "A {text}")

    for wrong in ({"by": 3}, {"drawn_by": 0.5}):
        with pytest.raises(UsageError, match=r"by is text, not .*\. Nothing was stored"):
            out.llm.label("gold", field="mood", **wrong)

    with pytest.raises(UsageError, match="by is text, not 3"):
        out.llm.review(["mood"], by=3)

    assert out.llm.label("gold", field="mood", columns="text") == 30


@pytest.mark.parametrize("by", ["", " "])
def test_a_label_without_a_name_is_not_stored(sim_model: Sim, frame: pd.DataFrame, by: str) -> None:
    out = frame.llm.parse(Review, "A {text}")
    message = rf"by is the name of who labels, or None for your login name, not '{by}'\. Nothing was stored"

    for call in (lambda: out.llm.label("gold", field="mood", by=by), lambda: out.llm.review(["mood"], by=by)):
        with pytest.raises(UsageError, match=message):
            call()
    with pytest.raises(UsageError, match="drawn_by says how the rows were chosen"):
        out.llm.label("gold", field="mood", drawn_by=by)

    assert len(pllm.labels().frame) == 0


def test_the_results_of_the_lab_are_copied_and_say_why_they_cannot_be_pickled(
    sim_model: Sim, frame: pd.DataFrame
) -> None:
    old, out = (frame.llm.parse(Review, f"{word} {{text}}") for word in "AB")
    review = out.llm.review(["mood"], n=2)
    review.accept()

    made = [
        review,
        out.llm.compare(old),
        frame.llm.race(Review, PROMPTS, against="gold", field="mood"),
        out.llm.evaluate(against="gold", field="mood"),
        out.llm.report(),
    ]

    for one in made:
        assert repr(copy.deepcopy(one)) == repr(one)
    for one in made[:2]:
        with pytest.raises(PllmError, match="cannot be pickled"):
            pickle.dumps(one)


@pytest.mark.parametrize("against", ["glod", "GOLD", "nope"])
def test_a_column_of_labels_that_is_not_there_is_refused_with_the_nearest(
    sim_model: Sim, frame: pd.DataFrame, against: str
) -> None:
    out = frame.llm.parse(Review, "A {text}")
    asked = len(sim_model.asked)
    calls = [
        lambda: out.llm.evaluate(against=against, field="mood"),
        lambda: out.llm.compare(out, against=against, field="mood"),
        lambda: out.llm.improve(against=against, field="mood"),
        lambda: out.llm.run.evaluate(against, "mood"),
        lambda: out.llm.label(against, field="mood"),
        lambda: out.llm.report(against=against, field="mood"),
        lambda: frame.llm.race(Review, PROMPTS, against=against, field="mood"),
        lambda: pllm.compare(PROMPTS, Review, on=frame, against=against, field="mood"),
    ]

    for call in calls:
        with pytest.raises(UsageError) as seen:
            call()
        assert f"no column named {against!r} among" in str(seen.value)
        assert ("Did you mean 'gold'?" in str(seen.value)) == (against != "nope")

    assert len(sim_model.asked) == asked


def test_a_bad_timeout_and_awaiting_a_run_of_an_earlier_kernel_say_what_to_do(
    sim_model: Sim, frame: pd.DataFrame
) -> None:
    out = frame.llm.parse(Review, "A {text}")

    for wrong in ("a", -1, float("nan"), True):
        with pytest.raises(UsageError, match="timeout_s is a number of seconds, at least 0, or None for no limit, not"):
            out.llm.run.wait(wrong)
    out.llm.run.wait(0)

    async def awaited() -> Any:
        return await out.llm.run

    run_registry.forget_all()
    with pytest.raises(
        PllmError, match=r"is not in this kernel's memory, so there is nothing to wait for\. run\.to_fr"
    ):
        asyncio.run(awaited())


def test_an_empty_selection_is_named_as_what_is_empty(sim_model: Sim, frame: pd.DataFrame, tmp_path: Path) -> None:
    out = frame.llm.parse(Review, "A {text}")
    none = out[out["text"] == "other"]
    asked = len(sim_model.asked)
    whole = r"^This frame has no rows: nothing is left of the selection that made it \(its columns are \['text', "

    for call, message in [
        (lambda: none.llm.report(tmp_path / "r.html", bundle=tmp_path / "b.zip"), whole),
        (lambda: none.llm.compare(out), whole),
        (lambda: out.llm.compare(none), r"^The frame to compare with has no rows: nothing is left"),
        (lambda: none.llm.review(["mood"]), whole),
        (lambda: none.llm.recheck(), whole),
        (lambda: none.llm.improve(against="gold", field="mood"), whole),
        (lambda: none.llm.race(Review, PROMPTS, against="gold", field="mood"), r"^The frame has no rows: nothing is"),
        (lambda: pllm.compare(PROMPTS, Review, on=none), r"^on= has no rows: nothing is left"),
    ]:
        with pytest.raises(UsageError, match=message):
            call()

    assert not (tmp_path / "r.html").exists()
    assert not (tmp_path / "b.zip").exists()
    assert len(sim_model.asked) == asked


def test_labels_without_a_name_are_named_as_such(sim_model: Sim, frame: pd.DataFrame) -> None:
    cascade = {"model": "sim:openai", "judge": "sim:anthropic", "decide": "escalate", "samples": 2}

    def ask(against: Any, guarantee: float | None = 0.9) -> Any:
        return frame.llm.parse(Mood, "A {text}", against=against, guarantee=guarantee, **cascade)

    with pytest.raises(UsageError, match=r"no label of 'mood': none of the labels is one of \['good', 'bad'\]"):
        ask(pd.Series(["fine"] * 30))
    with pytest.raises(UsageError, match=r"against= is read with guarantee= alone\. Nothing was sent"):
        ask(pd.Series(["good"] * 30), guarantee=None)
    assert sim_model.asked == []

    out = frame.llm.parse(Review, "A {text}")
    report = out.llm.report(against=pd.Series(["good", "bad"] * 15), field="mood")
    assert report.data["evaluation"][0]["against"] == "labels"


def test_roles_are_of_the_columns_that_are_named(frame: pd.DataFrame) -> None:
    assert pllm.example_roles(frame, "text").equals(pllm.example_roles(frame, ["text"]))

    with pytest.raises(UsageError, match="columns= names no column"):
        pllm.example_roles(frame, [])


@pytest.mark.parametrize("newer", ["narrow", "wide"])
def test_rows_of_another_type_below_are_not_taken_for_corrected_ones(
    sim_model: Sim, frame: pd.DataFrame, newer: str
) -> None:
    class Longer(Review):
        """A longer review."""

        why: str = ""

    asked = [(Longer, "B {text}"), (Review, "A {text}")]
    made = {kind: frame.llm.parse(kind, prompt) for kind, prompt in (asked if newer == "narrow" else asked[::-1])}
    wide, narrow = made[Longer], made[Review]

    both = pd.concat([narrow, wide])

    assert both.llm.status.value_counts()["changed"] == 0
    assert both.llm.label() == 0


def test_a_frame_without_a_run_id_is_that_of_the_run_that_all_its_values_are_of(
    sim_model: Sim, frame: pd.DataFrame
) -> None:
    old = frame.llm.parse(Review, "A {text}")
    new = frame.llm.parse(Review, "B {text}")  # equal to the older one on two rows of three

    found = new.llm.compare(pl.from_pandas(old))

    assert "10 of 30 rows changed" in repr(found)
    assert repr(found) == repr(new.llm.compare(old))
