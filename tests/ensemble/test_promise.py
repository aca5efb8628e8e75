"""Which answers differ, which are lost, and what a promise is about."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from pllm_notebook.ensemble.guarantee_figures import GuaranteeFigures
from pllm_notebook.ensemble.promise import KnownLabels, Promise, promise_for
from pllm_notebook.exceptions import UsageError
from pllm_notebook.options import Options
from pllm_notebook.schema import OutputType


class Tone(Enum):
    WARM = "warm"
    COLD = "cold"


class Inner(BaseModel):
    ok: bool
    why: str = ""


class Review(BaseModel):
    """Facts."""

    mood: Literal["good", "bad"]
    tone: Tone
    stars: int | None = Field(ge=1, le=5)
    topics: list[Literal["price", "size"]]
    inner: Inner
    note: str = ""
    weight: float = 0.0


USUAL: dict[str, Any] = {
    "mood": "good", "tone": "warm", "stars": 3, "topics": ["price", "size"], "inner": {"ok": True},
}  # fmt: skip


def review(**other: Any) -> Review:
    return Review.model_validate(USUAL | other)


def promised(kind: Any = Review, **given: Any) -> Promise:
    options = Options(guarantee=0.95, decide="escalate", judge="openai:gpt-6-sol", **given)
    found = promise_for(options, OutputType.of(kind))
    assert found is not None
    return found


def test_a_promise_is_about_the_fields_whose_values_are_known() -> None:
    promise = promised()

    assert promise.names == ["mood", "tone", "stars", "topics", "inner.ok"]
    assert promise.outside == ("inner.why", "note", "weight")
    assert (promise.source, promised(samples=3).source) == ("logprobs", "samples")
    assert promised(bool).names == ["answer"]


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        ({}, False),
        ({"note": "x", "weight": 1.0, "inner": {"ok": True, "why": "y"}}, False),
        ({"topics": ["size", "price"]}, False),
        ({"mood": "bad"}, True),
        ({"tone": "cold"}, True),
        ({"stars": 4}, True),
        ({"stars": None}, True),
        ({"topics": ["price"]}, True),
        ({"inner": {"ok": False}}, True),
    ],
)
def test_a_row_is_bad_if_any_of_these_fields_differs(other: dict[str, Any], differs: bool) -> None:
    assert promised().is_bad(0, review(), review(**other)) is differs
    assert promised().is_bad(0, review(**other), review()) is differs


@pytest.mark.parametrize(
    ("label", "missing", "bad"), [("cold", False, True), ("warm", False, False), (None, True, True)]
)
def test_against_labels_a_row_is_bad_where_the_strong_answer_is_right(label: Any, missing: bool, bad: bool) -> None:
    labels = {"tone": KnownLabels("said", [None, label], [True, missing])}
    promise = promised().with_labels(labels)

    assert promise.is_bad(1, review(), review(tone="cold")) is bad
    assert promise.is_bad(1, review(), review(tone="cold", mood="bad")), "mood has no labels, and differs"


def test_a_list_alone_has_no_token_probabilities() -> None:
    with pytest.raises(UsageError, match="a list has no token probabilities: pass for example samples=5"):
        promised(list[Literal["a", "b"]])

    assert promised(list[Literal["a", "b"]], samples=5).source == "samples"


FIGURES = GuaranteeFigures(
    state="proved", share=0.99, confidence_level=0.9, low_cost="cheap", strong="strong", source="logprobs",
    fields=("mood", "tone"), outside=("note",), labels={"tone": "said"}, rows=2_000, allowed=20, sampled=400, bad=1,
    threshold=0.75, kept=1_500, escalated=490, cost_usd=1.0, alone_usd=4.0,
)  # fmt: skip


def test_the_promise_is_one_sentence() -> None:
    assert FIGURES.promise == (
        "With 90 % confidence, at most 1 % of the 2,000 rows (20) keep an answer of cheap that is wrong where strong's "
        "is right in `tone` (by 'said') or differs from strong's in `mood`."
    )
    assert FIGURES.lines()[1:] == [
        "Nothing is promised of `note`.",
        "Threshold: 0.75 confidence (token probabilities); 1 of 400 sampled rows would be bad at it.",
        "Rows: 1,500 by cheap, 490 by strong.",
        "Cost: $1.00, about $3.00 less than strong alone ($4.00).",
    ]


def test_the_registry_gives_back_what_it_was_given() -> None:
    written = FIGURES.written()

    assert GuaranteeFigures.read({**written, "fields": list(written["fields"]), "later": "unknown"}) == FIGURES
