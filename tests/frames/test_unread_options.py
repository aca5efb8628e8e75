"""An option that would do nothing is an error before anything is sent, at every front end."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.item_lists import submit_list, submit_one

FRAME = pd.DataFrame({"text": ["a", "b"]})
CALLS: dict[str, Callable[..., object]] = {
    "parse": lambda **options: FRAME.llm.parse(bool, "{text}", **options),
    "series": lambda **options: FRAME["text"].llm.parse(bool, "{value}", **options),
    "estimate": lambda **options: FRAME.llm.estimate(bool, "{text}", **options),
    "list": lambda **options: submit_list(["a"], bool, "{value}", **options),
    "one": lambda **options: submit_one("a", {}, bool, **options),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_options_of_tools_without_tools_are_refused(call: Callable[..., object]) -> None:
    with pytest.raises(UsageError, match=r"^run_tools=True is for calls that offer tools.* Nothing was sent\.$"):
        call(run_tools=True, model="sim:openai")


@pytest.mark.parametrize("rows", [0, -1, 1.5, "2", True, None])
def test_a_preview_is_of_one_row_at_least(rows: object) -> None:
    with pytest.raises(UsageError, match=r"^rows is a whole number of at least 1, not .* Nothing was sent\.$"):
        FRAME.llm.preview(bool, "{text}", rows=rows, model="sim:openai")
