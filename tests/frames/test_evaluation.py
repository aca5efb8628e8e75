"""Answers against labels: what is counted, what is left out, and what is said where the two cannot meet."""

from __future__ import annotations

import datetime as dt
import enum
import re
import sys
from collections.abc import Callable
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import MissingPackageError, PllmError, UsageError
from pllm_notebook.execution import handle_of
from pllm_notebook.frames.item_lists import submit_list
from pllm_notebook.frames.sample_sizes import by_samples
from pllm_notebook.sim import SimAnswer, SimRequest

from .frame_libraries import FrameKit

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

Asked = Callable[..., Any]


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"
    MIXED = "mixed"


class Review(BaseModel):
    product: str
    mood: Mood


@pytest.fixture
def asked(cache_dir: object, kit: FrameKit) -> Asked:
    """Ask for each row what stands in its text; "-" is refused. Return `.llm` of the result."""

    def answer(request: SimRequest) -> Any:
        said = request.messages[0][1]
        return SimAnswer.refusal() if said == "-" else SimAnswer.value(eval(said))

    pllm.configure(sim={"answers": answer}, model="sim:openai")

    def run(kind: Any, said: list[Any], labels: list[Any], **options: Any) -> Any:
        texts = [one if one in ("-", None) else repr(one) for one in said]
        frame = kit.frame({"text": texts, "label": labels})
        return kit.llm(kit.llm(frame).parse(kind, "{text}", **options))

    return run


MOODS = ["good", "good", "bad", "good", "mixed", "-", "good", None]
LABELS = ["good", "good", "bad", "bad", "bad", "bad", None, "good"]


def test_every_figure_is_over_the_rows_that_have_a_label_and_an_answer(asked: Asked) -> None:
    found = asked(Mood, MOODS, LABELS).evaluate(against="label")

    assert (found.total, found.answered, found.unlabelled, found.unanswered) == (8, 5, 1, 2)
    assert found.accuracy == 3 / 5
    # Chance: 2/5 of labels are good and 3/5 of answers, 3/5 bad and 1/5: 9/25. Observed 3/5.
    assert found.kappa == pytest.approx((3 / 5 - 9 / 25) / (1 - 9 / 25))


@pytest.mark.filterwarnings("error")
def test_one_class_throughout_is_right_and_has_no_kappa(asked: Asked, kit: FrameKit) -> None:
    found = asked(Mood, ["good", "good"], ["good", "good"]).evaluate(against="label")

    assert found.accuracy == 1
    assert np.isnan(found.kappa)
    assert kit.column(found.confusion, "good") == [2]


def test_an_evaluation_shows_what_it_counted_and_what_it_left_out(asked: Asked) -> None:
    found = asked(Mood, MOODS, LABELS).evaluate(against="label")

    line = (
        "answer against label: accuracy 0.600 on 5 of 8 rows (1 without a label, 2 without an answer), "
        "Cohen's kappa 0.375"
    )
    assert repr(found).splitlines()[0] == line
    html = found._repr_html_()
    assert html.startswith(f"<p>{line.replace(chr(39), '&#x27;')}</p>")
    assert "<table" in html


def test_a_run_evaluates_as_its_frame_does(asked: Asked) -> None:
    llm = asked(Mood, MOODS, LABELS)

    assert repr(llm.run.evaluate(against="label")) == repr(llm.evaluate(against="label"))


def test_each_class_has_its_figures_in_every_library(asked: Asked, kit: FrameKit) -> None:
    found = asked(Mood, MOODS, LABELS).evaluate(against="label")

    assert kit.column(found.report, "precision") == pytest.approx([2 / 3, 1, 0])
    assert kit.column(found.report, "support") == [2, 3, 0]
    assert [kit.column(found.confusion, name) for name in ("good", "bad", "mixed")] == [[2, 1, 0], [0, 1, 0], [0, 1, 0]]


def test_labels_of_another_type_are_compared_by_value_in_every_library(asked: Asked) -> None:
    day = dt.date(2026, 1, 2)

    assert asked(Literal[1, 2], [1, 2, 2], [1.0, 2.0, 1.0]).evaluate("label").accuracy == 2 / 3
    assert asked(bool, [True, False, False], [1, 0, 1]).evaluate("label").accuracy == 2 / 3
    assert asked(dt.date, ["2026-01-02", "2026-01-03"], [day, day]).evaluate("label").accuracy == 1 / 2
    assert asked(Mood, ["good", "bad"], ["good", "good"]).evaluate("label").accuracy == 1 / 2


