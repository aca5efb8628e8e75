"""How sure cells are: shares of samples as probabilities, whatever the dataframe library, and from the registry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator

import pllm_notebook as pllm
from pllm_notebook.exceptions import NameClashError, PllmError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.sim import SimAnswer, SimRequest

from .frame_libraries import FrameKit

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


class Inner(BaseModel):
    ok: bool


class Review(BaseModel):
    """Facts."""

    mood: Literal["good", "bad"]
    stars: int | None = Field(ge=1, le=3)
    topics: list[Literal["price", "size"]]
    inner: Inner
    text: str


FIELDS = ["mood", "stars", "topics", "inner.ok", "text"]
SURE = {"mood": "good", "stars": 3, "topics": ["price"], "inner": {"ok": True}, "text": "t"}
# Four samples: three of four say good, two of four have no stars, three of four name the size.
TORN = [
    SURE | {"topics": ["price", "size"], "text": "a"},
    SURE | {"stars": None, "topics": ["price", "size"], "text": "b"},
    SURE | {"mood": "bad", "stars": None, "topics": ["price"], "text": "c"},
    SURE | {"stars": 2, "topics": ["size", "price"], "text": "d"},
]


@pytest.fixture
def simulated(cache_dir: object) -> Callable[..., None]:
    """Answer each prompt's n-th request by the n-th of its answers."""

    def answer(**answers: list[Any]) -> None:
        asked: Counter[str] = Counter()

        def next_one(request: SimRequest) -> Any:
            asked[request.prompt] += 1
            given = answers[request.prompt]
            return given[(asked[request.prompt] - 1) % len(given)]

        pllm.configure(sim={"answers": next_one}, model="sim:openai")

    return answer


def asked(kit: FrameKit, *texts: str, kind: Any = Review, samples: int = 4, **options: Any) -> Any:
    options = {"probabilities": "samples", "concurrency": 1} | options
    return kit.llm(kit.frame({"t": list(texts)})).parse(kind, "{t}", samples=samples, **options)


def forgotten(frame: Any) -> Any:
    """Return a result as a new kernel has it: its run is in the registry alone."""
    run_registry.forget_all()
    return frame


def test_confidence_is_the_share_of_the_samples_with_the_cell_s_value(
    simulated: Callable[..., None], kit: FrameKit
) -> None:
    simulated(sure=[SURE], torn=TORN, refused=[SimAnswer.refusal("No.")])

    out = asked(kit, "sure", "torn", "refused", confidence_column="sure")

    for frame in (out, forgotten(out)):
        assert kit.rows(kit.llm(frame).confidence) == [
            dict(zip(FIELDS, (1, 1, 1, 1, None), strict=True)),
            dict(zip(FIELDS, (0.75, 0.5, 0.75, 1, None), strict=True)),
            dict(zip(FIELDS, (None,) * 5, strict=True)),
        ]
    assert kit.column(out, "sure") == [1, 0.5, None]


def test_every_option_has_a_line_with_its_share(simulated: Callable[..., None], kit: FrameKit) -> None:
    simulated(sure=[SURE], torn=TORN)

    out = asked(kit, "sure", "torn")

    expected = [
        *(("mood", "good", 0.75), ("mood", "bad", 0.25)),
        *(("stars", "1", 0), ("stars", "2", 0.25), ("stars", "3", 0.25), ("stars", None, 0.5)),
        *(("topics", "price", 1), ("topics", "size", 0.75)),
        *(("inner.ok", "True", 1), ("inner.ok", "False", 0)),
    ]
    for frame in (out, forgotten(out)):
        lines = kit.llm(frame).probabilities
        assert kit.names(lines) == ["row", "field", "option", "p", "source", "model", "mass"]
        found = kit.rows(lines)
        assert [line["row"] for line in found] == [0] * 10 + [1] * 10
        assert [(line["field"], line["option"], line["p"]) for line in found[10:]] == expected
        assert {(line["source"], line["model"]) for line in found} == {("samples", "sim:openai/gpt-6-luna")}


def test_the_doubtful_rows_come_first(simulated: Callable[..., None], kit: FrameKit) -> None:
    simulated(sure=[SURE], torn=TORN, half=[SURE, SURE, SURE | {"mood": "bad"}], refused=[SimAnswer.refusal("No.")])
    out = asked(kit, "sure", "half", "refused", "torn")

    shown = kit.llm(out).doubtful(2)

    assert kit.column(shown, "t") == ["torn", "half"]
    assert kit.column(shown, "confidence") == [0.5, 0.75]
    assert kit.column(shown, "least_sure") == ["stars", "mood"]
    assert kit.column(kit.llm(out).doubtful(), "t") == ["torn", "half", "sure"]
    with pytest.raises(UsageError, match="doubtful takes a whole number of rows, at least 1, not 0"):
        kit.llm(out).doubtful(0)


def test_the_doubtful_rows_are_still_rows_of_their_run(kit: FrameKit, simulated: Callable[..., None]) -> None:
    simulated(sure=[SURE], torn=TORN)
    frame = kit.frame({"t": ["sure", "torn"]})
    out = kit.llm(frame).parse(Review, "{t}", samples=4, probabilities="samples", concurrency=1)

    shown = kit.llm(out).doubtful(1)

    assert kit.column(shown, "t") == ["torn"]
    assert kit.values(kit.llm(shown).status) == ["ok"]
    assert kit.column(kit.llm(shown).confidence, "stars") == [0.5]


