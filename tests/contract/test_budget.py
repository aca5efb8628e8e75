"""`max_cost_usd` is never passed, whatever happens on the way."""

from __future__ import annotations

import re

import genai_prices
import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import BudgetError, UsageError
from pllm_notebook.notebook import progress_format
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.charges import charged
from tests.contract.departures import Departures
from tests.contract.scripts import InTurn, words
from tests.contract.sides import OPENAI, Side

pytestmark = pytest.mark.filterwarnings("ignore:.*(rows failed|stopped at max_cost_usd)")

ROWS = 40
# Each costs 2,000 bytes of prompt and at most 100 tokens of answer.
FRAME = words(*(f"{n:04d} " + "x" * 1995 for n in range(ROWS)))


def paid(side: Side, sim: Simulator) -> float:
    """What the provider would charge for all that it answered."""
    stats = sim.stats()
    usage = genai_prices.Usage(input_tokens=stats.input_tokens, output_tokens=stats.output_tokens)
    return float(genai_prices.calc_price(usage, side.name, provider_id=side.priced).total_price)


def ask(model: str, budget: float, **options: object) -> pllm.Run:
    run = FRAME.llm.submit_text("{text}", model=model, max_cost_usd=budget, max_output_tokens=100, **options)
    run.wait()
    return run


@pytest.mark.parametrize("budget", [0.0, 0.0001, 0.0004, 0.0007, 0.001, 0.0021, 0.0039, 0.01])
@pytest.mark.parametrize("faults", [{}, {"reset": 0.2, "malformed": 0.1, "error_500": 0.1}], ids=["fine", "faulty"])
@pytest.mark.sample(6)
def test_a_ceiling_is_never_passed(luna: str, sim: Simulator, budget: float, faults: dict[str, float]) -> None:
    sim.set(answers=lambda request: "y" * 400, latency_s=0.005, **faults)

    run = ask(luna, budget, max_retries=1)

    assert paid(OPENAI, sim) <= budget
    assert run.cost is not None
    assert run.cost <= budget
    assert run.cost == pytest.approx(paid(OPENAI, sim), rel=1e-9)


def test_a_ceiling_is_spent_as_far_as_calls_allow(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: "y" * 400)

    run = ask(luna, 0.001)

    # One call could cost 2,600 bytes as cache writes and 100 tokens out.
    one_call = 2600 * 0.125e-6 + 100 * 0.5e-6
    assert 0.001 - one_call <= (run.cost or 0) <= 0.001


def test_every_provider_keeps_to_a_ceiling(hosted: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: "y" * 400)
    one = float(
        genai_prices.calc_price(
            genai_prices.Usage(input_tokens=502, output_tokens=100), hosted.name, provider_id=hosted.priced
        ).total_price
    )

    run = ask(hosted.model, one * 12)

    progress = run.progress()
    assert 0 < paid(hosted, sim) <= one * 12
    assert (progress.failed, len(run.errors)) == (0, 0)
    assert 0 < progress.done == ROWS - progress.not_sent


def test_rows_beyond_the_ceiling_say_so_and_cost_nothing(luna: str, sim: Simulator) -> None:
    run = ask(luna, 0.0)

    assert run.to_frame().llm.status.tolist() == ["not_sent"] * ROWS
    assert run.errors.empty
    assert run.explain(0).failure == (
        "budget: Not sent: with $0 paid, one more call could have passed max_cost_usd=0. Raise it."
    )
    assert run.cost == 0.0
    assert sim.stats().requests == 0


def test_a_ceiling_raises_where_failures_do(luna: str, sim: Simulator) -> None:
    with pytest.raises(BudgetError) as caught:
        FRAME.llm.complete("{text}", model=luna, max_cost_usd=0.001, max_output_tokens=100, errors="raise")

    assert caught.value.total == ROWS
    assert caught.value.kept == sim.stats().answered > 0


def test_a_higher_ceiling_goes_on_from_there(luna: str, sim: Simulator) -> None:
    ask(luna, 0.001)
    first = sim.stats().requests

    run = ask(luna, 1.0)

    assert 0 < first < ROWS
    assert run.progress().cached == first
    assert sim.stats().requests == ROWS


def test_what_is_cached_costs_nothing_under_a_ceiling(luna: str, sim: Simulator) -> None:
    ask(luna, 1.0)
    sim.reset()

    run = ask(luna, 0.0)

    assert run.progress().cached == ROWS
    assert sim.stats().requests == 0


