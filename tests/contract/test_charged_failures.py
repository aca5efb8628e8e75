"""A failure that came with status 200 is paid where it says what it used, and else perhaps paid."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.sim import SimAnswer, Simulator
from tests.contract.scripts import InTurn, words
from tests.contract.sides import ANTHROPIC, GOOGLE, OPENAI, RESPONSES, Side
from tests.contract.test_ends import USAGE, form

pytestmark = pytest.mark.filterwarnings("ignore:.*(rows failed|stopped at max_cost_usd)")

LONG = words(*(f"{n:04d} " + "x" * 1995 for n in range(3)))
# The bound of one request: 2,000 bytes of prompt with what surrounds it, 100 tokens out.
ONE_USD = 2512 * 0.125e-6 + 100 * 0.5e-6


def failed(side: Side, code: int = 503, **also: Any) -> SimAnswer:
    """Answer 200 with an error in the body."""
    body: dict[str, Any] = {"error": {"code": code, "message": "Upstream has failed."}}
    if side is ANTHROPIC:
        body = {"type": "error", "error": {"type": "overloaded_error", "message": "Upstream has failed."}}
    elif side is RESPONSES:
        body |= {"status": "failed", "output": []}
    return SimAnswer.status(200, body=body | also)


def with_usage(side: Side) -> SimAnswer:
    return failed(side, **{"usageMetadata" if side is GOOGLE else "usage": USAGE[form(side)]})


def ask(frame: pd.DataFrame, model: str, **options: Any) -> pllm.Run:
    run: pllm.Run = frame.llm.submit_text("{text}", model=model, **options)
    run.wait()
    return run


def test_an_error_within_a_success_is_perhaps_paid(side: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: failed(side))

    run = ask(words("a"), side.model, max_retries=1)

    assert run.errors["cost_usd"].isna().tolist() == [True]
    assert run.progress().maybe_paid_requests == sim.stats().requests == 2
    assert "2 requests perhaps paid" in repr(run)
    assert run.cost in (0.0, None)


@pytest.mark.parametrize("requests", [1, 2.5])
def test_errors_within_successes_count_against_a_ceiling(luna: str, sim: Simulator, requests: float) -> None:
    sim.set(answers=lambda request: failed(OPENAI))
    budget = requests * 1.1 * ONE_USD

    run = ask(LONG, luna, max_cost_usd=budget, max_output_tokens=100, max_retries=9)

    assert sim.stats().requests == int(requests)
    assert run.progress().maybe_paid_requests == int(requests)
    assert int(requests) * ONE_USD <= run.progress().maybe_paid_usd <= budget
    assert run.errors["message"].str.contains("one more request could have passed max_cost_usd").any()


@pytest.mark.parametrize("code", [429, 500, 400, 401])
def test_whatever_its_code_it_is_perhaps_paid(luna: str, sim: Simulator, code: int) -> None:
    sim.set(answers=lambda request: failed(OPENAI, code))

    run = ask(words("a"), luna, max_retries=0)

    assert run.progress().maybe_paid_requests == 1


def test_an_error_that_says_what_it_used_is_paid(side: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: with_usage(side))

    run = ask(words("a"), side.model, max_retries=1)

    progress = run.progress()
    assert progress.maybe_paid_requests == 0
    assert (progress.input_tokens, progress.output_tokens) == tokens(side, 2)
    if side.priced:
        (cost,) = run.errors["cost_usd"]
        assert cost == run.cost > 0
    else:
        assert run.errors["cost_usd"].isna().tolist() == [run.cost is None]


def test_what_failed_before_an_answer_is_paid_besides_it(hosted: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: "yes")
    plain = ask(words("a"), hosted.model).progress()
    sim.set(answers=InTurn(with_usage(hosted), "yes"))

    progress = ask(words("a"), hosted.model, cache="refresh", max_cost_usd=100.0).progress()

    read, made = tokens(hosted, 1)
    assert (progress.done, progress.maybe_paid_requests) == (1, 0)
    assert progress.input_tokens - plain.input_tokens == read
    assert progress.output_tokens - plain.output_tokens == made
    assert progress.cost_usd > plain.cost_usd


def test_an_error_with_a_status_of_its_own_costs_nothing(luna: str, sim: Simulator) -> None:
    body = {"error": {"message": "No."}, "usage": USAGE["chat"]}
    sim.set(answers=lambda request: SimAnswer.status(503, body=body))

    run = ask(words("a"), luna, max_retries=0)

    assert (run.progress().maybe_paid_requests, run.progress().input_tokens, run.cost) == (0, 0, 0.0)
    assert run.errors["cost_usd"].tolist() == [0.0]


def tokens(side: Side, times: int) -> tuple[int, int]:
    """Input and output tokens of so many requests."""
    used = list(USAGE[form(side)].values())
    return used[0] * times, used[1] * times
