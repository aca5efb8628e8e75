"""Races: rounds on labelled rows, one ceiling, nothing paid twice, and options that go into the full run."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import matplotlib as mpl
import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import PllmError, RunInterrupted, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.notebook.line_magic import run_command
from pllm_notebook.sim import SimAnswer, SimRequest
from tests.frames.frame_libraries import LIBRARIES, FrameKit

mpl.use("Agg")

MOODS = ["good", "bad", "mixed"]
PROMPTS = {"A": "A {text}", "B": "B {text}"}
MODELS = ["sim:openai", "sim:anthropic"]
# One simulated answer of these tests costs less than this.
CHEAP_USD = 0.0004


class Review(BaseModel):
    """A review."""

    mood: Literal["good", "bad", "mixed"]
    stars: int


class Sim:
    """The simulated provider: right as often as the prompt's first letter is skilled, and always in the same way."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self.skill = {"A": 0.9, "B": 0.6, "C": 0.5}
        self.on_answer: Callable[[int], None] = lambda count: None
        self.refused: set[str] = set()
        self.refused_words: set[str] = set()
        self._lock = threading.Lock()

    def answer(self, request: SimRequest) -> Any:
        with self._lock:
            self.asked[request.model, request.prompt] += 1
            count = self.asked.total()
        self.on_answer(count)
        word, text = request.prompt.split(" ", 1)
        if text in self.refused:
            return SimAnswer.refusal()
        if word in self.refused_words:
            return SimAnswer.status(401)
        number = int(text.split()[-1])
        drawn = int(hashlib.sha256(f"{request.model} {request.prompt}".encode()).hexdigest(), 16) % 1_000 / 1_000
        return {"mood": MOODS[(number + (drawn >= self.skill[word])) % 3], "stars": number % 5}


@pytest.fixture
def sim_model(cache_dir: Path) -> Sim:
    model = Sim()
    pllm.configure(sim={"answers": model.answer}, model="sim:openai")
    return model


def frame_of(rows: int, labels: int | None = None) -> pd.DataFrame:
    return pd.DataFrame({
        "text": [f"text {at}" for at in range(rows)],
        "gold": [MOODS[at % 3] if labels is None or at < labels else None for at in range(rows)],
    })  # fmt: skip


def test_the_best_arm_is_found_for_a_part_of_the_calls_and_its_answers_are_kept(sim_model: Sim) -> None:
    frame = frame_of(260, labels=200)

    race = frame.llm.race(Review, PROMPTS, models=MODELS, against="gold", field="mood")

    asked = sim_model.asked.total()
    assert race.arms[race.leader].arm.prompt_name == "A"
    assert asked == 4 * 100 + 2 * 100
    assert list(race.table["rows"]) == [200, 200, 100, 100]
    assert list(race.table["prompt"]) == ["A", "A", "B", "B"]
    assert 0 < race.gap < 0.2
    assert race.cost_usd is not None
    assert race.cost_usd > 0
    # Its rounds are not in memory, and are in what the session cost all the same.
    assert run_command("cost").loc[["others", "total"], "cost_usd"].tolist() == pytest.approx([race.cost_usd] * 2)
    assert f"No arm is better by more than {100 * race.gap:.1f} points (95 %)." in repr(race)
    assert "likely to be too high: it is the best of 4 on these rows" in repr(race)
    assert repr(race).startswith("SIMULATED: 4 arms on ")

    whole = frame.llm.parse(**race.best())
    assert sim_model.asked.total() - asked == 60
    assert (whole.llm.status.iloc[:200] == "cached").all()
    evaluated = whole.llm.evaluate(against="gold", field="mood").accuracy
    assert race.arms[race.leader].accuracy == pytest.approx(evaluated)


def test_the_same_call_again_sends_nothing(sim_model: Sim) -> None:
    frame = frame_of(120)
    first = frame.llm.race(Review, PROMPTS, models=MODELS, against="gold", field="mood")
    asked = sim_model.asked.total()

    again = frame.sample(frac=1, random_state=1).llm.race(Review, PROMPTS, models=MODELS, against="gold", field="mood")

    assert sim_model.asked.total() == asked
    assert again.cost_usd == 0
    assert again.best() == first.best()
    assert again.gap == first.gap


