"""`validation_context=`: validators see their own row, whether its answer is live, cached, repaired or from a batch."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import BaseModel, ValidationInfo, field_validator

import pllm_notebook as pllm
from pllm_notebook.exceptions import UnknownColumnError, UsageError
from pllm_notebook.sim import SimRequest

from .frame_libraries import FrameKit

SEEN: deque[SimRequest] = deque()


class Part(BaseModel):
    """A part of an order."""

    name: str

    @field_validator("name")
    @classmethod
    def known(cls, name: str, info: ValidationInfo) -> str:
        parts = info.context["parts"]
        if name not in parts.split(","):
            raise ValueError("no part of this order")
        return f"{name} of {parts}"


COLUMNS = {"text": ["a bolt", "a bolt", "a nut", "a bolt"], "parts": ["bolt,nut", "bolt", "nut", "bolt,nut"]}


def answer(request: SimRequest) -> Any:
    SEEN.append(request)
    if "does not fit" in request.prompt:
        return {"name": "nut"}
    return {"name": request.prompt.split()[-1]}


@pytest.fixture(autouse=True)
def _simulated(cache_dir: Path) -> None:
    SEEN.clear()
    pllm.configure(sim={"answers": answer}, model="sim:openai")


def test_each_row_is_validated_with_its_own_context_and_equal_prompts_are_sent_once(kit: FrameKit) -> None:
    frame = kit.frame(COLUMNS)

    out = kit.llm(frame).parse(Part, "Order: {text}", validation_context="parts")
    again = kit.llm(frame).parse(Part, "Order: {text}", validation_context=["parts"])

    names = ["bolt of bolt,nut", "bolt of bolt", "nut of nut", "bolt of bolt,nut"]
    assert kit.column(out, "name") == kit.column(again, "name") == names
    assert kit.values(kit.llm(again).status) == ["cached"] * 4
    assert len(SEEN) == 2


@pytest.mark.parametrize("mode", ["async", "sync", "batch"])
def test_a_cached_answer_is_validated_again_in_the_context_of_today(mode: Any) -> None:
    frame = pd.DataFrame(COLUMNS)
    options: dict[str, Any] = {"mode": mode, "confirm": False, "wait": True, "max_repairs": 0}
    first = frame.llm.parse(Part, "Order: {text}", validation_context="parts", **options)
    changed = frame.assign(parts=["bolt,nut", "screw", "nut", "bolt"])

    with pytest.warns(UserWarning, match="1 of 4 rows failed"):
        second = changed.llm.parse(
            Part, "Order: {text}", validation_context="parts", errors="coerce", **{**options, "mode": "async"}
        )

    assert list(first.llm.status) == ["ok", "cached", "ok", "ok"]  # the second row has the reply to the first
    assert list(second.llm.status) == ["cached", "failed", "cached", "cached"]
    assert "no part of this order" in second.llm.errors.message[0]
    assert len(SEEN) == 2


def test_a_repaired_answer_is_validated_in_the_context_of_its_row() -> None:
    frame = pd.DataFrame({"text": ["a screw", "a screw"], "parts": ["nut", "nut,washer"]})

    out = frame.llm.parse(Part, "Order: {text}", validation_context="parts")
    again = frame.llm.parse(Part, "Order: {text}", validation_context="parts")

    assert list(out.name) == list(again.name) == ["nut of nut", "nut of nut,washer"]
    assert list(again.llm.status) == ["cached"] * 2
    assert len(SEEN) == 2  # the question, and its repair, which is the same for both


def test_a_function_and_a_mapping_make_contexts_too() -> None:
    frame = pd.DataFrame(COLUMNS)

    made = frame.llm.parse(
        Part, "Order: {text}", validation_context=lambda row: {"parts": row["parts"].upper().lower()}
    )
    same = frame.llm.parse(Part, "Order: {text}", validation_context={"parts": "bolt,nut"})

    assert list(made.name) == ["bolt of bolt,nut", "bolt of bolt", "nut of nut", "bolt of bolt,nut"]
    assert list(same.name) == ["bolt of bolt,nut"] * 2 + ["nut of bolt,nut", "bolt of bolt,nut"]
    assert len(SEEN) == 2


def test_samples_and_their_decision_are_validated_in_the_context_of_their_row() -> None:
    frame = pd.DataFrame(COLUMNS)

    out = frame.llm.parse(
        Part, "Order: {text}", validation_context="parts", models=["sim:openai", "sim:anthropic"], decide="vote"
    )

    assert list(out.name) == ["bolt of bolt,nut", "bolt of bolt", "nut of nut", "bolt of bolt,nut"]
    assert len(SEEN) == 4


class Pair(BaseModel):
    """Two words."""

    one: str
    two: str

    @field_validator("one", "two")
    @classmethod
    def long_enough(cls, word: str, info: ValidationInfo) -> str:
        if len(word) < info.context["least"]:
            raise ValueError("too short")
        return word


def test_a_mixture_of_samples_is_validated_in_the_context_too() -> None:
    said = {"openai": ("aa", "bb"), "anthropic": ("aa", "cc"), "google": ("dd", "bb")}
    pllm.configure(sim={"answers": lambda request: dict(zip(("one", "two"), said[request.provider], strict=True))})

    out = pd.DataFrame({"text": ["x"]}).llm.parse(
        Pair, "{text}", validation_context={"least": 2}, models=["sim:anthropic", "sim:google", "sim:openai"]
    )

    assert (out.one[0], out.two[0]) == ("aa", "bb")


def test_rows_that_share_a_call_have_contexts_of_their_own() -> None:
    pllm.configure(sim={"answers": None})
    frame = pd.DataFrame({"text": ["x", "y", "x"], "n": [1, 2, 3]})
    seen = []

    class Word(BaseModel):
        """A word."""

        word: str

        @field_validator("word")
        @classmethod
        def note(cls, word: str, info: ValidationInfo) -> str:
            seen.append(info.context["n"])
            return f"{info.context['n']}"

    out = frame.llm.parse(Word, "{text}", validation_context="n", pack=2)

    assert list(out.word) == ["1", "2", "3"]


def test_a_function_that_raises_fails_its_row_before_anything_is_sent_for_it() -> None:
    def context(row: dict[str, Any]) -> dict[str, Any]:
        return {"parts": {"bolt,nut": "bolt,nut", "nut": "nut"}[row["parts"]]}

    with pytest.warns(UserWarning, match="1 of 4 rows failed"):
        out = pd.DataFrame(COLUMNS).llm.parse(Part, "Order: {text}", validation_context=context)

    assert list(out.llm.status) == ["ok", "failed", "ok", "ok"]
    (message,) = out.llm.errors.message
    assert message == "validation_context= raised KeyError for this row: 'bolt'. Nothing was sent for this row."
    assert len(SEEN) == 2


@pytest.mark.parametrize(
    ("given", "error"),
    [("part", UnknownColumnError), (["parts", "x"], UnknownColumnError), ([], UsageError), (3, UsageError)],
)
def test_a_context_that_cannot_be_made_is_an_error_before_anything_is_sent(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"validation_context.*Nothing was sent\."):
        pd.DataFrame(COLUMNS).llm.parse(Part, "Order: {text}", validation_context=given)

    assert not SEEN


def test_a_column_alone_is_its_value() -> None:
    class Word(BaseModel):
        """A word."""

        name: str

        @field_validator("name")
        @classmethod
        def in_text(cls, name: str, info: ValidationInfo) -> str:
            assert name in info.context["value"]
            return name

    out = pd.Series(["a bolt", "a nut"], name="text").llm.parse(Word, "{value}", validation_context="value")

    assert list(out.name) == ["bolt", "nut"] if isinstance(out, pd.DataFrame) else list(out) == ["bolt", "nut"]


def test_examples_are_validated_in_the_context_of_their_own_row() -> None:
    gold = pd.DataFrame({"text": ["a washer"], "parts": ["washer,nut"], "name": ["washer"]})
    frame = pd.DataFrame(COLUMNS)

    out = frame.llm.parse(Part, "Order: {text}", validation_context="parts", examples=gold)

    assert SEEN[0].messages[1] == ("assistant", '{"name":"washer"}')
    with pytest.raises(UsageError, match="no part of this order"):
        frame.llm.parse(Part, "Order: {text}", validation_context="parts", examples=gold.assign(parts="nut"))
    assert list(out.llm.status) == ["ok", "cached", "ok", "ok"]


@pytest.mark.parametrize("cache", ["use", "refresh"])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_equal_prompts_of_unlike_contexts_are_paid_once(cache: Any, concurrency: int) -> None:
    frame = pd.DataFrame({"text": ["a bolt"] * 6, "parts": [f"bolt,{n}" for n in range(6)]})

    run = frame.llm.submit(Part, "{text}", validation_context="parts", cache=cache, concurrency=concurrency)
    out = run.result()

    assert list(out.name) == [f"bolt of bolt,{n}" for n in range(6)]
    assert len(SEEN) == 1
    alone = frame.head(1).llm.submit(Part, "{text}", validation_context="parts", cache="refresh")
    alone.result()
    assert run.cost == pytest.approx(alone.cost)
