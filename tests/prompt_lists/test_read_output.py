"""A reply whose body is not strictly JSON loses no output of its list."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pllm_notebook.prompt_lists.prompt_context import LLMPromptContext
from pllm_notebook.prompt_lists.read_output import output_for
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish


@pytest.mark.parametrize(
    ("raw", "shown"),
    [(b'{"n": 1}', {"n": 1}), (b'{"n": NaN}', None), (b'"\\ud800"', None), (b"[1]", None), (b"", None)],
)
def test_an_answer_whose_body_is_not_strictly_json_is_an_answer(raw: bytes, shown: Any) -> None:
    outcome: Any = SimpleNamespace(replies=list, failure=None, usage=None, cost_usd=0.0, cached=True, value="Yes.")
    spec: Any = SimpleNamespace(whole=dict, target=SimpleNamespace(wire=SimpleNamespace(format_name="chat")))
    last = StoredReply(Finish.COMPLETE, b"Yes.", 3, 0, b"{}", raw)

    output = output_for(LLMPromptContext(new_message="Well?"), spec, outcome, last, "Well?", "")

    assert (output.str_content, output.raw_result, output.error) == ("Yes.", shown, None)