def test_a_row_that_was_corrected_by_hand_has_no_confidence(kit: FrameKit, simulated: Callable[..., None]) -> None:
    simulated(sure=[SURE], torn=TORN)
    frame = kit.frame({"t": ["sure", "torn"]})
    out = kit.llm(frame).parse(Review, "{t}", samples=4, probabilities="samples", concurrency=1)

    corrected = kit.put(out, "mood", ["good", "bad"])

    assert kit.column(kit.llm(corrected).confidence, "mood") == [1, None]
    assert kit.column(kit.llm(corrected).doubtful(), "t") == ["sure"]


def test_a_judged_row_has_no_share(simulated: Callable[..., None], kit: FrameKit) -> None:
    class Mood(BaseModel):
        mood: Literal["good", "bad"]

    asked_of: Counter[str] = Counter()

    def answer(request: SimRequest) -> Any:
        if '"candidates"' in request.messages[0][1]:
            marks = dict.fromkeys(("accuracy", "completeness", "relevance", "quality", "consistency"), 7)
            return SimAnswer.value({"scores": [{"candidate": 1} | marks], "answer": {"mood": "bad"}})
        asked_of[request.prompt] += 1
        return {"mood": "bad" if request.prompt == "torn" and asked_of[request.prompt] == 2 else "good"}

    pllm.configure(sim={"answers": answer}, model="sim:openai")
    out = asked(kit, "torn", "sure", kind=Mood, samples=2, decide="judge")

    for frame in (out, forgotten(out)):
        assert kit.column(kit.llm(frame).confidence, "mood") == [None, 1]
        assert [line["p"] for line in kit.rows(kit.llm(frame).probabilities)] == [0.5, 0.5, 1, 0]


def test_each_model_has_its_own_shares_and_the_confidence_is_their_mean(cache_dir: object, kit: FrameKit) -> None:
    def answer(request: SimRequest) -> Any:
        return {"good": request.provider == "openai"}

    class Good(BaseModel):
        good: bool

    pllm.configure(sim={"answers": answer})
    out = asked(kit, "a", kind=Good, samples=2, models=["sim:openai", "sim:google"])

    lines = kit.rows(kit.llm(out).probabilities)
    assert [(line["model"], line["option"], line["p"]) for line in lines] == [
        ("sim:openai/gpt-6-luna", "True", 1),
        ("sim:openai/gpt-6-luna", "False", 0),
        ("sim:google/gemini-3.5-flash-lite", "True", 0),
        ("sim:google/gemini-3.5-flash-lite", "False", 1),
    ]
    assert kit.column(kit.llm(out).confidence, "good") == [0.5]


def test_what_validators_make_of_a_value_is_an_option_of_its_own(kit: FrameKit, simulated: Callable[..., None]) -> None:
    class Loud(BaseModel):
        mood: Literal["good", "bad"]

        @field_validator("mood")
        @classmethod
        def shout(cls, mood: str) -> str:
            return mood.upper()

    simulated(a=[{"mood": "good"}, {"mood": "bad"}, {"mood": "good"}])
    frame = kit.frame({"t": ["a"]})

    out = kit.llm(frame).parse(Loud, "{t}", samples=3, probabilities="samples", concurrency=1)

    assert kit.column(kit.llm(out).confidence, "mood") == pytest.approx([2 / 3])
    found = {line["option"]: line["p"] for line in kit.rows(kit.llm(out).probabilities)}
    assert found == pytest.approx({"good": 0, "bad": 0, "GOOD": 2 / 3, "BAD": 1 / 3})


def test_columns_have_the_prefix_and_a_type_without_fields_its_column(
    kit: FrameKit, simulated: Callable[..., None]
) -> None:
    simulated(a=[{"value": True}])
    frame = kit.frame({"t": ["a"]})

    out = kit.llm(frame).parse(bool, "{t}", samples=2, probabilities="samples", prefix="p_", confidence_column="sure")

    assert kit.names(out) == ["t", "p_answer", "p_sure"]
    run_id = kit.llm(out).run.id
    assert kit.names(kit.llm(out).confidence) == ["p_answer"]
    assert kit.names(kit.llm(forgotten(out)).confidence) == ["p_answer"]
    again = pllm.run(run_id).to_frame(frame)
    assert (kit.dtypes(again), kit.rows(again)) == (kit.dtypes(out), kit.rows(out))


def test_what_cannot_be_had_is_refused_before_anything_is_sent(kit: FrameKit, simulated: Callable[..., None]) -> None:
    simulated(a=[{"value": True}])
    frame = kit.frame({"t": ["a"]})

    with pytest.raises(UsageError, match=r"pass for example samples=5, which is five calls a row. Nothing was sent"):
        kit.llm(frame).parse(bool, "{t}", probabilities="samples")
    with pytest.raises(UsageError, match=r"a field whose values are known .*, and str has none. Nothing was sent"):
        kit.llm(frame).parse(str, "{t}", probabilities="samples", samples=2)
    with pytest.raises(UsageError, match=r"confidence_column= needs probabilities=: 'samples'. Nothing was sent"):
        kit.llm(frame).parse(bool, "{t}", samples=2, confidence_column="sure")
    with pytest.raises(NameClashError):
        kit.llm(frame).parse(bool, "{t}", samples=2, probabilities="samples", confidence_column="answer")
    out = kit.llm(frame).parse(bool, "{t}")
    for view in (lambda: kit.llm(out).confidence, lambda: kit.llm(out).probabilities, kit.llm(out).doubtful):
        with pytest.raises(PllmError, match="This run has no probabilities"):
            view()
    with pytest.raises(PllmError, match="This run has no probabilities"):
        kit.llm(forgotten(out)).confidence  # noqa: B018