def test_equal_rows_count_once(sim_model: Sim) -> None:
    alone = frame_of(60)
    copied = pd.concat([alone] * 4, ignore_index=True)

    few = alone.llm.race(Review, PROMPTS, against="gold", field="mood")
    many = copied.llm.race(Review, PROMPTS, against="gold", field="mood")

    assert many.gap == pytest.approx(few.gap)
    assert [one.low for one in many.arms] == pytest.approx([one.low for one in few.arms])
    assert (many.questions.labels, len(many.questions), many.arms[0].questions) == (240, 60, 60)
    assert "240 labelled rows, 60 of them distinct (equal rows count once)" in repr(many)
    assert sim_model.asked.total() == 120


def test_rows_that_are_equal_for_one_prompt_are_one_observation(sim_model: Sim) -> None:
    frame = frame_of(60).assign(text=lambda rows: rows["text"].str.replace("text", "same"), more="x")
    frame = pd.concat([frame, frame.assign(more="y")], ignore_index=True)

    race = frame.llm.race(Review, {"A": "A {text}", "B": "B {more} {text}"}, against="gold", field="mood")

    assert len(race.questions) == 60
    assert sim_model.asked.total() == 60 + 120


def test_failed_rows_are_wrong_and_shown(sim_model: Sim) -> None:
    sim_model.refused = {f"text {at}" for at in range(30)}
    sim_model.skill = {"A": 1.0, "B": 1.0}

    race = frame_of(60).llm.race(Review, PROMPTS, against="gold", field="mood")

    assert [one.accuracy for one in race.arms] == [0.5, 0.5]
    assert [one.failures for one in race.arms] == [{"refusal": 30}] * 2
    assert "30 refusal" in repr(race)
    assert "Rows that failed count as wrong." in race._repr_html_()


def test_a_stopped_race_goes_on_and_pays_for_nothing_twice(sim_model: Sim) -> None:
    frame = frame_of(200)
    first: list[tuple[str, str]] = []

    def stop(count: int) -> None:
        if count == 401:  # in the second round, when all of the first has been stored
            first.extend(list(sim_model.asked)[:400])
            pllm.runs()[-1].cancel()

    sim_model.on_answer = stop
    with pytest.raises(RunInterrupted, match=r"^Race was stopped\."):
        frame.llm.race(Review, PROMPTS, models=MODELS, against="gold", field="mood")
    sim_model.on_answer = lambda count: None

    race = frame.llm.race(Review, PROMPTS, models=MODELS, against="gold", field="mood")

    # What was on the wire when it was stopped may have been asked once more; what was answered is not.
    assert {sim_model.asked[key] for key in first} == {1}
    assert (len(first), len(sim_model.asked)) == (400, 600)
    assert race.arms[race.leader].questions == 200


def test_a_key_that_is_missing_ends_the_race(sim_model: Sim) -> None:
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        frame_of(60).llm.race(Review, PROMPTS, models=["sim:openai", "openai:gpt-6-luna"], against="gold", field="mood")

    assert len(sim_model.asked) <= 2 * 60


def test_the_ceiling_is_one_for_all_arms_and_what_is_left_out_is_said(sim_model: Sim) -> None:
    frame = frame_of(200)
    full = frame.llm.estimate(Review, PROMPTS["A"]).cost_usd
    assert full is not None

    race = frame.llm.race(Review, PROMPTS, models=MODELS, against="gold", field="mood", max_cost_usd=1.5 * full)

    assert race.cost_usd is not None
    assert race.cost_usd <= 1.5 * full
    assert "was reached: " in race.left_out
    assert "of 200 labelled questions were compared" in repr(race)
    assert 0 < race.arms[race.leader].questions < 200

    frame.llm.race(Review, PROMPTS, models=MODELS, against="gold", field="mood", max_cost_usd=10 * full)
    assert max(sim_model.asked.values()) == 1


class Long(BaseModel):
    """A review."""

    mood: Literal["good", "bad", "mixed"]
    note: str


