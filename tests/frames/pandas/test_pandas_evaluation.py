"""Answers of pandas against labels: their index, the lines and columns of figures, and labels of pandas' dtypes."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.sim import SimAnswer, SimRequest

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

Ask = Callable[..., pd.DataFrame]


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"
    MIXED = "mixed"


@pytest.fixture
def ask(cache_dir: object) -> Ask:
    """Ask for each row what stands in its text; "-" is refused."""

    def answer(request: SimRequest) -> Any:
        said = request.messages[0][1]
        return SimAnswer.refusal() if said == "-" else SimAnswer.value(eval(said))

    pllm.configure(sim={"answers": answer}, model="sim:openai")

    def run(kind: Any, said: list[Any], labels: Any) -> pd.DataFrame:
        texts = [one if one in ("-", None) else repr(one) for one in said]
        frame = pd.DataFrame({"text": texts, "label": labels}, index=range(10, 10 + len(said)))
        out: pd.DataFrame = frame.llm.parse(kind, "{text}")
        return out

    return run


MOODS = ["good", "good", "bad", "good", "mixed", "-", "good", None]
LABELS = ["good", "good", "bad", "bad", "bad", "bad", None, "good"]


def test_each_class_has_its_precision_and_recall(ask: Ask) -> None:
    report = ask(Mood, MOODS, LABELS).llm.evaluate(against="label").report

    assert report.index.tolist() == ["good", "bad", "mixed"]
    assert report["precision"].tolist() == pytest.approx([2 / 3, 1, 0])
    assert report["recall"].tolist() == pytest.approx([1, 1 / 3, np.nan], nan_ok=True)
    assert report["f1"].tolist() == pytest.approx([4 / 5, 1 / 2, 0])
    assert report["support"].tolist() == [2, 3, 0]


def test_the_confusion_has_labels_as_lines_and_answers_as_columns(ask: Ask) -> None:
    confusion = ask(Mood, MOODS, LABELS).llm.evaluate(against="label").confusion

    assert confusion.to_dict("index") == {
        "good": {"good": 2, "bad": 0, "mixed": 0},
        "bad": {"good": 1, "bad": 1, "mixed": 1},
        "mixed": {"good": 0, "bad": 0, "mixed": 0},
    }
    assert (confusion.index.name, confusion.columns.name) == ("label", "answer")


@pytest.mark.parametrize(
    ("kind", "said", "labels"),
    [
        (Mood, ["good", "bad", "bad"], [Mood.GOOD, Mood.BAD, Mood.GOOD]),
        (Literal[1, 2], [1, 2, 2], [1.0, 2.0, 1.0]),
        (bool, [True, False, False], [1, 0, 1]),
        (dt.date, ["2026-01-02", "2026-01-03", "2026-01-04"], [dt.date(2026, 1, 2), dt.date(2026, 1, 3), dt.date.min]),
        (str, ["a", "b", "c"], pd.Categorical(["a", "b", "a"])),
        (int, [1, 2, 3], pd.array([1, 2, 1], dtype="Int64")),
    ],
    ids=["enum", "float", "bool", "date", "category", "Int64"],
)
def test_labels_of_another_type_are_compared_by_value(ask: Ask, kind: Any, said: list[Any], labels: Any) -> None:
    assert ask(kind, said, labels).llm.evaluate(against="label").accuracy == 2 / 3


def test_a_series_of_labels_is_aligned_by_its_index(ask: Ask) -> None:
    out = ask(Literal["a", "b"], ["a", "b", "a", "b"], [None] * 4)

    found = out.llm.evaluate(pd.Series({13: "b", 12: "b", 10: "a", 99: "a"}, name="truth"))

    assert (found.against, found.accuracy, found.answered, found.unlabelled) == ("truth", 2 / 3, 3, 1)


def test_a_series_with_a_foreign_index_is_refused(ask: Ask) -> None:
    out = ask(Literal["a", "b"], ["a", "b"], [None] * 2)

    with pytest.raises(UsageError, match=r"^The index of the labels does not match the index of the frame"):
        out.llm.evaluate(pd.Series(["a", "b"]))
