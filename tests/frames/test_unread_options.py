"""An option that would do nothing is an error before anything is sent, at every front end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.item_lists import submit_list, submit_one

from .frame_libraries import FrameKit

COLUMNS = {"text": ["a", "b"]}
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


@pytest.mark.parametrize("rows", [0, -1, 1.5, "2", True, None])
def test_a_preview_is_of_one_row_at_least(kit: FrameKit, rows: object) -> None:
    with pytest.raises(UsageError, match=r"^rows is a whole number of at least 1, not .* Nothing was sent\.$"):
        kit.llm(kit.frame(COLUMNS)).preview(bool, "{text}", rows=rows, model="sim:openai")