def test_the_ceiling_holds_where_answers_are_longer_than_was_estimated(cache_dir: Path) -> None:
    def answer(request: SimRequest) -> Any:
        return {"mood": MOODS[int(request.prompt.split()[-1]) % 3], "note": "words " * 1_000}

    pllm.configure(sim={"answers": answer}, model="sim:openai")
    frame = frame_of(80)
    estimated = frame.llm.estimate(Long, PROMPTS["A"]).cost_usd
    assert estimated is not None

    ceiling = 2.5 * estimated  # more than the first round is estimated to take, and less than it does
    race = frame.llm.race(Long, PROMPTS, models=MODELS, against="gold", field="mood", max_cost_usd=ceiling)

    assert race.cost_usd is not None
    assert 0 < race.cost_usd <= ceiling
    assert "was reached: " in race.left_out


def test_a_ceiling_that_pays_for_no_round_is_refused(sim_model: Sim) -> None:
    with pytest.raises(UsageError, match=r"pays for about .* of each of the 4 arms.*Nothing was sent"):
        frame_of(200).llm.race(
            Review, PROMPTS, models=MODELS, against="gold", field="mood", max_cost_usd=CHEAP_USD / 100
        )

    assert not sim_model.asked


@pytest.mark.parametrize("kit", LIBRARIES, ids=repr)
def test_every_library_is_raced_alike(sim_model: Sim, kit: FrameKit) -> None:
    columns = {name: list(own) for name, own in frame_of(50).items()}
    columns["mood"] = columns["gold"]  # a column with the name of the field is in nobody's way

    race = kit.llm(kit.frame(columns)).race(Review, PROMPTS, against="gold", field="mood")

    assert kit.column(race.table, "arm")[0] == "A"
    assert kit.column(race.table, "rows") == [50, 50]
    assert kit.column(race.table, "place") == ["leader", "to the end"]


def test_without_a_prompt_the_labels_are_not_sent(sim_model: Sim) -> None:
    seen: list[str] = []
    pllm.configure(sim={"answers": lambda request: seen.append(request.prompt) or {"mood": "good", "stars": 1}})

    race = frame_of(30).llm.race(Review, models=MODELS, against="gold", field="mood")

    assert len(seen) == 60
    assert not any("gold" in prompt for prompt in seen)
    assert race.best()["columns"] == ["text"]
    assert "prompt" not in race.best()


def test_what_is_configured_for_other_runs_does_not_change_a_race(sim_model: Sim) -> None:
    sim_model.refused = {"text 3"}
    pllm.configure(errors="raise", mode="sync")

    race = frame_of(30).llm.race(Review, PROMPTS, against="gold", field="mood")

    assert [one.failures for one in race.arms] == [{"refusal": 1}] * 2
    assert "errors" not in race.best()


def test_an_arm_that_the_provider_refuses_leaves_and_the_others_go_on(sim_model: Sim) -> None:
    prompts = {**PROMPTS, "C": {"prompt": "C {text}", "temperature": 0.5}}
    sim_model.refused_words = {"C"}

    race = frame_of(60).llm.race(Review, prompts, against="gold", field="mood")

    assert race.arms[race.leader].arm.name == "A"
    assert race.arms[2].left == "refused"
    assert "C was refused: " in repr(race)
    assert race.gap < 1
    assert len(race.plot().lines) > 0

    sim_model.refused_words = {"D", "E"}
    with pytest.raises(PllmError, match="The provider refuses every arm"):
        frame_of(60).llm.race(Review, {"D": "D {text}", "E": "E {text}"}, against="gold", field="mood")


def test_the_cheapest_arm_that_is_proven_near_is_offered(sim_model: Sim) -> None:
    sim_model.skill = {"A": 1.0, "B": 1.0}
    prompts = {"A": "A {text}", "B": "B " + "long " * 200 + "{text}"}
    frame = frame_of(300)
    pllm.configure(sim={"answers": lambda request: {"mood": MOODS[int(request.prompt.split()[-1]) % 3], "stars": 1}})

    race = frame.llm.race(Review, prompts, against="gold", field="mood")

    assert race.best(within=0.02)["prompt"] == prompts["A"]
    assert list(race.table["pareto"]) == [True, False]
    with pytest.warns(UserWarning, match=r"No arm is proven to be within 0\.01 points .* more labels narrow that"):
        assert race.best(within=0.0001) == race.best()
    with pytest.raises(UsageError, match="a share from 0 to 1"):
        race.best(within=2)


