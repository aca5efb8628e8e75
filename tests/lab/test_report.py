"""A report says what was asked, answered, labelled and tried; its figures are corrected, and rows stay out of it."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook.exceptions import PllmError, UnknownColumnError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.lab import Report
from pllm_notebook.runtime import RUNTIME
from pllm_notebook.sim import SimAnswer
from tests.frames.frame_libraries import LIBRARIES, FrameKit

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed", "ignore:.*row failed")

WORDS = ("good", "bad", "mixed")


class Review(BaseModel):
    """A review."""

    mood: Literal["good", "bad", "mixed"]
    stars: int = Field(ge=1, le=5)
    said: str


def true_mood(text: str) -> str:
    return WORDS[int(text.split()[-1]) % 3]


def answer(request: Any) -> Any:
    number = int(request.prompt.split()[-1])
    if number % 100 == 99:
        return SimAnswer.refusal()
    # A fifth of what is right becomes "good".
    mood = "good" if random.Random(number).random() < 0.2 else WORDS[number % 3]
    return {"mood": mood, "stars": 1 + number % 5, "said": f"secret answer {number}"}


def table(rows: int) -> pd.DataFrame:
    texts = [f"secret text {n}" for n in range(rows)]
    return pd.DataFrame({"text": texts, "group": ["a<b>" if n % 4 else "c" for n in range(rows)]})


@pytest.fixture
def frame(cache_dir: Path) -> pd.DataFrame:
    pllm.configure(sim={"answers": answer}, model="sim:openai")
    return table(600)


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the answers to every row: to ask for them costs a second."""
    directory = tmp_path_factory.mktemp("answered") / "cache"
    pllm.configure(cache_dir=directory, progress=False, sim={"answers": answer}, model="sim:openai")
    table(600).llm.parse(Review, "Read {text}")
    RUNTIME.reset()
    return directory


@pytest.fixture
def out(answered: Path, cache_dir: Path, frame: pd.DataFrame) -> pd.DataFrame:
    shutil.copytree(answered, cache_dir)
    return frame.llm.parse(Review, "Read {text}")


def review(out: pd.DataFrame, n: int, **how: Any) -> None:
    """Label rows as a person who is always right would."""
    made = out.llm.review(["mood"], n=n, by="me", **how)
    while made.at < len(made):
        made.choose(true_mood(made.state()["row"][0][1]))


def figure(report: Report, value: str, group: str | None = None) -> dict[str, Any]:
    (found,) = [
        one
        for one in report.data["means"]
        if one["value"] == value and one["group"] == ([] if group is None else [group])
    ]
    return dict(found)


def test_shares_are_corrected_where_the_answers_alone_are_wrong(out: pd.DataFrame) -> None:
    review(out, 200)

    report = out.llm.report(by="group")

    good = figure(report, "good")
    assert good["low"] < 1 / 3 < good["high"] < good["uncorrected"]
    assert (good["method"], good["labels"], good["rows"]) == ("ppi", len(pllm.labels()), 594)
    assert figure(report, "good", "c")["method"] == "ppi-small"
    assert figure(report, "good", "c")["labels"] < 60 < figure(report, "good", "a<b>")["labels"]
    means = report.means
    assert list(means.columns[:3]) == ["field", "value", "group"]
    assert means["group"].dropna().unique().tolist() == ["a<b>", "c"]
    assert means.set_index(["field", "value"]).loc[("mood", "good"), "low"].iloc[0] == pytest.approx(good["low"])


def test_page_and_json_say_the_same_and_hold_no_row(out: pd.DataFrame, tmp_path: Path) -> None:
    review(out, 60)

    report = out.llm.report(tmp_path / "report.html", by="group")

    page, data = (tmp_path / "report.html").read_text(), json.loads((tmp_path / "report.json").read_bytes())
    assert report.paths == (str(tmp_path / "report.html"), str(tmp_path / "report.json"))
    assert page == report.html
    assert data["methods"] == report.methods
    assert data["question"]["prompt"] == "Read {text}"
    assert data["runs"][0]["served"] == ["gpt-6-luna"]
    assert data["rows"]["failures"] == {"refusal": 6}
    assert (data["holds_rows"], data["by"]) == (False, ["group"])
    assert not re.search(r"secret (text|answer)", page + json.dumps(data))
    assert "SIMULATED" in page
    assert report.methods.count("6 rows (1.0 %) have no answer (refusal 6)") == 1


