"""How a reply ended decides whether it is an answer: known good ends are, and nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from pllm_notebook.sim import SimAnswer, Simulator
from tests.contract.scripts import words
from tests.contract.sides import ANTHROPIC, COMPATIBLE, EVERY_SIDE, GOOGLE, RESPONSES, Side

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

HALF = "half of an ans"
# The ends of each format that are no whole answer, with the kind that each becomes.
ENDS: dict[str, dict[str, str]] = {
    "chat": {
        "error": "unfinished",
        "abort": "unfinished",
        "insufficient_system_resource": "unfinished",
        "sunset": "unfinished",
        "model_length": "truncated",
        "max_tokens": "truncated",
    },
    "anthropic": {"pause_turn": "unfinished", "sunset": "unfinished", "model_context_window_exceeded": "truncated"},
    "google": {
        "UNEXPECTED_TOOL_CALL": "unfinished",
        "FINISH_REASON_UNSPECIFIED": "unfinished",
        "SUNSET": "unfinished",
        "SPII": "content_filter",
    },
    "responses": {"cancelled": "unfinished", "in_progress": "unfinished", "sunset": "unfinished"},
}
GOOD = {
    "chat": ["stop", "STOP", "eos", "eos_token", "stop_sequence", "end_turn", "", None],
    "anthropic": ["end_turn", "stop_sequence", None],
    "google": ["STOP", None],
    "responses": ["completed", None],
}
USAGE = {
    "chat": {"prompt_tokens": 10, "completion_tokens": 5},
    "anthropic": {"input_tokens": 10, "output_tokens": 5},
    "google": {"promptTokenCount": 10, "candidatesTokenCount": 5},
    "responses": {"input_tokens": 10, "output_tokens": 5},
}


def form(side: Side) -> str:
    return "responses" if side is RESPONSES else side.wire if side in (ANTHROPIC, GOOGLE) else "chat"


def reply(side: Side, end: str | None, text: str = HALF) -> dict[str, Any]:
    used = USAGE[form(side)]
    if side is RESPONSES:
        content = [{"type": "output_text", "text": text}]
        return {"status": end, "output": [{"type": "message", "content": content}], "usage": used}
    if side is ANTHROPIC:
        return {"content": [{"type": "text", "text": text}], "stop_reason": end, "usage": used}
    if side is GOOGLE:
        candidate = {"content": {"parts": [{"text": text}]}, "finishReason": end}
        return {"candidates": [candidate], "usageMetadata": used}
    return {"choices": [{"message": {"content": text}, "finish_reason": end}], "usage": used}


@pytest.mark.sample(8)
@pytest.mark.parametrize(
    ("side", "end", "kind"),
    [
        pytest.param(side, end, kind, id=f"{side.id}-{end}")
        for side in EVERY_SIDE
        for end, kind in ENDS[form(side)].items()
    ],
    indirect=["side"],
)
def test_an_end_that_is_not_a_good_one_is_a_failure_that_keeps_the_text(
    side: Side, end: str, kind: str, sim: Simulator
) -> None:
    said = {"a": reply(side, end), "b": reply(side, GOOD[form(side)][0], "whole")}
    sim.set(answers=lambda request: SimAnswer.status(200, body=said[request.prompt]))

    out = words("a", "b").llm.complete("{text}", model=side.model)

    assert out.llm.errors[["kind", "raw", "attempts"]].to_numpy().tolist() == [[kind, HALF, 1]]
    assert out["answer"].tolist() == [pd.NA, "whole"]
    if side is not COMPATIBLE:  # its price is known, and its tokens were told: it was paid for
        assert out.llm.errors["cost_usd"][0] > 0


@pytest.mark.sample(8)
@pytest.mark.parametrize(
    ("side", "end"),
    [pytest.param(side, end, id=f"{side.id}-{end}") for side in EVERY_SIDE for end in GOOD[form(side)]],
    indirect=["side"],
)
def test_a_good_end_or_none_is_an_answer(side: Side, end: str | None, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.status(200, body=reply(side, end, "whole")))

    out = words("a").llm.complete("{text}", model=side.model)

    assert out["answer"].tolist() == ["whole"]


def test_what_ended_abnormally_is_asked_again_by_the_next_run_and_by_retry(side: Side, sim: Simulator) -> None:
    bad, good = next(iter(ENDS[form(side)])), GOOD[form(side)][0]
    ends = iter([bad, bad, good])
    sim.set(answers=lambda request: SimAnswer.status(200, body=reply(side, next(ends), "whole")))

    run = words("a").llm.submit(str, "{text}", model=side.model, max_repairs=0)
    run.result()
    run.retry().wait()
    again = words("a").llm.complete("{text}", model=side.model)

    assert run.errors["kind"].tolist() == ["unfinished"]
    assert again["answer"].tolist() == ["whole"]
    assert sim.stats().requests == 3


def test_an_answer_that_was_kept_is_not_replaced_by_half_of_one(side: Side, sim: Simulator) -> None:
    ends = iter([GOOD[form(side)][0], next(iter(ENDS[form(side)]))])
    sim.set(answers=lambda request: SimAnswer.status(200, body=reply(side, next(ends), "whole")))
    words("a").llm.complete("{text}", model=side.model)

    fresh = words("a").llm.complete("{text}", model=side.model, cache="refresh")
    after = words("a").llm.complete("{text}", model=side.model)

    assert fresh.llm.errors["kind"].tolist() == ["unfinished"]
    assert after.llm.status.tolist() == ["cached"]