def test_repairs_are_under_the_ceiling_too(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.text("nothing" * 50))

    run = FRAME.llm.submit(int, "{text}", model=luna, max_cost_usd=0.003, max_output_tokens=100, max_repairs=5)
    run.wait()

    assert 0 < paid(OPENAI, sim) <= 0.003
    # A row whose first answer was wrong has been paid for: that its repair was not sent is its failure.
    progress = run.progress()
    assert progress.failed > 0
    assert progress.failed + progress.not_sent == ROWS


def test_a_ceiling_over_an_unknown_price_is_refused(compatible: Side, sim: Simulator) -> None:
    with pytest.raises(UsageError) as caught:
        words("a").llm.complete("{text}", model=compatible.model, max_cost_usd=1)

    assert str(caught.value) == (
        "max_cost_usd=1 cannot be enforced: the price of mine:small is unknown. "
        "Leave the ceiling out, or name a model with a known price. Nothing was sent."
    )
    assert sim.stats().requests == 0


# A request that times out may have been paid: 2,000 bytes of prompt with what surrounds it, 100 tokens out.
LOST_USD = 2512 * 0.125e-6 + 100 * 0.5e-6


@pytest.mark.parametrize("requests", [1, 2.5, 6])
def test_requests_that_may_have_been_paid_count_against_a_ceiling(
    luna: str, sim: Simulator, departures: Departures, requests: float
) -> None:
    sim.set(hang=1.0)
    budget = requests * 1.1 * LOST_USD

    run = FRAME.head(3).llm.submit_text(
        "{text}", model=luna, max_cost_usd=budget, max_output_tokens=100, max_retries=9, timeout_s=1.0
    )
    run.wait()

    sent = len(departures)
    assert sent * LOST_USD <= budget
    assert sent == int(requests)
    assert run.cost == 0.0
    tried = run.errors[run.errors["kind"] == "timeout"]
    assert tried["attempts"].sum() == sent
    told = (
        "No whole reply within timeout_s=1 s. It was not tried again: with what may have been paid for it already, "
        f"one more request could have passed max_cost_usd={budget:g}."
    )
    assert tried["message"].tolist() == [told] * len(tried)
    assert run.errors["kind"].tolist() == ["timeout"] * len(run.errors)
    assert len(run.errors) + run.progress().not_sent == 3
    assert run.progress().maybe_paid_requests == sent
    with pytest.warns(DeprecationWarning, match="now maybe_paid_requests"):
        assert run.progress().perhaps_requests == sent
    assert sent * LOST_USD <= run.progress().maybe_paid_usd <= budget


def test_a_retry_within_the_ceiling_is_made(luna: str, sim: Simulator, departures: Departures) -> None:
    sim.set(answers=InTurn(SimAnswer.hang(), "yes"))

    run = FRAME.head(4).llm.submit_text(
        "{text}", model=luna, max_cost_usd=8 * 1.1 * LOST_USD, max_output_tokens=100, timeout_s=8.0
    )
    run.wait()

    assert run.progress().done == 4
    assert len(departures) == 8


def test_what_may_have_been_paid_is_still_counted_when_the_run_is_tried_again(
    luna: str, sim: Simulator, departures: Departures
) -> None:
    sim.set(hang=1.0)
    run = ask(luna, 4.4 * LOST_USD, timeout_s=1.0, max_retries=0)

    run.retry().wait()

    assert len(departures) == 4


def sized(frame: pd.DataFrame, model: str, **options: object) -> pllm.Run:
    run: pllm.Run = frame.llm.submit_text("{text}", model=model, **options)
    run.wait()
    return run


def limits(sim: Simulator) -> list[int]:
    return [request["body"]["max_completion_tokens"] for request in sim.requests()]


def test_what_answers_take_is_learned_and_sent_as_their_limit(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: "y" * 400)
    frame = words(*(f"row {n}" for n in range(60)))
    true = sized(frame, luna).cost or 0.0
    sim.reset()

    run = sized(frame, luna, max_cost_usd=2 * true, cache="refresh", concurrency=4)

    assert run.progress().done == 60
    assert max(limits(sim)) <= 1024
    assert set(limits(sim)[10:30]) == {384}  # what is left over makes the last ones wider


