"""Two runs beside each other: exactly the rows that changed, whatever became of the frame, and nothing is sent."""

from __future__ import annotations

import itertools
import random
import textwrap
from collections.abc import Callable
from datetime import date, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import PllmError, UnknownOptionError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.sim import SimAnswer, SimRequest
from tests.forked import run_forked
from tests.frames.frame_libraries import LIBRARIES, FrameKit

mpl.use("Agg")
pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed", "ignore:.*row failed")

Mood = Literal["good", "bad", "mixed"]


class Tone(Enum):
    GOOD = "good"
    BAD = "bad"


class Review(BaseModel):
    """A review."""

    mood: Mood
    stars: int


class Sim:
    """The simulated provider: what it says follows from the prompt."""

    def __init__(self) -> None:
        self.asked = 0
        self.flips: set[str] = set()

    def answer(self, request: SimRequest) -> Any:
        self.asked += 1
        word, text = request.prompt.split(" ", 1)
        number = int("".join(c for c in text if c.isdigit()))
        if "refuse" in text and word == "B":
            return SimAnswer.refusal()
        mood = ["good", "bad", "mixed"][number % 3]
        if word == "B" and text in self.flips:
            mood = "bad" if mood != "bad" else "good"
        return {"mood": mood, "stars": number % 5}


@pytest.fixture
def sim_model(cache_dir: Path) -> Sim:
    model = Sim()
    pllm.configure(sim={"answers": model.answer}, model="sim:openai")
    return model


@pytest.fixture(params=LIBRARIES, ids=repr)
def kit(request: pytest.FixtureRequest) -> FrameKit:
    kit: FrameKit = request.param
    return kit


def texts(count: int) -> list[str]:
    return [f"text {at}" for at in range(count)]


def truth(text: str) -> str:
    return ["good", "bad", "mixed"][int(text.split()[1]) % 3]


def test_planted_changes_are_found_exactly(sim_model: Sim) -> None:
    sim_model.flips = set(random.Random(1).sample(texts(500), 20))
    frame = pd.DataFrame({"text": texts(500)})
    frame["gold"] = frame["text"].map(truth)
    old, new = (frame.llm.parse(Review, f"{word} {{text}}") for word in "AB")
    asked = sim_model.asked

    found = new.llm.compare(old, against="gold", field="mood")

    assert sim_model.asked == asked
    assert set(found.changed["text"]) == sim_model.flips
    assert set(found.changed["changed"]) == {"mood"}
    by_field = found.by_field.set_index("field")
    assert by_field["changed"].to_dict() == {"mood": 20, "stars": 0}
    assert found.labelled is not None
    assert (found.labelled.better, found.labelled.worse, found.labelled.old_accuracy) == (0, 20, 1.0)
    assert found.labelled.is_significant
    assert found.labelled.low < -0.04 < found.labelled.high < 0
    assert "The new answers are worse: -4.0 points" in repr(found)
    assert set(found.select(verdict="worse")["text"]) == sim_model.flips


def test_rows_are_chosen_by_field_and_direction(sim_model: Sim) -> None:
    sim_model.flips = {"text 0", "text 3", "text 1", "text 2"}
    frame = pd.DataFrame({"text": texts(9)})
    old, new = (frame.llm.parse(Review, f"{word} {{text}}") for word in "AB")

    found = new.llm.compare(old)

    moves = found.moves
    assert list(zip(moves["old"], moves["new"], moves["rows"], strict=True)) == [
        ("good", "bad", 2), ("bad", "good", 1), ("mixed", "bad", 1),
    ]  # fmt: skip
    assert list(found.select("mood", "good", "bad")["text"]) == ["text 0", "text 3"]
    assert list(found.select("mood", new="good")["text"]) == ["text 1"]
    assert len(found.select("stars")) == 0
    assert "mood: good → bad: 2" in repr(found)
    with pytest.raises(UsageError, match=r"no field 'moods' on both sides.*Did you mean 'mood'"):
        found.select("moods")
    assert len(found.select("mood", Tone.GOOD, Tone.BAD)) == 2
    assert len(found.select("stars", 17)) == 0
    with pytest.raises(UsageError, match=r"'mood' is one of \['good', .*, not 'godo'. Did you mean 'good'"):
        found.select("mood", "godo")
    with pytest.raises(UsageError, match="pass field="):
        found.select(old="good")
    with pytest.raises(UsageError, match="with labels"):
        found.select(verdict="better")


