"""Whatever a row took (repairs, packs, judges, retries), its usage holds every reply that was paid for it."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.sim import SimAnswer, SimRequest

from .frame_libraries import FrameKit

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

GOOD, BAD = {"mood": "good"}, {"mood": "bad"}


class Mood(BaseModel):
    """A review."""

    mood: Literal["good", "bad"]


class Provider:
    """Refuses, or answers wrongly, until it is told to answer; counts what it was asked."""

    def __init__(self) -> None:
        self.answer: Any = SimAnswer.refusal("No.")
        self.asked: list[str] = []
        pllm.configure(sim={"answers": self}, model="sim:openai")

    def __call__(self, request: SimRequest) -> Any:
        self.asked.append(request.prompt)
        return self.answer(request) if callable(self.answer) else self.answer


@pytest.fixture
def provider(cache_dir: object) -> Provider:
    return Provider()


def total_usd(kit: FrameKit, out: Any) -> Any:
    return pytest.approx(sum(cost for cost in kit.column(kit.llm(out).usage, "cost_usd") if cost is not None))


@pytest.mark.parametrize("options", [{}, {"samples": 3}, {"samples": 2, "judge": "sim:anthropic"}], ids=repr)
def test_a_row_that_a_retry_asked_again_holds_the_refusal_too(
    kit: FrameKit, provider: Provider, options: dict[str, Any]
) -> None:
    out = kit.llm(kit.frame({"text": ["one", "two"]})).parse(Mood, "{text}", **options)
    run = kit.llm(out).run
    before = kit.column(kit.llm(out).usage, "input_tokens")
    provider.answer = GOOD

    new = run.retry(kinds=["refusal"]).result()

    assert run.cost == total_usd(kit, new)
    times = options.get("samples", 1)
    assert kit.column(kit.llm(new).usage, "attempts") == [2 * times] * 2
    assert kit.column(kit.llm(new).usage, "input_tokens") == [2 * tokens for tokens in before]
    if not options:
        assert kit.llm(new).explain(0).steps == (
            "the model answered, which failed (refusal); retry sent the row again",
            "the model answered",
        )
        assert kit.llm(new).explain(0).attempts == 2


def test_a_row_that_failed_once_more_holds_what_it_has_cost_so_far(kit: FrameKit, provider: Provider) -> None:
    out = kit.llm(kit.frame({"text": ["one"]})).parse(Mood, "{text}", max_retries=0)
    run = kit.llm(out).run
    paid = run.cost
    provider.answer = SimAnswer.status(400)

    new = run.retry(kinds=["refusal"]).result()

    assert kit.column(kit.llm(new).errors, "kind") == ["bad_request"]
    assert kit.column(kit.llm(new).usage, "cost_usd") == [paid]
    assert kit.column(kit.llm(new).errors, "cost_usd") == [paid]


def test_repairs_packs_and_a_judge_are_in_the_usage_of_their_rows(kit: FrameKit, provider: Provider) -> None:
    def repaired(request: SimRequest) -> Any:
        return GOOD if "does not fit" in request.prompt else {"mood": "so-so"}

    provider.answer = repaired
    frame = kit.frame({"text": ["one", "two", "three"]})
    out = kit.llm(frame).parse(Mood, "{text}")
    assert kit.llm(out).run.cost == total_usd(kit, out)
    assert kit.llm(out).explain(0).steps[1] == "the model, shown what was wrong with its answer, answered"

    provider.answer = lambda request: "no pack" if "one" in request.prompt and "two" in request.prompt else GOOD
    out = kit.llm(frame).parse(Mood, "{text}", pack=3, salt="packs")
    assert kit.llm(out).run.cost == total_usd(kit, out)
    assert kit.llm(out).explain(0).steps == ("the model answered", "the model, asked about this row alone, answered")