def test_rows_are_shown_only_where_they_are_asked_for(out: pd.DataFrame) -> None:
    report = out.llm.report(rows=2)

    assert report.data["holds_rows"]
    assert [line[1] for line in report.data["rows_shown"]["lines"]] == ["secret text 0", "secret text 1"]
    assert "secret text 1" in report.html
    assert "secret text 2" not in report.html
    with pytest.raises(UsageError, match="rows is a whole number"):
        out.llm.report(rows=-1)


def test_a_page_runs_and_loads_nothing_whatever_it_is_made_of(cache_dir: Path, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script><img src=https://example.org/x onerror=alert(2)>'\"&\x1b[31m"
    pllm.configure(sim={"answers": lambda request: {"mood": "good", "stars": 1, "said": hostile}}, model="sim:openai")
    frame = pd.DataFrame({"text": ["a", "b"], "group": [hostile, "c"]})
    out = frame.llm.parse(Review, f"{hostile.replace('<', '< ')} {{text}}", system="<b>bold</b>")
    out.llm.label(pd.Series(["good", "bad"], name="mood"), by=hostile, drawn_by=hostile)

    out.llm.report(tmp_path / "report.html", by="group", rows=2, title=f"{hostile}\ud800")

    page = (tmp_path / "report.html").read_text()
    assert set(re.findall(r"<(\w+)", page)).isdisjoint({"script", "img", "iframe", "link", "object", "i"})
    assert "onerror" not in re.sub(r">[^<]*<", "><", page)
    assert "default-src 'none'" in page
    assert json.loads((tmp_path / "report.json").read_bytes())["title"].startswith("<script>")


def test_a_correction_without_a_chance_is_in_no_interval(out: pd.DataFrame) -> None:
    out.loc[out["text"].map(true_mood) == "bad", "mood"] = "bad"

    corrected = out.llm.label()
    report = out.llm.report()

    assert corrected > 20
    found = figure(report, "bad")
    assert (found["method"], found["reason"]) == ("none", "no label has a known chance, and 10 are needed")
    assert "too few labels that were drawn with a known chance" in report.methods
    assert report.data["labels"][0]["drawn_by"] == {"corrected": corrected}


def test_a_row_of_the_sample_that_is_corrected_later_stays_in_it(out: pd.DataFrame) -> None:
    review(out, 100)
    before = figure(out.llm.report(), "bad")
    drawn = {label.row["text"]: label.value for label in pllm.labels() if label.row}
    wrong = out["text"].map(drawn).notna() & (out["mood"] != out["text"].map(drawn))
    out.loc[wrong, "mood"] = out["text"].map(drawn)[wrong]
    assert wrong.sum() > 5

    assert out.llm.label(by="me") == wrong.sum()
    after = figure(out.llm.report(), "bad")

    # Neither the label nor the model's own answer has changed.
    assert {name: after[name] for name in ("estimate", "low", "high", "labels")} == {
        name: before[name] for name in ("estimate", "low", "high", "labels")
    }


def test_doubtful_rows_and_a_uniform_draw_of_the_others_count_together(out: pd.DataFrame) -> None:
    chosen = out["text"].map(lambda text: int(text.split()[-1]) < 50)
    rest = out[~chosen & out["mood"].notna()].sample(80, random_state=1)
    for rows, word, pi in ((out[chosen], "doubt", 1.0), (rest, "random", 80 / 544)):
        rows.llm.label(rows["text"].map(true_mood).rename("mood"), drawn_by=word, pi=pi)

    found = figure(out.llm.report(), "good")

    assert (found["method"], found["labels"]) == ("strata", 130)
    assert found["low"] < 1 / 3 < found["high"]


def test_a_second_review_adds_to_the_first(out: pd.DataFrame) -> None:
    review(out, 40)
    review(out, 120)

    found = figure(out.llm.report(), "good")

    assert found["method"] == "ppi"
    assert found["labels"] == len({label.content for label in pllm.labels()}) == 120


def test_rows_that_were_added_since_the_draw_leave_no_interval(frame: pd.DataFrame) -> None:
    part = frame.head(150).llm.parse(Review, "Read {text}")
    review(part, 100)

    found = figure(frame.llm.parse(Review, "Read {text}").llm.report(), "good")

    assert found["method"] == "none"
    assert "a draw from some 149 distinct rows, and there are 594: rows were skipped, or added since" in found["reason"]


def test_equal_rows_are_one_observation(frame: pd.DataFrame) -> None:
    copied = pd.concat([frame.head(100)] * 3, ignore_index=True)
    out = copied.llm.parse(Review, "Read {text}")
    review(out, 60)

    found = figure(out.llm.report(), "good")

    assert (found["labels"], found["questions"], found["rows"]) == (60, 99, 297)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"by": "mood"}, UsageError, "by='mood' is an answer of the model"),
        ({"by": "grop"}, UnknownColumnError, "Did you mean 'group'"),
        ({"path": "report.txt"}, UsageError, "its path ends in .html"),
        ({"field": "moods"}, UsageError, "Did you mean 'mood'"),
        ({"against": "group", "field": "said"}, UsageError, "no values to compare"),
    ],
)
def test_what_cannot_be_reported_is_refused(
    out: pd.DataFrame, how: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        out.llm.report(**how)


def test_a_frame_of_no_run_has_no_report(cache_dir: Path) -> None:
    with pytest.raises(PllmError, match="No known run made this frame"):
        pd.DataFrame({"text": ["a"]}).llm.report()


def test_comparisons_are_counted_once_each_with_what_they_led_to(frame: pd.DataFrame) -> None:
    frame = frame.head(30).assign(gold=lambda rows: rows["text"].map(true_mood))
    one, two, three, other = (frame.llm.parse(Review, f"{word} {{text}}") for word in ("A", "B", "C", "D"))
    for _ in range(2):
        two.llm.compare(one, against="gold", field="mood")
    three.llm.compare(two)

    made = three.llm.report().data["comparisons"]
    alone = other.llm.report()

    assert made == {"comparisons": 2, "with_labels": 1, "questions": 3, "asked": 4}
    assert (alone.data["comparisons"]["comparisons"], alone.data["comparisons"]["asked"]) == (0, 4)
    assert "3 questions were tried in 2 comparisons, 1 of them against labels" in three.llm.report().methods
    assert "No comparison with another question" in alone.methods


def test_a_race_counts_its_arms(frame: pd.DataFrame) -> None:
    frame = frame.head(60).assign(gold=lambda rows: rows["text"].map(true_mood))
    race = frame.llm.race(Review, {name: f"{name} {{text}}" for name in "ABC"}, against="gold", field="mood")
    out = frame.llm.parse(Review, "A {text}")

    made = out.llm.report().data["comparisons"]

    assert race.rule
    assert (made["comparisons"], made["with_labels"], made["questions"]) == (1, 1, 3)


def test_examples_are_named_and_not_shown(frame: pd.DataFrame) -> None:
    shown = pd.DataFrame({"text": ["example text 1"], "mood": ["good"], "stars": [1], "said": ["example said"]})
    out = frame.head(5).llm.parse(Review, "Read {text}", examples=shown)

    report = out.llm.report()

    assert report.data["question"]["examples"]
    assert "shown as examples before each row (selection: first)" in report.methods
    assert "example text" not in report.html + json.dumps(report.data)


def test_a_column_of_labels_is_for_the_evaluation_alone(out: pd.DataFrame) -> None:
    out["gold"] = out["text"].map(true_mood)

    report = out.llm.report(against="gold", field="mood")

    (found,) = report.data["evaluation"]
    assert (found["against"], found["rows"], found["failed"]) == ("gold", 600, 6)
    assert found["accuracy"] == pytest.approx(float((out["mood"] == out["gold"]).fillna(False).mean()))
    assert [line["value"] for line in found["classes"]] == ["bad", "good", "mixed"]
    assert found["macro_f1"]["low"] < found["macro_f1"]["mean"] < found["macro_f1"]["high"]
    assert figure(report, "good")["method"] == "none"


def test_a_later_kernel_reports_the_same(out: pd.DataFrame) -> None:
    review(out, 60)
    live = out.llm.report(by="group").data

    run_registry.forget_all()
    recorded = out.llm.report(by="group").data

    assert {**recorded, "made_at": ""} == {**live, "made_at": ""}


def test_every_library_has_the_same_report(cache_dir: Path) -> None:
    pllm.configure(sim={"answers": answer}, model="sim:openai")
    made = table(60)
    found = []
    for kit in LIBRARIES:
        kit: FrameKit = kit
        out = kit.llm(kit.frame({name: made[name].tolist() for name in made})).parse(Review, "Read {text}")
        report = kit.llm(out).report(by="group")
        found.append(report.data["means"])
        assert kit.column(report.means, "method")[0] == "none"

    assert found[0]
    assert all(one == found[0] for one in found[1:])
