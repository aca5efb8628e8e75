"""`system=` that names columns: each row is told its own, by the rule of prompts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal

import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import UnknownColumnError, UsageError
from pllm_notebook.frames.item_lists import submit_list, submit_one
from pllm_notebook.sim import SimRequest

from .frame_libraries import FrameKit


class Said(BaseModel):
    """What was said."""

    said: str


COLUMNS = {"text": ["a", "b", "c"], "role": ["nurse", None, "cook"]}
ROLE = "You are a {role}."


# A deque, which is no JSON: the values that an answering function refers to are part of its calls' keys.
SEEN: deque[tuple[str | None, str]] = deque()


def answer(request: SimRequest) -> Any:
    SEEN.append((request.system, request.prompt))
    return {"said": f"{request.system}|{request.prompt}"} if request.schema else request.system


@pytest.fixture
def told(cache_dir: object) -> Callable[[], list[tuple[str | None, str]]]:
    """Answer with instruction and prompt, and tell what was asked, in the order of the prompts."""
    SEEN.clear()
    pllm.configure(sim={"answers": answer}, model="sim:openai")
    return lambda: sorted(SEEN, key=lambda pair: pair[1])


def test_each_row_is_told_its_own_instruction(told: Callable[..., Any], kit: FrameKit) -> None:
    out = kit.llm(kit.frame(COLUMNS)).parse(Said, "{text}", system=ROLE)

    assert kit.column(out, "said") == ["You are a nurse.|a", None, "You are a cook.|c"]
    assert kit.values(kit.llm(out).status) == ["ok", "skipped", "ok"]


def test_a_row_of_its_own_instruction_and_one_that_all_share_are_one_call(
    told: Callable[..., Any], kit: FrameKit
) -> None:
    frame = kit.frame(COLUMNS)
    kit.llm(frame).parse(Said, "{text}", system=ROLE)

    out = kit.llm(kit.take(frame, [0])).parse(Said, "{text}", system="You are a nurse.")

    assert kit.values(kit.llm(out).status) == ["cached"]
    assert len(told()) == 2


def test_another_cell_of_the_instruction_is_another_call(told: Callable[..., Any], kit: FrameKit) -> None:
    frame = kit.frame(COLUMNS)
    kit.llm(frame).parse(Said, "{text}", system=ROLE)

    out = kit.llm(kit.put(frame, "role", ["nurse", "cook", "nurse"])).parse(Said, "{text}", system=ROLE)

    assert kit.column(out, "said") == ["You are a nurse.|a", "You are a cook.|b", "You are a nurse.|c"]
    assert kit.values(kit.llm(out).status) == ["cached", "ok", "ok"]


def test_without_a_prompt_the_type_speaks_behind_it(kit: FrameKit, told: Callable[..., Any]) -> None:
    kit.llm(kit.take(kit.frame(COLUMNS), [0])).parse(Said, system=ROLE)

    ((system, prompt),) = told()
    assert system is not None
    assert system.startswith("You are a nurse.\n\nWhat was said.\n\nThe user's message is one row")
    assert prompt == '{"text":"a","role":"nurse"}'


def test_the_prompt_may_be_the_same_for_every_row_then(told: Callable[..., Any], kit: FrameKit) -> None:
    out = kit.llm(kit.frame(COLUMNS)).complete("Introduce yourself.", system=ROLE)

    assert kit.column(out, "answer") == ["You are a nurse.", None, "You are a cook."]


def test_doubled_braces_are_literal_in_an_instruction_too(kit: FrameKit, told: Callable[..., Any]) -> None:
    kit.llm(kit.take(kit.frame(COLUMNS), [0])).parse(Said, "{text}", system='Write {{role}} as {"a": 1}.')

    assert told() == [('Write {role} as {"a": 1}.', "a")]


@pytest.mark.parametrize("system", ["You are a {rolle}.", "You are a {job} in {text}.", "You are a {role.upper}."])
def test_a_name_that_is_no_column_is_an_error_before_anything_is_sent(
    kit: FrameKit, told: Callable[..., Any], system: str
) -> None:
    with pytest.raises(UsageError, match=r"system= .*Nothing was sent\."):
        kit.llm(kit.frame(COLUMNS)).parse(Said, "{text}", system=system)

    assert told() == []


def test_rows_that_share_a_call_cannot_have_instructions_of_their_own(kit: FrameKit, told: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="share its instruction"):
        kit.llm(kit.frame(COLUMNS)).parse(Said, "{text}", system=ROLE, pack=2)

    assert told() == []


def test_a_series_has_its_value_in_the_instruction(told: Callable[..., Any], kit: FrameKit) -> None:
    kit.llm(kit.series(["a"], "text")).parse(Said, "Hello {value}", system="About {value}, not {{value}}")

    assert told() == [("About a, not {value}", "Hello a")]


def test_a_judge_sees_each_rows_own_instruction(kit: FrameKit, cache_dir: object) -> None:
    seen: list[str] = []
    answers = iter(["yes", "no"] * 4)

    def turns(request: SimRequest) -> Any:
        if "candidates" in request.prompt:
            seen.append(request.prompt)
            return {"scores": [], "answer": "yes"}
        return {"value": next(answers)}

    pllm.configure(sim={"answers": turns}, model="sim:openai", concurrency=1)
    kit.llm(kit.take(kit.frame(COLUMNS), [0])).parse(
        Literal["yes", "no"], "{text}", system=ROLE, samples=2, decide="judge", judge="sim:openai"
    )

    (prompt,) = seen
    assert '"instruction": "You are a nurse."' in prompt
    assert '"question": "a"' in prompt


def test_decide_shows_each_rows_own_instruction(cache_dir: object, kit: FrameKit) -> None:
    seen: list[str] = []

    def answer(request: SimRequest) -> Any:
        seen.append(request.prompt)
        return {"scores": [], "answer": "x"}

    pllm.configure(sim={"answers": answer}, model="sim:openai")
    frame = kit.frame({**COLUMNS, "one": ["x"] * 3, "two": ["y"] * 3})

    out = kit.llm(frame).decide(["one", "two"], "{text}", system=ROLE)

    assert sorted('"You are a nurse."' in prompt for prompt in seen) == [False, True]
    assert kit.column(out, "decision") == ["x", None, "x"]


def test_items_of_a_list_have_instructions_by_their_names(told: Callable[..., Any]) -> None:
    items = [{"text": "a", "role": "nurse"}, {"text": "b", "role": "cook"}]

    values = submit_list(items, Said, "{text}", system=ROLE).result()

    assert [value.said for value in values] == ["You are a nurse.|a", "You are a cook.|b"]
    with pytest.raises(UnknownColumnError, match="an item has"):
        submit_list(items, Said, "{text}", system="{job}")


def test_a_single_prompt_takes_the_callers_variables_and_no_other_name(told: Callable[..., Any]) -> None:
    (value,) = submit_one("Hello {name}, {{name}}", {"name": "A", "role": "nurse"}, Said, system=ROLE).result()

    assert value.said == "You are a nurse.|Hello A, {name}"
    for wrong in ({"prompt": "Hello {nmae}"}, {"prompt": "Hello {name}", "system": "A {rolle}"}):
        with pytest.raises(UnknownColumnError, match=r"there is no variable of that name\. Did you mean"):
            submit_one(kind=Said, variables={"name": "A", "role": "nurse"}, **wrong)