def test_every_library_is_compared_alike(sim_model: Sim, kit: FrameKit) -> None:
    sim_model.flips = {"text 1", "text 5"}
    frame = kit.frame({"text": texts(8), "gold": [truth(text) for text in texts(8)]})
    old, new = (kit.llm(frame).parse(Review, f"{word} {{text}}") for word in "AB")

    found = kit.llm(new).compare(old, against="gold", field="mood")

    assert kit.column(found.changed, "text") == ["text 1", "text 5"]
    assert kit.column(found.changed, "mood_old") == ["bad", "mixed"]
    assert kit.column(found.changed, "mood_new") == ["good", "bad"]
    assert kit.column(found.changed, "verdict") == ["worse", "worse"]
    assert kit.column(found.changed, "failure_new") == [None, None]
    assert kit.column(found.moves, "rows") == [1, 1]
    assert "text 1" in found._repr_html_()


REARRANGED: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "sorted": lambda frame: frame.sort_values("text", ascending=False),
    "filtered": lambda frame: frame[frame["text"].isin(["text 1", "text 5", "text 6"])],
    "merged": lambda frame: frame.merge(pd.DataFrame({"text": texts(8), "more": range(8)}), on="text"),
    "parquet": lambda frame: frame,
}


@pytest.mark.parametrize("how", REARRANGED)
@pytest.mark.parametrize("live", [True, False], ids=["live", "recorded"])
def test_rows_are_matched_by_content(sim_model: Sim, tmp_path: Path, how: str, live: bool) -> None:
    sim_model.flips = {"text 1", "text 5"}
    frame = pd.DataFrame({"text": texts(8)})
    old, new = (frame.llm.parse(Review, f"{word} {{text}}") for word in "AB")
    changed = REARRANGED[how](new)
    if how == "parquet":
        new.to_parquet(tmp_path / "new.parquet")
        changed = pd.read_parquet(tmp_path / "new.parquet")
    run = old.attrs["pllm_run"]
    if not live:
        run_registry.forget_all()
    asked = sim_model.asked

    others: list[Any] = [run, old.sample(frac=1, random_state=1), pllm.run(run), "previous"]
    for other in others:
        assert set(changed.llm.compare(other).changed["text"]) == sim_model.flips

    assert sim_model.asked == asked


def test_a_new_kernel_compares_with_last_weeks_run(sim_model: Sim, cache_dir: Path, tmp_path: Path) -> None:
    sim_model.flips = {"text 4"}
    frame = pd.DataFrame({"text": texts(8)})
    old, new = (frame.llm.parse(Review, f"{word} {{text}}") for word in "AB")
    new.to_parquet(tmp_path / "new.parquet")
    program = f"""
        import pandas as pd
        import pllm_notebook as pllm

        pllm.configure(cache_dir={str(cache_dir)!r}, progress=False)
        new = pd.read_parquet({str(tmp_path / "new.parquet")!r})
        found = new.llm.compare({old.attrs["pllm_run"]!r})
        print(list(found.changed["text"]), found.moves["rows"].sum(), "SIMULATED" in repr(found))
    """

    done = run_forked("-c", textwrap.dedent(program))

    assert (done.stdout.strip(), done.stderr) == ("['text 4'] 1 True", "")


def test_a_moment_is_the_newest_run_before_it(sim_model: Sim) -> None:
    frame = pd.DataFrame({"text": texts(4)})
    first = frame.llm.parse(Review, "A {text}")
    sim_model.flips = {"text 0"}
    frame.llm.parse(Review, "B {text}")
    again = frame.llm.parse(Review, "B {text}")  # the cell was run again

    by_word = again.llm.compare("previous")
    by_day = again.llm.compare(date.today() + timedelta(days=1))
    by_text = again.llm.compare((date.today() + timedelta(days=1)).isoformat())

    for found in (by_word, by_day, by_text):
        assert found.rows.old.source.run.id == first.attrs["pllm_run"]
        assert list(found.changed["text"]) == ["text 0"]
    with pytest.raises(PllmError, match="no earlier run in the registry has rows and columns of this frame"):
        again.llm.compare(timedelta(days=3))
    with pytest.raises(PllmError, match="is not a run in the registry, a date"):
        again.llm.compare("last tuesday")
    with pytest.raises(UsageError, match="not int"):
        again.llm.compare(3)