# Labels.


def test_labels_put_beside_the_answers_count_too(asked: Asked, kit: FrameKit) -> None:
    out = asked(Literal["a", "b"], ["a", "b"], ["", ""]).run.to_frame()

    truth = kit.put(out, "truth", ["a", "a"])

    assert kit.llm(truth).evaluate("truth").accuracy == 1 / 2


def test_a_column_that_is_not_there_is_named_with_a_guess(asked: Asked) -> None:
    llm = asked(Literal["a", "b"], ["a"], ["a"])

    told = "The frame that was asked has no column named 'lable' among ['text', 'label']. Did you mean 'label'?"
    with pytest.raises(UsageError, match=f"^{re.escape(told)}$"):
        llm.evaluate("lable")


def test_answers_are_not_labels_of_themselves(asked: Asked) -> None:
    with pytest.raises(UsageError, match="no column named 'answer'"):
        asked(Literal["a", "b"], ["a"], ["a"]).evaluate("answer")


def test_labels_that_the_type_does_not_have_are_refused_with_a_guess(asked: Asked) -> None:
    llm = asked(Mood, ["good", "bad"], ["GOOD", "Bad "])

    told = (
        "No label in 'label' is a value of 'answer': the labels are 'GOOD', 'Bad ', "
        "the values are 'good', 'bad', 'mixed'. Did you mean 'good' for 'GOOD'?"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(told)}$"):
        llm.evaluate("label")


def test_some_labels_that_the_type_does_not_have_are_told_and_count_as_wrong(asked: Asked, kit: FrameKit) -> None:
    llm = asked(Mood, ["good", "bad", "bad"], ["good", "bad", "Bad"])

    told = (
        "1 of 3 labels in 'label' are not values of 'answer' and count as wrong: 'Bad'. Did you mean 'bad' for 'Bad'?"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(told)}$") as heard:
        found = llm.evaluate("label")

    assert found.accuracy == 2 / 3
    assert kit.column(found.report, "support") == [1, 1, 1]
    assert heard[0].filename == __file__


def test_free_answers_that_no_label_equals_are_told(asked: Asked) -> None:
    llm = asked(int, [1, 2], ["1", "2"])

    with pytest.warns(UserWarning, match=r"the labels are '1', '2', the answers are 1, 2\. Did you mean 1 for '1'\?$"):
        assert llm.evaluate("label").accuracy == 0


def test_rows_that_cannot_be_compared_at_all_are_an_error(asked: Asked) -> None:
    with pytest.raises(UsageError, match=r"^No row has both a label in 'label' and an answer"):
        asked(Mood, ["good", "-"], [None, "bad"]).evaluate("label")


def test_values_that_are_not_single_are_refused(asked: Asked) -> None:
    with pytest.raises(UsageError, match=r"^'answer' holds values of type list"):
        asked(list[int], [[1]], [1]).evaluate("label")


def test_an_answer_of_none_is_an_answer(asked: Asked, kit: FrameKit) -> None:
    class Maybe(BaseModel):
        label_: Literal["a", "b"] | None

    llm = asked(Maybe, [{"label_": None}, {"label_": "a"}], ["a", "a"])

    found = llm.evaluate("label", field="label_")

    assert (found.accuracy, found.answered) == (1 / 2, 2)
    assert kit.column(found.confusion, "a")[0] == 1


# Fields.


def test_the_field_is_the_one_that_is_named_as_the_labels_are(asked: Asked, kit: FrameKit) -> None:
    said = [{"product": "kettle", "mood": "good"}, {"product": "pan", "mood": "bad"}]
    out = asked(Review, said, ["good", "good"], prefix="llm_").run.to_frame()

    by_name = kit.llm(kit.rename(out, "label", "mood")).evaluate("mood")
    chosen = kit.llm(out).evaluate(kit.series(["kettle", "pan"], "labels"), field="product")

    assert (by_name.field, by_name.accuracy) == ("llm_mood", 1 / 2)
    assert (chosen.field, chosen.against, chosen.accuracy) == ("llm_product", "labels", 1)


