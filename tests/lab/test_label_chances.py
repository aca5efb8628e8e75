"""Chances of labels: rows that the model was shown as examples are known, and correct no other row."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.lab.label_chances import label_chances
from pllm_notebook.sim import SimRequest
from pllm_notebook.statistics import corrected_mean

ROWS, LABELS = 1_000, 300


def share_that_holds(rng: np.random.Generator, *, examples_are_known: bool, times: int = 400) -> float:
    """Return how often the interval of a share holds that of the table, where most of the labels were examples."""
    held = 0
    for _ in range(times):
        y = rng.random(ROWS) < 0.5
        guess = np.where(rng.random(ROWS) < np.where(y, 0.35, 0.05), ~y, y)  # yes is missed more often
        labelled = np.zeros(ROWS, dtype=bool)
        labelled[rng.choice(ROWS, LABELS, replace=False)] = True
        shown = labelled & (rng.random(ROWS) < 0.8)
        guess = np.where(shown, y, guess)  # the model copies what it was shown
        known = [(LABELS / ROWS, "random") if one else None for one in labelled]
        pi, problem = label_chances(known, np.arange(ROWS), shown & examples_are_known)
        assert not problem
        found = corrected_mean(y, guess, labelled, pi)
        held += found.low <= y.mean() <= found.high
    return held / times


def test_an_interval_holds_the_truth_where_examples_are_among_the_labels() -> None:
    assert share_that_holds(np.random.default_rng(5), examples_are_known=True) >= 0.93
    # Rows that the model was shown make it look more often right than it is about the others.
    assert share_that_holds(np.random.default_rng(5), examples_are_known=False) < 0.5


def test_the_other_labels_are_a_draw_from_the_rows_that_were_not_shown() -> None:
    known = [(0.5, "random")] * 4 + [None] * 4
    shown = np.array([True, False, False, False, True, False, False, False])

    pi, problem = label_chances(known, np.arange(8), shown)

    assert problem == ""
    np.testing.assert_allclose(pi[:4], [1, 0.5, 0.5, 0.5])  # three of six
    assert np.isnan(pi[4:]).all()


def test_labels_of_examples_alone_leave_no_interval() -> None:
    known = [(0.5, "random")] * 4 + [None] * 4

    _, problem = label_chances(known, np.arange(8), np.arange(8) < 4)

    assert "shown all labelled rows as examples" in problem


class Review(BaseModel):
    """A review."""

    mood: Literal["good", "bad"]


def text_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def truth_of(text: str) -> str:
    return "good" if int(text[0], 16) < 8 else "bad"


def answer(request: SimRequest) -> Any:
    text = request.prompt.split()[-1]
    return {"mood": "good" if int(text[1], 16) < 4 else truth_of(text)}


def test_a_report_counts_examples_by_their_labels_and_says_so(cache_dir: Path) -> None:
    pllm.configure(sim={"answers": answer}, model="sim:openai")
    frame = pd.DataFrame({"text": [text_of(number) for number in range(200)]})
    review = frame.llm.parse(Review, "Read {text}").llm.review(["mood"], n=120, by="me")
    while review.at < len(review):
        review.choose(truth_of(review.state()["row"][0][1]))
    shown = frame.iloc[[review.items[at].row.position for at in range(20)]].copy()
    shown["mood"] = shown["text"].map(truth_of)
    strange = frame.iloc[[at for at in range(200) if at not in {one.row.position for one in review.items}][:3]].copy()
    strange["mood"] = strange["text"].map(truth_of)

    out = frame.llm.parse(Review, "Read {text}", examples=pd.concat([shown, strange]), max_examples=23)
    report = out.llm.report()

    (labels,) = report.data["labels"]
    assert (labels["examples_for_certain"], labels["examples_left_out"]) == (20, 3)
    good = next(one for one in report.data["means"] if one["value"] == "good")
    assert (good["method"], good["labels"], good["rows"]) == ("strata", 120, 197)
    assert good["low"] <= float((frame["text"].map(truth_of) == "good").mean()) <= good["high"]
    assert "20 rows that the model was shown as an example, or nearly, were counted by the label" in report.methods
    assert "3 rows that the model was shown as an example, or nearly, were not drawn" in report.methods
    (evaluated,) = report.data["evaluation"]
    assert evaluated["rows"] == 100