def test_a_failed_row_is_wrong_and_shown(sim_model: Sim) -> None:
    frame = pd.DataFrame({"text": ["text 0", "text 3", "refuse 6"], "gold": ["good", "good", "good"]})
    old, new = (frame.llm.parse(Review, f"{word} {{text}}") for word in "AB")

    found = new.llm.compare(old, against="gold", field="mood")

    assert found.labelled is not None
    assert (found.labelled.new_accuracy, found.labelled.failed) == (2 / 3, (0, 1))
    line = found.changed.iloc[0]
    assert (line["text"], line["changed"], line["failure_new"], line["verdict"]) == ("refuse 6", "", "refusal", "worse")
    assert pd.isna(line["mood_new"])
    assert "Without an answer: 0 rows of old, 1 of new" in repr(found)
    assert "counted as wrong: 0 old, 1 new" in repr(found)


def test_a_hand_corrected_cell_is_the_answer_that_is_compared(sim_model: Sim) -> None:
    frame = pd.DataFrame({"text": texts(3)})
    out = frame.llm.parse(Review, "A {text}")
    corrected = out.copy()
    corrected.loc[1, "mood"] = "mixed"

    found = corrected.llm.compare(out)

    assert list(found.changed["text"]) == ["text 1"]
    assert (found.changed["mood_old"].item(), found.changed["mood_new"].item()) == ("bad", "mixed")


def test_copies_are_one_observation(sim_model: Sim) -> None:
    sim_model.flips = {"text 1"}
    once = pd.DataFrame({"text": texts(12)})
    once["gold"] = once["text"].map(truth)
    often = pd.concat([once, *[once[once["text"] == "text 1"]] * 30], ignore_index=True)
    tested = []
    for frame in (once, often):
        old, new = (frame.llm.parse(Review, f"{word} {{text}}") for word in "AB")
        tested.append(new.llm.compare(old, against="gold", field="mood").labelled)

    few, many = tested
    assert (few.p, many.p) == (1.0, 1.0)  # one question changed, in whatever number of rows
    assert (many.labels, many.questions) == (42, 12)
    assert many.high - many.low > few.high - few.low
    assert not many.is_significant


def test_another_prompts_columns_may_be_others(sim_model: Sim) -> None:
    frame = pd.DataFrame({"text": ["text 1", "text 1", "text 2"], "more": [10, 11, 12]})
    old = frame.llm.parse(Review, "A {text}")
    new = frame.llm.parse(Review, "B {text} {more}")

    found = new.llm.compare(old)

    assert len(found.rows.line) == 3
    with pytest.raises(PllmError, match=r"'more'.* is not in this frame"):
        old.drop(columns="more").llm.compare(new.attrs["pllm_run"])


def test_what_asking_twice_changes_is_read_from_samples(cache_dir: Path) -> None:
    earlier: dict[str, itertools.count[int]] = {}

    def answer(request: SimRequest) -> Any:
        number, before = int(request.prompt.split()[-1]), next(earlier.setdefault(request.prompt, itertools.count()))
        return {"mood": "good" if number < 8 or not before else "bad", "stars": 1}

    pllm.configure(sim={"answers": answer}, model="sim:openai")
    frame = pd.DataFrame({"text": texts(10)})
    old = frame.llm.parse(Review, "A {text}", samples=2)
    new = frame.llm.parse(Review, "B {text}")

    for _ in range(2):
        by_field = new.llm.compare(old).by_field.set_index("field")
        assert by_field["noise"].to_dict() == {"mood": 0.2, "stars": 0.0}
        run_registry.forget_all()


def test_a_later_kernel_shows_the_same_costs_of_rows_with_several_replies(sim_model: Sim) -> None:
    frame = pd.DataFrame({"text": texts(4)})
    old = frame.llm.parse(Review, "A {text}", samples=3)
    new = frame.llm.parse(Review, "B {text}")
    live = new.llm.compare(old).costs

    run_registry.forget_all()

    later = new.llm.compare(old).costs
    assert [*later[0], *later[1]] == pytest.approx([*live[0], *live[1]])
    assert later[0].rows == 4
    assert (later[0].output_tokens or 0) == pytest.approx(3 * (later[1].output_tokens or 0))


def test_prompts_schemas_and_models_are_shown_beside_each_other(sim_model: Sim) -> None:
    class Wider(BaseModel):
        """A review."""

        mood: Literal["good", "bad", "mixed", "none"]
        stars: int

    frame = pd.DataFrame({"text": texts(3)})
    old = frame.llm.parse(Review, "A <b>{text}</b>")
    new = frame.llm.parse(Wider, "B <b>{text}</b>", temperature=0.5)

    found = new.llm.compare(old)

    assert "[-A-]{+B+} <b>{text}</b>" in repr(found)
    assert "<del>A</del><ins>B</ins> &lt;b&gt;{text}" in found._repr_html_()
    changes = {what: (was, becomes) for what, was, becomes in found.question_diff}
    assert changes["temperature"] == ("", "0.5")
    (schema,) = [what for what in changes if what.startswith("schema") and "mood" in what]
    assert '"none"' in changes[schema][1]


