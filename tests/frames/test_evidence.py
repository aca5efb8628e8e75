"""Each field with a quote from the row: verified, beside the answer, and never part of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator

import pllm_notebook as pllm
from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.sim import SimAnswer, SimRequest

from .frame_libraries import FrameKit

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


class Review(BaseModel):
    """Facts."""

    mood: Literal["good", "bad"]
    stars: int | None = Field(alias="numStars")
    summary: str = Field(alias="copy")  # a name that models have for something else

    @field_validator("summary")
    @classmethod
    def short(cls, value: str) -> str:
        return value[:20]


ANSWER = {"mood": "good", "numStars": 5, "copy": "fine"}
QUOTES = {"mood": "really fine", "numStars": "six stars", "copy": None}


@pytest.fixture
def answers(cache_dir: object) -> Callable[[Any], None]:
    """Answer every request so."""

    def answer(given: Any) -> None:
        pllm.configure(sim={"answers": given}, model="sim:openai")

    return answer


def quoted(request: SimRequest) -> Any:
    return {"evidence": QUOTES, "answer": ANSWER}


def test_each_field_has_a_quote_and_its_place_in_the_row(answers: Callable[[Any], None], kit: FrameKit) -> None:
    answers(quoted)
    frame = kit.frame({"title": ["A review"], "text": ["It is really\nfine, five stars."]})

    out = kit.llm(frame).parse(Review, "{title}: {text}", evidence=True)

    assert kit.names(out) == ["title", "text", "mood", "stars", "summary"]
    assert kit.rows(kit.llm(out).evidence) == [
        {"row": 0, "field": "mood", "quote": "really fine", "start": 6, "end": 17, "column": "text", "verified": True},
        {"row": 0, "field": "stars", "quote": "six stars", "start": None, "end": None, "column": None,
         "verified": False},
        {"row": 0, "field": "summary", "quote": None, "start": None, "end": None, "column": None, "verified": False},
    ]  # fmt: skip


def test_an_earlier_kernel_s_evidence_is_read_from_the_cache(answers: Callable[[Any], None], kit: FrameKit) -> None:
    answers(quoted)
    out = kit.llm(kit.frame({"text": ["really fine", "really fine, five"]})).parse(Review, "{text}", evidence=True)
    before = kit.rows(kit.llm(out).evidence)

    run_registry.forget_all()

    assert kit.rows(kit.llm(out).evidence) == before
    assert [str(mood) for mood in kit.llm(out).run.to_frame()["mood"]] == ["good", "good"]


def test_it_is_another_question_with_answers_of_its_own(kit: FrameKit, answers: Callable[[Any], None]) -> None:
    answers(lambda request: quoted(request) if "evidence" in str(request.schema) else ANSWER)
    frame = kit.frame({"text": ["really fine"]})

    said = [
        kit.values(kit.llm(kit.llm(frame).parse(Review, "{text}", evidence=evidence)).status)[0]
        for evidence in (True, False, True, False)
    ]

    assert said == ["ok", "ok", "cached", "cached"]


def test_a_run_without_quotes_says_how_to_ask_for_them(kit: FrameKit, answers: Callable[[Any], None]) -> None:
    answers(lambda request: ANSWER)
    out = kit.llm(kit.frame({"text": ["fine"]})).parse(Review, "{text}")

    with pytest.raises(PllmError, match="It needs evidence=True"):
        _ = kit.llm(out).evidence


@pytest.mark.parametrize("kind", [bool, list[str], Literal["a", "b"]])
def test_a_type_without_fields_has_one_quote(kit: FrameKit, answers: Callable[[Any], None], kind: Any) -> None:
    value = {bool: True}.get(kind, ["x"] if kind == list[str] else "a")
    answers(lambda request: {"evidence": {"answer": "fine"}, "answer": value})

    out = kit.llm(kit.frame({"text": ["all fine"]})).parse(kind, "{text}", evidence=True)

    assert kit.column(out, "answer") == [value]
    (found,) = kit.rows(kit.llm(out).evidence)
    assert (found["field"], found["start"], found["end"], found["verified"]) == ("answer", 4, 8, True)


def test_a_row_that_failed_has_no_evidence_and_its_neighbours_have(
    kit: FrameKit, answers: Callable[[Any], None]
) -> None:
    answers(lambda request: SimAnswer.refusal("No.") if request.prompt == "no" else quoted(request))

    out = kit.llm(kit.frame({"text": ["no", "really fine"]})).parse(Review, "{text}", evidence=True)

    assert set(kit.column(kit.llm(out).evidence, "row")) == {1}
    assert kit.values(kit.llm(out).status) == ["failed", "ok"]


def test_an_answer_that_its_validator_refuses_is_asked_for_again_as_without_quotes(
    kit: FrameKit,
    answers: Callable[[Any], None],
) -> None:
    turns = []

    def answer(request: SimRequest) -> Any:
        turns.append(request)
        wrong = {"evidence": QUOTES, "answer": ANSWER | {"mood": "so-so"}}
        return wrong if len(turns) == 1 else quoted(request)

    answers(answer)

    out = kit.llm(kit.frame({"text": ["really fine"]})).parse(Review, "{text}", evidence=True)

    assert (len(turns), kit.column(out, "mood")) == (2, ["good"])
    assert kit.column(kit.llm(out).evidence, "verified") == [True, False, False]


def test_explain_shows_the_quotes_as_text(kit: FrameKit, answers: Callable[[Any], None]) -> None:
    answers(lambda request: {"evidence": QUOTES | {"copy": "<b>x</b>"}, "answer": ANSWER})
    out = kit.llm(kit.frame({"text": ["<b>x</b> really fine"]})).parse(Review, "{text}", evidence=True)
    lines = (
        "mood: 'really fine' in text, characters 9 to 20",
        "stars: 'six stars', which is not in the row",
        "summary: '<b>x</b>' in text, characters 0 to 8",
    )

    explained = kit.llm(out).explain(0)
    assert explained.evidence == lines == kit.llm(out).run.explain(0).evidence
    assert "<b>" not in explained._repr_html_()

    run_registry.forget_all()
    assert kit.llm(out).explain(0).evidence == lines


def test_quotes_are_looked_for_in_the_text_of_numbers_too(kit: FrameKit, answers: Callable[[Any], None]) -> None:
    answers(lambda request: {"evidence": {"answer": "3.5"}, "answer": True})

    out = kit.llm(kit.frame({"text": ["x"], "score": [3.5]})).parse(bool, "Is this high? {score}", evidence=True)

    (found,) = kit.rows(kit.llm(out).evidence)
    assert (found["column"], found["start"], found["end"]) == ("score", 0, 3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"samples": 3}, "samples="),
        ({"pack": 5}, "pack="),
        ({"probabilities": True}, "probabilities="),
        ({"cache": "off"}, "cache='off'"),
        ({"models": ["sim:openai", "sim:anthropic"]}, "models="),
    ],
)
def test_what_quotes_cannot_be_had_with_is_refused_before_anything_is_sent(
    kit: FrameKit, answers: Callable[[Any], None], options: dict[str, Any], named: str
) -> None:
    answers(lambda request: pytest.fail("sent"))

    with pytest.raises(UsageError, match=rf"evidence=True cannot be combined with {named}: .* Nothing was sent"):
        kit.llm(kit.frame({"text": ["fine"]})).parse(Review, "{text}", evidence=True, **options)


@pytest.mark.parametrize("model", ["sim:openai", "sim:anthropic", "sim:google"])
def test_every_provider_s_schema_takes_the_quotes(kit: FrameKit, cache_dir: object, model: str) -> None:
    """Invented answers follow the schema that was sent, so a quote is whatever a schema of text allows."""
    out = kit.llm(kit.frame({"text": ["fine", "bad"]})).parse(Review, "{text}", evidence=True, model=model)

    assert kit.values(kit.llm(out).status) == ["ok", "ok"]
    assert len(kit.rows(kit.llm(out).evidence)) == 6


def test_a_batch_has_quotes(kit: FrameKit, answers: Callable[[Any], None]) -> None:
    answers(quoted)

    out = kit.llm(kit.frame({"text": ["really fine"]})).parse(
        Review, "{text}", evidence=True, mode="batch", confirm=False
    )

    assert kit.column(kit.llm(out).evidence, "verified") == [True, False, False]


def test_plain_text_has_no_field_to_quote_for(kit: FrameKit, answers: Callable[[Any], None]) -> None:
    answers(lambda request: "text")

    with pytest.raises(PllmError, match="plain text has none"):
        kit.llm(kit.frame({"text": ["a"]})).complete("{text}", evidence=True)
