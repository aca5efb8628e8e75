"""`validation_context=`: validators see their own row, whether its answer is live, cached, repaired or from a batch."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationInfo, field_validator

import pllm_notebook as pllm
from pllm_notebook.exceptions import UnknownColumnError, UsageError
from pllm_notebook.execution import run_registry
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
def test_a_cached_answer_is_validated_again_in_the_context_of_today(kit: FrameKit, mode: Any) -> None:
    frame = kit.frame(COLUMNS)
    options: dict[str, Any] = {"mode": mode, "confirm": False, "wait": True, "max_repairs": 0}
    first = kit.llm(frame).parse(Part, "Order: {text}", validation_context="parts", **options)
    changed = kit.put(frame, "parts", ["bolt,nut", "screw", "nut", "bolt"])

    with pytest.warns(UserWarning, match="1 of 4 rows failed"):
        second = kit.llm(changed).parse(
            Part, "Order: {text}", validation_context="parts", errors="coerce", **{**options, "mode": "async"}
        )

    # The second row has the reply to the first.
    assert kit.values(kit.llm(first).status) == ["ok", "cached", "ok", "ok"]
    assert kit.values(kit.llm(second).status) == ["cached", "failed", "cached", "cached"]
    assert "no part of this order" in kit.column(kit.llm(second).errors, "message")[0]
    assert len(SEEN) == 2


def test_a_repaired_answer_is_validated_in_the_context_of_its_row(kit: FrameKit) -> None:
    frame = kit.frame({"text": ["a screw", "a screw"], "parts": ["nut", "nut,washer"]})

    out = kit.llm(frame).parse(Part, "Order: {text}", validation_context="parts")
    again = kit.llm(frame).parse(Part, "Order: {text}", validation_context="parts")

    assert kit.column(out, "name") == kit.column(again, "name") == ["nut of nut", "nut of nut,washer"]
    assert kit.values(kit.llm(again).status) == ["cached"] * 2
    assert len(SEEN) == 2  # the question, and its repair, which is the same for both


def test_a_function_and_a_mapping_make_contexts_too(kit: FrameKit) -> None:
    frame = kit.frame(COLUMNS)

    made = kit.llm(frame).parse(
        Part, "Order: {text}", validation_context=lambda row: {"parts": row["parts"].upper().lower()}
    )
    same = kit.llm(frame).parse(Part, "Order: {text}", validation_context={"parts": "bolt,nut"})

    assert kit.column(made, "name") == ["bolt of bolt,nut", "bolt of bolt", "nut of nut", "bolt of bolt,nut"]
    assert kit.column(same, "name") == ["bolt of bolt,nut"] * 2 + ["nut of bolt,nut", "bolt of bolt,nut"]
    assert len(SEEN) == 2


def test_samples_and_their_decision_are_validated_in_the_context_of_their_row(kit: FrameKit) -> None:
    frame = kit.frame(COLUMNS)

    out = kit.llm(frame).parse(
        Part, "Order: {text}", validation_context="parts", models=["sim:openai", "sim:anthropic"], decide="vote"
    )

    assert kit.column(out, "name") == ["bolt of bolt,nut", "bolt of bolt", "nut of nut", "bolt of bolt,nut"]
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


def test_a_mixture_of_samples_is_validated_in_the_context_too(kit: FrameKit) -> None:
    said = {"openai": ("aa", "bb"), "anthropic": ("aa", "cc"), "google": ("dd", "bb")}
    pllm.configure(sim={"answers": lambda request: dict(zip(("one", "two"), said[request.provider], strict=True))})

    out = kit.llm(kit.frame({"text": ["x"]})).parse(
        Pair, "{text}", validation_context={"least": 2}, models=["sim:anthropic", "sim:google", "sim:openai"]
    )

    assert kit.rows(out) == [{"text": "x", "one": "aa", "two": "bb"}]


def test_rows_that_share_a_call_have_contexts_of_their_own(kit: FrameKit) -> None:
    pllm.configure(sim={"answers": None})
    frame = kit.frame({"text": ["x", "y", "x"], "n": [1, 2, 3]})
    seen = []

    class Word(BaseModel):
        """A word."""

        word: str

        @field_validator("word")
        @classmethod
        def note(cls, word: str, info: ValidationInfo) -> str:
            seen.append(info.context["n"])
            return f"{info.context['n']}"

    out = kit.llm(frame).parse(Word, "{text}", validation_context="n", pack=2)

    assert kit.column(out, "word") == ["1", "2", "3"]


def test_a_function_that_raises_fails_its_row_before_anything_is_sent_for_it(kit: FrameKit) -> None:
    def context(row: dict[str, Any]) -> dict[str, Any]:
        return {"parts": {"bolt,nut": "bolt,nut", "nut": "nut"}[row["parts"]]}

    with pytest.warns(UserWarning, match="1 of 4 rows failed"):
        out = kit.llm(kit.frame(COLUMNS)).parse(Part, "Order: {text}", validation_context=context)

    assert kit.values(kit.llm(out).status) == ["ok", "failed", "ok", "ok"]
    (message,) = kit.column(kit.llm(out).errors, "message")
    assert message == "validation_context= raised KeyError for this row: 'bolt'. Nothing was sent for this row."
    assert len(SEEN) == 2


@pytest.mark.parametrize(
    ("given", "error"),
    [("part", UnknownColumnError), (["parts", "x"], UnknownColumnError), ([], UsageError), (3, UsageError)],
)
def test_a_context_that_cannot_be_made_is_an_error_before_anything_is_sent(
    kit: FrameKit, given: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"validation_context.*Nothing was sent\."):
        kit.llm(kit.frame(COLUMNS)).parse(Part, "Order: {text}", validation_context=given)

    assert not SEEN


def test_a_column_alone_is_its_value(kit: FrameKit) -> None:
    class Word(BaseModel):
        """A word."""

        name: str

        @field_validator("name")
        @classmethod
        def in_text(cls, name: str, info: ValidationInfo) -> str:
            assert name in info.context["value"]
            return name

    out = kit.llm(kit.series(["a bolt", "a nut"], "text")).parse(Word, "{value}", validation_context="value")

    assert kit.column(out, "name") == ["bolt", "nut"]


def test_examples_are_validated_in_the_context_of_their_own_row(kit: FrameKit) -> None:
    gold = kit.frame({"text": ["a washer"], "parts": ["washer,nut"], "name": ["washer"]})
    frame = kit.frame(COLUMNS)

    out = kit.llm(frame).parse(Part, "Order: {text}", validation_context="parts", examples=gold)

    assert SEEN[0].messages[1] == ("assistant", '{"name":"washer"}')
    with pytest.raises(UsageError, match="no part of this order"):
        kit.llm(frame).parse(
            Part, "Order: {text}", validation_context="parts", examples=kit.put(gold, "parts", ["nut"])
        )
    assert kit.values(kit.llm(out).status) == ["ok", "cached", "ok", "ok"]


@pytest.mark.parametrize("cache", ["use", "refresh"])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_equal_prompts_of_unlike_contexts_are_paid_once(kit: FrameKit, cache: Any, concurrency: int) -> None:
    frame = kit.frame({"text": ["a bolt"] * 6, "parts": [f"bolt,{n}" for n in range(6)]})

    run = kit.llm(frame).submit(Part, "{text}", validation_context="parts", cache=cache, concurrency=concurrency)
    out = run.result()

    assert kit.column(out, "name") == [f"bolt of bolt,{n}" for n in range(6)]
    assert len(SEEN) == 1
    alone = kit.llm(kit.take(frame, [0])).submit(Part, "{text}", validation_context="parts", cache="refresh")
    alone.result()
    assert run.cost == pytest.approx(alone.cost)


def test_the_registry_has_the_names_of_a_context_and_not_its_values(kit: FrameKit) -> None:
    out = kit.llm(kit.frame({"text": ["a bolt"]})).parse(
        Part, "Order: {text}", validation_context={"parts": "bolt,SECRET"}
    )
    run_id = kit.llm(out).run.id
    run_registry.forget_all()

    assert pllm.run(run_id).header["options"]["validation_context"] == "a mapping of parts"