def test_examples_of_two_runs_are_named_by_their_number_and_content(sim_model: Sim) -> None:
    frame = pd.DataFrame({"text": texts(6)})
    gold = pd.DataFrame({"text": ["Never 7", "Always 8"], "mood": ["bad", "good"], "stars": [1, 5]})
    bare = frame.llm.parse(Review, "A {text}", model="sim:openai")
    one = frame.llm.parse(Review, "A {text}", model="sim:openai", examples=gold)
    other = frame.llm.parse(Review, "A {text}", model="sim:openai", examples=gold.head(1))

    changed = {name: (old, new) for name, old, new in one.llm.compare(bare).question_diff}
    assert changed["examples"][0] == ""
    assert changed["examples"][1].startswith("2 rows (")
    both = {name: (old, new) for name, old, new in other.llm.compare(one).question_diff}
    assert both["examples"][0] == changed["examples"][1]
    assert both["examples"][1].startswith("1 row (")
    assert not one.llm.compare(one.llm.run).question_diff
    assert not one.llm.compare(pllm.run(one.llm.run.id)).question_diff


def test_shown_text_is_escaped_and_marked(sim_model: Sim) -> None:
    sim_model.flips = {"text 1<script>"}
    frame = pd.DataFrame({"text": ["text 1<script>", "text 2"]})
    old, new = (frame.llm.parse(Review, f"{word} {{text}}") for word in "AB")

    html = new.llm.compare(old)._repr_html_()

    assert "<script" not in html
    assert "text 1&lt;script&gt;" in html
    assert "SIMULATED" in html


def test_pictures_show_all_fields_or_one(sim_model: Sim) -> None:
    sim_model.flips = {"text 1"}
    frame = pd.DataFrame({"text": texts(6)})
    old, new = (frame.llm.parse(Review, f"{word} {{text}}") for word in "AB")
    found = new.llm.compare(old)

    whole, one = found.plot(), found.plot("mood")

    assert [label.get_text() for label in whole.get_yticklabels()] == ["mood", "stars"]
    assert [patch.get_height() for patch in one.patches] == [2, 2, 2, 3, 1, 2]


def test_runs_that_have_nothing_in_common_are_refused(sim_model: Sim) -> None:
    class Other(BaseModel):
        stars2: int

    pllm.configure(sim={"answers": lambda request: {"stars2": 1, "mood": "good", "stars": 1}}, model="sim:openai")
    frame = pd.DataFrame({"text": texts(2)})
    first, other = frame.llm.parse(Review, "A {text}"), frame.llm.parse(Other, "A {text}")
    elsewhere = pd.DataFrame({"text": ["text 9"]}).llm.parse(Review, "A {text}")

    with pytest.raises(UsageError, match=r"no field in common.*\['mood', 'stars'\].*\['stars2'\]"):
        other.llm.compare(first)
    with pytest.raises(PllmError, match="none of its rows has the content"):
        elsewhere.llm.compare(first)


# Several prompts at once.


def test_prompts_are_asked_and_compared_and_asked_once(sim_model: Sim) -> None:
    sim_model.flips = {"text 1"}
    frame = pd.DataFrame({"text": texts(6)})
    frame["gold"] = frame["text"].map(truth)

    def compare() -> Any:
        return pllm.compare({"A": "A {text}", "B": "B {text}"}, Review, on=frame, against="gold", field="mood")

    found = compare()
    asked = sim_model.asked
    again = compare()

    assert (asked, sim_model.asked) == (12, 12)
    for one in (found, again):
        assert one.names == ("A", "B")
        assert list(one.changed["text"]) == ["text 1"]
        assert one.labelled.worse == 1


def test_several_variants_are_each_compared_with_the_first(sim_model: Sim) -> None:
    sim_model.flips = {"text 1"}
    frame = pd.DataFrame({"text": texts(6)})
    frame["gold"] = frame["text"].map(truth)

    found: Any = pllm.compare(
        {"A": "A {text}", "B": {"prompt": "B {text}"}, "C": {"prompt": "C {text}", "temperature": 0.0}},
        Review,
        on=frame,
        against="gold",
        field="mood",
    )

    assert list(found) == ["B", "C"]
    assert [len(one) for one in found.values()] == [1, 0]
    assert list(found.frames) == ["A", "B", "C"]
    assert "not significant" in repr(found)
    assert "2 variants beside" in found._repr_html_()