def test_an_answer_that_our_limit_cuts_off_is_asked_for_again_and_no_failure(hosted: Side, sim: Simulator) -> None:
    def answers(request: SimRequest) -> str:
        return "y" * (30_000 if request.prompt == "row 17" else 400)

    sim.set(answers=answers)
    frame = words(*(f"row {n}" for n in range(30)))
    true = sized(frame, hosted.model).cost or 0.0

    run = sized(frame, hosted.model, max_cost_usd=4 * true, cache="refresh", concurrency=1)

    assert run.progress().done == 30
    assert run.to_frame()["answer"].str.len().tolist() == [30_000 if n == 17 else 400 for n in range(30)]
    assert run.cost == pytest.approx(charged(sim) - true, rel=0.01)
    assert true < run.cost < 4 * true
    usage = run.to_frame().llm.usage
    assert usage["cost_usd"].sum() == pytest.approx(run.cost)  # of every request that the row took
    again = sized(frame, hosted.model)
    assert again.progress().cached == 30


def test_a_reasoning_model_is_not_cut_off_for_long(luna: str, sim: Simulator) -> None:
    sim.set(reasoning_tokens=3_000)
    frame = words(*(f"row {n}" for n in range(50)))
    true = 50 * (3_000 * 0.5e-6)

    run = sized(frame, luna, max_cost_usd=1.4 * true, concurrency=2)

    assert run.progress().done == 50
    assert sim.stats().requests <= 56


@pytest.mark.sample(4)
@pytest.mark.parametrize("times", [1.2, 2, 40])
def test_a_ceiling_above_the_true_cost_finishes(hosted: Side, sim: Simulator, times: float) -> None:
    frame = words(*(f"row {n}" for n in range(100)))
    true = sized(frame, hosted.model).cost or 0.0
    sim.reset()

    run = sized(frame, hosted.model, max_cost_usd=times * true, cache="refresh")

    assert run.progress().done == 100
    assert charged(sim) == pytest.approx(run.cost, rel=1e-6)


def test_a_ceiling_well_above_the_true_cost_keeps_as_many_calls_in_flight(
    luna: str, sim: Simulator, departures: Departures
) -> None:
    frame = words(*(f"row {n}" for n in range(400)))
    true = sized(frame, luna, concurrency=32).cost or 0.0
    sim.set(latency_s=0.05)

    for times in (2, 40):
        departures.peak = 0

        sized(frame, luna, max_cost_usd=times * true, cache="refresh", concurrency=32)

        assert departures.peak == 32


def test_a_ceiling_on_a_flaky_line_is_spent_before_it_stops(luna: str, sim: Simulator) -> None:
    frame = words(*(f"row {n}" for n in range(300)))
    true = sized(frame, luna, concurrency=8).cost or 0.0
    sim.set(reset=0.05)

    run = sized(frame, luna, max_cost_usd=2 * true, cache="refresh", concurrency=8)

    progress = run.progress()
    assert progress.done == 300
    assert progress.maybe_paid_requests > 0
    assert 0 < progress.maybe_paid_usd < true
    assert (run.cost or 0) + progress.maybe_paid_usd <= 2 * true


def test_a_stopped_run_says_in_one_line_what_became_of_its_rows(luna: str, sim: Simulator) -> None:
    with pytest.warns(UserWarning, match=r"^stopped at max_cost_usd: \d+ answered, \d+ not sent\. Raise it"):
        out = FRAME.llm.complete("{text}", model=luna, max_cost_usd=0.003, max_output_tokens=100)

    progress = pllm.runs()[-1].progress()
    answered = progress.done
    assert out.llm.status.tolist() == ["ok"] * answered + ["not_sent"] * (ROWS - answered)
    assert progress_format.ended(progress).startswith(
        f"■ text: stopped at max_cost_usd: {answered} answered, {ROWS - answered} not sent · "
    )
    assert out.llm.errors.empty


def test_the_brake_is_named_while_it_holds(luna: str, sim: Simulator) -> None:
    notes: list[str] = []

    def answers(request: SimRequest) -> str:
        notes.append(run_of()[-1].progress().note)
        return "y" * 400

    run_of = pllm.runs
    sim.set(answers=answers, latency_s=0.25)

    run = sized(FRAME.head(12), luna, max_cost_usd=0.0016, max_output_tokens=100)

    assert run.progress().done == 12
    held = [note for note in notes if note]
    assert held
    assert all(re.fullmatch(r"held by max_cost_usd: \$[\d.]+ reserved for \d+ calls?", note) for note in held)