def test_stored_labels_are_raced_against(sim_model: Sim) -> None:
    frame = frame_of(40)
    frame.llm.label("gold", field="mood", columns=["text"])

    race = frame[["text"]].llm.race(Review, PROMPTS, against="labels")

    assert race.questions.field == "mood"
    assert race.arms[race.leader].questions == 40


def test_a_row_that_an_arm_was_shown_as_an_example_measures_none(sim_model: Sim) -> None:
    frame = frame_of(40)
    examples = [(f"text {at}", {"mood": MOODS[at % 3], "stars": 1}) for at in range(5)]
    prompts = {"A": {"prompt": "A {text}", "examples": examples}, "B": "B {text}"}

    race = frame.llm.race(Review, prompts, against="gold", field="mood")

    assert [one.questions for one in race.arms] == [35, 35]
    assert "Left out since an arm was shown them as examples: 5 labelled rows." in repr(race)


@pytest.mark.parametrize("live", [True, False], ids=["live", "recorded"])
def test_rounds_are_not_taken_for_the_run_of_a_frame(sim_model: Sim, live: bool) -> None:
    frame = frame_of(60)
    old = frame.llm.parse(Review, "A {text}")
    for number in range(6):  # rounds enough to hide a run among the newest that are looked at
        prompts = {"A": "A {text}", f"B{number}": f"B {number} {{text}}"}
        frame.llm.race(Review, prompts, models=MODELS, against="gold", field="mood")
    if not live:
        run_registry.forget_all()
    bare = pd.DataFrame({name: list(old[name]) for name in old})

    assert bare.llm.run.id == old.llm.run.id
    new = frame.llm.parse(Review, "B {text}")
    assert new.llm.compare("previous").rows.old.source.run.id == old.llm.run.id


def test_a_race_is_shown_as_text_html_and_a_picture(sim_model: Sim) -> None:
    race = frame_of(40).llm.race(Review, {"<b>": "A {text}", "B": "B {text}"}, against="gold", field="mood")

    html = race._repr_html_()

    picture = ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + len("</svg>")])
    assert {part.tag for part in picture.iter()} == {"svg", "line", "text", "tspan", "polyline", "circle"}
    assert "<b>" in "".join(picture.itertext())
    assert "<b>" not in html
    assert race.plot().get_xlabel() == "US dollars of the full run"
    assert race.plot("time").get_xlabel() == "seconds of the full run"
    with pytest.raises(UsageError, match="by is 'cost' or 'time'"):
        race.plot("length")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt": "A {text}"}, "two or more arms"),
        ({"prompt": PROMPTS, "rule": "luck"}, "'halving' or 'proof'"),
        ({"prompt": PROMPTS, "mode": "batch"}, "mode= is not an option of a race"),
        ({"prompt": PROMPTS, "field": "moods"}, "no field 'moods' in the answers.*Did you mean 'mood'"),
        ({"prompt": {"A": "A {text}", "B": "B {gold}"}}, "names {gold}, the column of the labels"),
        ({"prompt": {"A": "A {text}", "B": "B {txt}"}}, "txt"),
        ({"prompt": PROMPTS, "models": []}, "at least one"),
        ({"prompt": PROMPTS, "models": ["sim:openai", "sim:openai"]}, "Two arms are the same"),
    ],
)
def test_what_cannot_be_raced_is_refused_before_anything_is_sent(
    sim_model: Sim, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        frame_of(30).llm.race(Review, **{"against": "gold", "field": "mood", **given})

    assert not sim_model.asked


def test_labels_that_are_not_there_are_refused(sim_model: Sim) -> None:
    with pytest.raises(PllmError, match="No row has a label in 'gold'"):
        frame_of(30, labels=0).llm.race(Review, PROMPTS, against="gold", field="mood")
    with pytest.raises(UsageError, match="No label in 'gold' is a value of 'mood'"):
        frame_of(30).assign(gold="fine").llm.race(Review, PROMPTS, against="gold", field="mood")

    assert not sim_model.asked