@pytest.mark.parametrize("variants", [{"A": "A {text}"}, "A {text}", {"A": "A {text}", "B": 3}])
def test_what_is_no_set_of_prompts_is_refused(sim_model: Sim, variants: Any) -> None:
    with pytest.raises(UsageError, match="Nothing was sent"):
        pllm.compare(variants, Review, on=pd.DataFrame({"text": texts(2)}))
    assert sim_model.asked == 0


@pytest.mark.parametrize(
    ("written", "meant"), [("promt", "prompt"), ("respons_format", "response_format"), ("modle", "model")]
)
def test_a_misspelled_name_in_a_variant_is_refused_with_what_it_resembles(
    sim_model: Sim, written: str, meant: str
) -> None:
    variants = {"A": "A {text}", "B": {written: "B {text}"}}

    with pytest.raises(UnknownOptionError, match=f"no option '{written}'. Did you mean '{meant}'"):
        pllm.compare(variants, Review, on=pd.DataFrame({"text": texts(2)}))
    assert sim_model.asked == 0


@pytest.mark.parametrize("against", ["golden", "none", "labels"])
def test_labels_that_are_not_there_are_refused_before_prompts_are_paid(sim_model: Sim, against: str) -> None:
    frame = pd.DataFrame({"text": texts(2), "gold": ["good", "bad"], "none": [None, None]})

    with pytest.raises(UsageError):
        pllm.compare({"A": "A {text}", "B": "B {text}"}, Review, on=frame, against=against, field="mood")
    assert sim_model.asked == 0


def test_macro_f1_is_compared_by_question_with_an_interval(sim_model: Sim) -> None:
    sim_model.flips = set(texts(300)[::10])
    frame = pd.DataFrame({"text": texts(300) * 2})
    frame["gold"] = frame["text"].map(truth)
    old, new = (frame.llm.parse(Review, f"{word} {{text}}") for word in "AB")

    found = new.llm.compare(old, against="gold", field="mood").labelled

    assert found is not None
    assert found.macro_f1 is not None
    assert (found.macro_f1.classes, found.macro_f1.left_out, found.macro_f1.old) == (("bad", "good", "mixed"), (), 1.0)
    assert found.macro_f1.low < found.macro_f1.difference < found.macro_f1.high < 0
    single = new.head(300).llm.compare(old.head(300), against="gold", field="mood").labelled
    assert single.macro_f1 == found.macro_f1  # copies do not make it surer
    assert "Macro-F1 1.000 → 0.9" in repr(new.llm.compare(old, against="gold", field="mood"))


def test_a_class_of_few_labels_is_shown_and_left_out_of_macro_f1(sim_model: Sim) -> None:
    frame = pd.DataFrame({"text": texts(60)})
    frame["gold"] = [truth(text) if truth(text) != "mixed" or at < 9 else None for at, text in enumerate(texts(60))]
    old, new = (frame.llm.parse(Review, f"{word} {{text}}") for word in "AB")

    found = new.llm.compare(old, against="gold", field="mood")

    assert found.labelled is not None
    assert found.labelled.macro_f1 is not None
    assert found.labelled.macro_f1.left_out == ("mixed",)
    assert "with fewer than 10 labels, and left out: mixed" in repr(found)


@pytest.mark.parametrize(
    ("against", "field", "message"),
    [("gold", "moods", "Did you mean 'mood'"), ("gold", None, "Pass field= with one of"),
     ("gold", "gold", "no field 'gold'")],
)  # fmt: skip
def test_a_field_that_no_answer_has_is_refused_before_prompts_are_paid(
    sim_model: Sim, against: str, field: str | None, message: str
) -> None:
    frame = pd.DataFrame({"text": texts(3), "gold": ["good"] * 3})

    with pytest.raises(UsageError, match=f"{message}.*Nothing was sent"):
        pllm.compare({"A": "A {text}", "B": "B {text}"}, Review, on=frame, against=against, field=field)
    assert sim_model.asked == 0


def test_a_result_column_that_is_there_twice_is_said_to_be_left_out(sim_model: Sim) -> None:
    frame = pd.DataFrame({"text": texts(3)})
    old, new = (frame.llm.parse(Review, f"{word} {{text}}") for word in "AB")
    twice = pd.concat([new, new[["mood"]]], axis=1)

    found = twice.llm.compare(old)

    assert list(found.fields) == ["stars"]
    assert "Left out: the column 'mood' is in the frame of new more than once." in repr(found)
