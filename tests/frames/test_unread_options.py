"""An option that would do nothing is an error before anything is sent, at every front end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.item_lists import submit_list, submit_one

from .frame_libraries import FrameKit

COLUMNS = {"text": ["a", "b"]}


class Told(BaseModel):
    mood: str


CALLS: dict[str, Callable[..., object]] = {
    "parse": lambda kit, **options: kit.llm(kit.frame(COLUMNS)).parse(bool, "{text}", **options),
    "series": lambda kit, **options: kit.llm(kit.series(["a", "b"], "text")).parse(bool, "{value}", **options),
    "estimate": lambda kit, **options: kit.llm(kit.frame(COLUMNS)).estimate(bool, "{text}", **options),
    "list": lambda kit, **options: submit_list(["a"], bool, "{value}", **options),
    "one": lambda kit, **options: submit_one("a", {}, bool, **options),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_options_of_tools_without_tools_are_refused(kit: FrameKit, call: Callable[..., object]) -> None:
    with pytest.raises(UsageError, match=r"^run_tools=True is for calls that offer tools.* Nothing was sent\.$"):
        call(kit, run_tools=True, model="sim:openai")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("given", "other"),
    [
        ({"max_examples": 3}, "examples"),
        ({"max_example_tokens": 9}, "examples"),
        ({"example_selection": "diverse"}, "examples"),
        ({"images_from": "."}, "images"),
        ({"max_turns": 2}, "run_tools"),
    ],
)
def test_what_says_more_about_another_option_is_refused_without_it(
    kit: FrameKit, call: Callable[..., object], given: dict[str, object], other: str
) -> None:
    (name,) = given

    with pytest.raises(UsageError, match=rf"^{name}= is read with {other}= alone, .* Nothing was sent\.$"):
        call(kit, **given, model="sim:openai")


def test_what_is_configured_for_other_calls_is_no_error(kit: FrameKit, cache_dir: object) -> None:
    pllm.configure(model="sim:openai", column="summary", max_examples=3, prefix="p_")
    frame = kit.frame(COLUMNS)

    out = kit.llm(frame).parse(Told, "{text}")

    assert kit.names(out) == ["text", "p_mood"]
    # It asks with the options of that run, those that were configured among them.
    assert kit.llm(out).recheck(n=1) is not None


@pytest.mark.parametrize(
    ("ask", "option"),
    [
        (lambda llm: llm.parse(bool, columns=["text", "text"]), "columns="),
        (lambda llm: llm.decide(["text", "text"], "{text}"), "answers="),
        (lambda llm: llm.parse(bool, images=["text", "text"]), "images="),
    ],
)
def test_a_column_is_named_once(kit: FrameKit, ask: Callable[..., object], option: str) -> None:
    pllm.configure(model="sim:openai")

    with pytest.raises(UsageError, match=rf"^{option} names column 'text' twice\. Nothing was sent\.$"):
        ask(kit.llm(kit.frame(COLUMNS)))


@pytest.mark.parametrize("rows", [0, -1, 1.5, "2", True, None])
def test_a_preview_is_of_one_row_at_least(kit: FrameKit, rows: object) -> None:
    with pytest.raises(UsageError, match=r"^rows is a whole number of at least 1, not .* Nothing was sent\.$"):
        kit.llm(kit.frame(COLUMNS)).preview(bool, "{text}", rows=rows, model="sim:openai")
