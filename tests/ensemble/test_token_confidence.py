"""A confidence is that of the least certain field, and unknown if a field in the reply has no probabilities."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from pllm_notebook.ensemble.token_confidence import TokenConfidence
from pllm_notebook.execution import Outcome
from pllm_notebook.schema import OutputType
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish


class Part(BaseModel):
    size: Literal["s", "l"]


class Review(BaseModel):
    kind: Literal["review"] = "review"
    good: bool
    part: Part


def confidence(reply: dict[str, Any], steps: list[Any]) -> float:
    output = OutputType.of(Review)
    spec: Any = SimpleNamespace(output=output, fitted=None)
    raw = json.dumps({"pllm_tokens": steps}).encode()
    entry = StoredReply(Finish.COMPLETE, json.dumps(reply).encode(), 0, 0, b"{}", raw)
    (found,) = TokenConfidence(spec, output.choices, None)([Outcome(reply, None, "key", (), False, entry)])
    return found


SURE = [["good"], [["true", [["true", 0.9], ["false", 0.1]]]]]
DOUBTFUL = [["part", "size"], [['"s"', [['"s"', 0.6], ['"l"', 0.4]]]]]
WHOLE = {"kind": "review", "good": True, "part": {"size": "s"}}


@pytest.mark.parametrize(
    ("reply", "steps", "expected"),
    [
        (WHOLE, [SURE, DOUBTFUL], 0.6),
        (WHOLE, [SURE], -float("inf")),
        (WHOLE, [SURE, [["part", "size"], []]], -float("inf")),
        (WHOLE, [], -float("inf")),
        ({"kind": "review", "good": True}, [SURE], 0.9),
    ],
    ids=["all", "missing", "empty", "none", "not in the reply"],
)
def test_a_field_without_probabilities_makes_the_confidence_unknown(
    reply: dict[str, Any], steps: list[Any], expected: float
) -> None:
    assert confidence(reply, steps) == pytest.approx(expected)
