"""An estimate counts what a run would send, and what it would not."""

from __future__ import annotations

from typing import Any, Literal

import anthropic
import pytest

import pllm_notebook as pllm
from pllm_notebook.providers.openai.batch import OpenAIBatchAPI
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from pllm_notebook.types import BatchLimits
from tests.contract.scripts import by_word, words
from tests.contract.sides import Side

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

REJECTED = SimAnswer.status(400, {"error": {"message": "No.", "type": "invalid_request_error"}})


def yes(request: SimRequest) -> Any:
    return SimAnswer.value({"value": True})


def test_a_call_that_was_rejected_before_is_counted_as_such_and_not_as_to_be_sent(side: Side, sim: Simulator) -> None:
    sim.set(answers=by_word({"bad": REJECTED}, yes))
    frame = words("a", "bad one", "bad two", "bad one")
    frame.llm.parse(bool, "{text}", model=side.model)
    sent = sim.stats().requests
    more = words("a", "bad one", "bad two", "bad one", "new")

    told = more.llm.estimate(bool, "{text}", model=side.model)

    assert (told.cached, told.rejected, told.calls, told.duplicates) == (1, 2, 1, 1)
    assert "rejected before 2, not sent again unasked" in repr(told)
    more.llm.parse(bool, "{text}", model=side.model)
    assert sim.stats().requests == sent + told.calls


def test_the_jobs_that_a_batch_would_be_are_counted(luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenAIBatchAPI, "limits", BatchLimits(8, 10**6))
    frame = words(*(f"text {n}" for n in range(20)))

    told = frame.llm.estimate(bool, "{text}", model=luna)
    both = frame.llm.estimate(bool, "{text}", model=luna, samples=2)
    other = frame.llm.estimate(bool, "{text}", models=[luna, "anthropic:claude-haiku-5-5"])
    frame.llm.parse(bool, "{text}", model=luna, mode="batch", confirm=False, wait=False)

    assert (told.jobs, both.jobs, other.jobs) == (3, 5, 4)
    assert "as a batch of 3 jobs" in repr(told)
    assert sim.stats().batch_jobs == 3
    assert frame.llm.estimate(bool, "{text}", model=luna, mode="batch").jobs == 0


def test_with_refresh_a_rejected_call_is_sent(luna: str, sim: Simulator) -> None:
    sim.set(answers=by_word({"bad": REJECTED}, yes))
    frame = words("a", "bad")
    frame.llm.parse(bool, "{text}", model=luna)

    told = frame.llm.estimate(bool, "{text}", model=luna, cache="refresh")

    assert (told.cached, told.rejected, told.calls) == (0, 0, 2)
    assert "rejected before" not in repr(told)


def test_a_row_rejected_alone_goes_into_no_pack(luna: str, sim: Simulator) -> None:
    sim.set(answers=by_word({"bad": REJECTED}, yes))
    words("a", "bad").llm.parse(bool, "{text}", model=luna)
    frame = words("bad", "b", "c", "d")

    told = frame.llm.estimate(bool, "{text}", model=luna, pack=3)

    assert (told.rejected, told.calls) == (1, 1)


def test_a_bounded_type_is_estimated_by_its_bound(luna: str) -> None:
    told = words(*"abcdefghij").llm.estimate(Literal["positive", "negative"], "{text}", model=luna)

    assert told.output_tokens == 10 * 5  # {"value":"positive"}
    assert told.bounded
    assert "as many as the type allows" in repr(told)


def test_a_batch_price_is_shown_only_where_there_is_a_batch_api(cache_dir: object) -> None:
    pllm.configure(servers={"mine": "http://localhost:1/v1"}, prices={"mine:small": (1.0, 2.0)})
    frame = words("a", "b")

    server = frame.llm.estimate(bool, "{text}", model="mine:small")
    vertex = anthropic.AsyncAnthropicVertex(region="r", project_id="p", access_token="t")  # which takes no batches
    pllm.configure(clients={"vertex": vertex})
    client = frame.llm.estimate(bool, "{text}", model="vertex:claude-haiku-5-5")
    both = frame.llm.estimate(bool, "{text}", models=["vertex:claude-haiku-5-5", "openai:gpt-6-luna"])

    assert server.cost_usd
    assert (server.batch_cost_usd, server.jobs) == (None, 1)
    assert "live, unknown as a batch of 1 job, if the server takes batch jobs" in repr(server)
    assert client.cost_usd
    assert (client.batch_cost_usd, client.jobs) == (None, 0)
    assert "live, and no batch" in repr(client)
    assert both.batch_cost_usd is None