def test_a_field_that_cannot_be_told_is_an_error_that_lists_them(asked: Asked) -> None:
    llm = asked(Review, [{"product": "kettle", "mood": "good"}], ["good"])

    with pytest.raises(UsageError, match=r"none is named 'label'\. Pass field= with one of \['product', 'mood'\]\.$"):
        llm.evaluate("label")
    told = r"^There is no field 'moot' among .* of the newest run of this frame; .* Did you mean 'mood'\?$"
    with pytest.raises(UsageError, match=told):
        llm.evaluate("label", field="moot")


def test_exploded_rows_are_not_compared(asked: Asked) -> None:
    with pytest.raises(UsageError, match=r"^explode=True"):
        asked(list[int], [[1, 2]], [1], explode=True).evaluate("label")


def test_a_list_of_items_has_no_labels_beside_it(cache_dir: object) -> None:
    pllm.configure(sim={"answers": lambda request: {"value": 1}}, model="sim:openai")
    run = submit_list(["1"], int, "{value}")
    run.wait()

    with pytest.raises(PllmError, match=r"^This run has no dataframe"):
        handle_of(run).evaluate("label")


# Pictures and packages.


@pytest.mark.sample(1)
def test_the_picture_has_the_classes_and_names(asked: Asked) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")

    axes = asked(Mood, MOODS, LABELS).evaluate("label").plot()

    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["good", "bad", "mixed"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("answer", "label")
    assert [text.get_text() for text in axes.texts] == ["2", "0", "0", "1", "1", "1", "0", "0", "0"]


@pytest.mark.parametrize("missing", ["sklearn", "matplotlib.pyplot"])
def test_a_package_that_is_not_there_is_named_with_its_extra(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    llm = asked(Mood, ["good"], ["good"])
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(MissingPackageError, match=r"pip install 'pllm_notebook\[evaluate\]'"):
        llm.evaluate("label").plot()


# Several samples.


def test_each_number_of_samples_has_its_accuracy_and_chance(cache_dir: object, kit: FrameKit) -> None:
    said = {"x": iter(["a", "b", "a"]), "y": iter(["b", "a", "c"])}
    pllm.configure(
        sim={"answers": lambda request: SimAnswer.value(next(said[request.messages[0][1]]))}, model="sim:openai"
    )
    frame = kit.frame({"text": ["x", "y"], "label": ["a", "a"]})
    out = kit.llm(frame).parse(Literal["a", "b", "c"], "{text}", samples=3, concurrency=1)

    table = kit.llm(out).evaluate("label").by_samples

    assert kit.column(table, "pass_at_k") == pytest.approx([(2 / 3 + 1 / 3) / 2, (1 + 2 / 3) / 2, 1])
    assert kit.column(table, "accuracy")[0] == pytest.approx(1 / 2)
    assert kit.column(table, "accuracy")[2] == kit.llm(out).evaluate("label").accuracy
    assert kit.column(table, "subsets") == [3, 3, 1]


def test_one_sample_has_no_smaller_numbers(asked: Asked) -> None:
    with pytest.raises(PllmError, match=r"^by_samples needs several answers for each row \(samples= or models=\)"):
        _ = asked(Mood, ["good"], ["good"]).evaluate("label").by_samples


def test_a_majority_of_a_subset_is_the_vote_of_those_samples() -> None:
    answers = np.random.default_rng(0).integers(0, 4, size=(50, 5))
    truths = np.zeros(50, dtype=int)

    lines = by_samples(truths, answers)

    for k in range(1, 6):
        votes = [max(row[list(s)].tolist(), key=row[list(s)].tolist().count) for row in answers for s in
                 combinations(range(5), k)]  # fmt: skip
        hits = [0 in row[list(s)] for row in answers for s in combinations(range(5), k)]
        assert lines[k - 1]["accuracy"] == pytest.approx(np.mean(np.array(votes) == 0))
        assert lines[k - 1]["pass_at_k"] == pytest.approx(np.mean(hits))


def test_of_many_subsets_some_are_drawn_and_always_the_same() -> None:
    answers = np.random.default_rng(0).integers(0, 2, size=(30, 12))
    truths = np.zeros(30, dtype=int)

    lines = by_samples(truths, answers)

    assert [line["subsets"] for line in lines] == [12, 66, *[200] * 7, 66, 12, 1]
    assert lines == by_samples(truths, answers)
