"""The providers' prompt caches, used: one call first, marks on the wire, and what it saved for all to see."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import genai_prices
import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.scripts import words
from tests.contract.sides import ANTHROPIC, HOSTED, OPENAI, RESPONSES, Side, reach

pytestmark = pytest.mark.filterwarnings("ignore:.*rows? failed")

_numbers = count()


@pytest.fixture
def system() -> str:
    """A long instruction that no run has had: which prefixes are warm is known to the whole process."""
    return f"Instruction {next(_numbers)}. " + "Answer from the text alone. " * 800


def rows(number: int = 40) -> pd.DataFrame:
    return words(*(f"row {n}" for n in range(number)))


def cached(out: Any) -> int:
    return int(out.llm.usage["cache_read_tokens"].sum())


class FirstAlone:
    """Answers that see whether a second request comes while the first is being answered, and then wait for many.

    Args:
        many: Requests that must be there at once after the first.
        patience_s: How long the first answer waits for a second request; one that comes ends the wait.
    """

    def __init__(self, many: int = 1, patience_s: float = 10.0) -> None:
        self.alone: bool | None = None
        self._first = True
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._second = threading.Event()
        self._many = threading.Barrier(many, timeout=100)

    def __call__(self, request: SimRequest) -> Any:
        with self._lock:
            first, self._first = self._first, False
        if first:
            self.alone = not self._second.wait(timeout=self._patience_s)
            return "yes"
        self._second.set()
        if self.alone:
            self._many.wait()  # a broken barrier is this request's failure
        return "yes"


def test_one_call_goes_first_and_then_many_at_once(hosted: Side, sim: Simulator, system: str) -> None:
    answers = FirstAlone(many=20, patience_s=0.5)
    sim.set(answers=answers)

    out = rows(41).llm.complete("{text}", model=hosted.model, system=system, max_retries=0)

    assert answers.alone is True
    assert out.llm.status.tolist() == ["ok"] * 41


def test_a_short_prefix_is_not_waited_for(hosted: Side, sim: Simulator) -> None:
    answers = FirstAlone()
    sim.set(answers=answers)

    rows(10).llm.complete("{text}", model=hosted.model, system="Be brief.")

    assert answers.alone is False


def test_two_calls_are_not_worth_a_wait(luna: str, sim: Simulator, system: str) -> None:
    answers = FirstAlone()
    sim.set(answers=answers)

    rows(2).llm.complete("{text}", model=luna, system=system)

    assert answers.alone is False


def test_a_server_of_unknown_kind_is_not_waited_for(compatible: Side, sim: Simulator, system: str) -> None:
    answers = FirstAlone()
    sim.set(answers=answers)

    rows(10).llm.complete("{text}", model=compatible.model, system=system)

    assert answers.alone is False


def test_a_second_run_of_the_same_prefix_does_not_wait_again(luna: str, sim: Simulator, system: str) -> None:
    rows(3).llm.complete("{text}", model=luna, system=system)
    answers = FirstAlone()
    sim.set(answers=answers)

    words("x", "y", "z").llm.complete("{text}", model=luna, system=system)

    assert answers.alone is False


def test_a_run_that_waits_pays_for_the_prefix_once(hosted: Side, sim: Simulator, system: str) -> None:
    sim.set(prompt_cache=True, answers=lambda request: "yes")

    waited = rows(30).llm.complete("{text}", model=hosted.model, system=system)
    # The prefix counts as warm now, so that the next run does not wait; the provider has forgotten it.
    sim.reset()
    second_is_there = FirstAlone()
    sim.set(answers=second_is_there)
    at_once = rows(30).llm.complete("Again: {text}", model=hosted.model, system=system)

    prefix = waited.llm.usage["cache_read_tokens"].max()
    assert waited.llm.usage["cache_read_tokens"].tolist() == [0] + [prefix] * 29
    assert prefix > 5_000
    assert second_is_there.alone is False
    assert cached(at_once) < cached(waited)
    assert waited.llm.run.cost < at_once.llm.run.cost


def test_what_was_read_from_the_cache_is_shown(hosted: Side, sim: Simulator, system: str) -> None:
    sim.set(prompt_cache=True)

    out = rows(10).llm.complete("{text}", model=hosted.model, system=system)

    progress = out.llm.run.progress()
    assert progress.cached_tokens == cached(out) > 0
    assert progress.cached_tokens > progress.input_tokens * 0.8


def test_a_first_call_that_fails_keeps_no_other_from_its_answer(luna: str, sim: Simulator, system: str) -> None:
    sim.set(answers=lambda request: SimAnswer.status(400) if request.index == 0 else "yes")

    out = rows(10).llm.complete("{text}", model=luna, system=system)

    assert sorted(out.llm.status.tolist()) == ["failed"] + ["ok"] * 9


def test_a_run_can_be_stopped_while_its_first_call_is_out(luna: str, sim: Simulator, system: str) -> None:
    arrived = threading.Event()

    def never(request: SimRequest) -> Any:
        arrived.set()
        return SimAnswer.hang()

    sim.set(answers=never)
    run = rows(10).llm.submit_text("{text}", model=luna, system=system)
    assert arrived.wait(timeout=60)

    run.cancel()
    run.wait()

    assert run.state == "cancelled"
    assert sim.stats().requests == 1


def test_rows_that_are_all_known_wait_for_nobody(luna: str, sim: Simulator, system: str) -> None:
    rows(5).llm.complete("{text}", model=luna, system=system)
    sim.reset()

    out = rows(5).llm.complete("{text}", model=luna, system=system)

    assert out.llm.status.tolist() == ["cached"] * 5
    assert sim.stats().requests == 0


@pytest.mark.parametrize("side", [ANTHROPIC], indirect=True, ids=lambda side: side.id)
def test_examples_in_the_template_are_cached_and_the_answer_is_the_same(side: Side, sim: Simulator) -> None:
    examples = f"Examples {next(_numbers)}:\n" + "Text: it is good.\nAnswer: yes\n" * 800
    sim.set(prompt_cache=True)

    out = rows(6).llm.complete(examples + "{text}", model=side.model)

    bodies = [request["body"] for request in sim.requests()]
    mark = {"type": "ephemeral"}
    assert {len(body["messages"][0]["content"]) for body in bodies} == {2}
    assert [body["messages"][0]["content"][0] for body in bodies] == [
        {"type": "text", "text": examples, "cache_control": mark}
    ] * 6
    assert cached(out) == 5 * (len(examples) // 4)
    assert out.llm.usage["cache_write_tokens"].tolist() == [len(examples) // 4, 0, 0, 0, 0, 0]
    # The simulator answers by the whole text; a row that is asked alone has it in one block.
    again = words("row 3").llm.complete(examples + "{text}", model=side.model, cache="refresh")
    assert isinstance(sim.requests()[-1]["body"]["messages"][0]["content"], str)
    assert again["answer"].tolist() == [out["answer"][3]]


@pytest.mark.parametrize("side", [ANTHROPIC], indirect=True, ids=lambda side: side.id)
def test_packs_share_their_instruction_from_the_first_one_on(side: Side, sim: Simulator) -> None:
    examples = f"Examples {next(_numbers)}:\n" + "Text: it is good.\nAnswer: yes\n" * 800
    sim.set(prompt_cache=True)

    out = rows(12).llm.complete(examples + "{text}", model=side.model, pack=3)

    packs = [request["body"]["messages"][0]["content"] for request in sim.requests()]
    begin = {str(pack[0]) for pack in packs}
    assert out.llm.status.tolist() == ["ok"] * 12
    assert len(packs) == 4
    assert len(begin) == 1
    assert packs[0][0]["text"].endswith("{text}\n\nItems:\n")
    assert sorted(out.llm.usage["cache_read_tokens"] > 0) == [False] * 3 + [True] * 9


def marked(sim: Simulator) -> list[bool]:
    """Whether each request has a mark."""
    bodies = [str(request["body"]) for request in sim.requests()]
    return ["cache_control" in body or "prompt_cache_key" in body for body in bodies]


MARKING = [OPENAI, RESPONSES, ANTHROPIC]


@pytest.mark.parametrize("side", MARKING, indirect=True, ids=lambda side: side.id)
def test_a_call_that_shares_its_prefix_with_no_other_is_not_marked(side: Side, sim: Simulator, system: str) -> None:
    rows(1).llm.complete("{text}", model=side.model, system=system)
    rows(3).llm.complete("{text}", model=side.model, system=system)

    assert marked(sim) == [False, True, True]


@pytest.mark.parametrize("side", [ANTHROPIC], indirect=True, ids=lambda side: side.id)
def test_a_call_by_itself_pays_for_no_write(side: Side, sim: Simulator, system: str) -> None:
    sim.set(prompt_cache=True)

    out = rows(1).llm.complete("{text}", model=side.model, system=system)

    assert out.llm.usage["cache_write_tokens"].tolist() == [0]


@pytest.mark.parametrize(("count", "marks"), [(3, [False]), (6, [True, True])])
@pytest.mark.parametrize("side", [ANTHROPIC], indirect=True, ids=lambda side: side.id)
def test_one_pack_is_one_call(side: Side, sim: Simulator, system: str, count: int, marks: list[bool]) -> None:
    rows(count).llm.complete("{text}", model=side.model, system=system, pack=3)

    assert marked(sim) == marks


REFUSING = [(OPENAI, "prompt_cache_key"), (RESPONSES, "prompt_cache_key"), (ANTHROPIC, "cache_control")]


def stranger(side: Side, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model that nobody has met before: what is learned of one is remembered for good."""
    reach(side, sim, monkeypatch)
    return replace(side, name=f"{side.name}-{next(_numbers)}").model


@pytest.mark.parametrize(("side_of", "mark"), REFUSING, ids=[side.id for side, _ in REFUSING])
def test_a_mark_that_is_refused_is_left_out(
    side_of: Side, mark: str, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    model = stranger(side_of, sim, monkeypatch)
    sim.set(unsupported_parameters=(mark,))

    out = rows(5).llm.complete("{text}", model=model, system=system, max_retries=0)

    assert out.llm.status.tolist() == ["ok"] * 5
    assert [mark in str(request["body"]) for request in sim.requests()] == [True] + [False] * 5


@pytest.mark.parametrize(("side_of", "mark"), REFUSING, ids=[side.id for side, _ in REFUSING])
def test_a_mark_of_the_callers_own_is_never_left_out(
    side_of: Side, mark: str, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    model = stranger(side_of, sim, monkeypatch)
    own: dict[str, Any] = {mark: {"type": "ephemeral"} if mark == "cache_control" else "mine"}
    sim.set(unsupported_parameters=(mark,))

    out = words("a").llm.complete("{text}", model=model, system=system, extra_body=own)

    assert out.llm.errors["kind"].tolist() == ["bad_request"]
    assert [request["body"][mark] for request in sim.requests()] == [own[mark]]


@pytest.mark.parametrize("budget", [0.002, 0.005, 0.02])
@pytest.mark.parametrize("kept", [{}, {"ttl": "1h"}], ids=["minutes", "hour"])
@pytest.mark.parametrize("side", [ANTHROPIC], indirect=True, ids=lambda side: side.id)
def test_a_ceiling_holds_where_every_call_writes_the_cache(
    side: Side, sim: Simulator, kept: dict[str, str], budget: float
) -> None:
    sim.set(prompt_cache=True, answers=lambda request: "y" * 400)
    frame = words(*(f"{n:04d} " + "x" * 5995 for n in range(40)))

    # A mark at the top is on the row's own block: the dearest way there is.
    run = frame.llm.submit_text(
        "{text}",
        model=side.model,
        max_cost_usd=budget,
        max_output_tokens=100,
        extra_body={"cache_control": {"type": "ephemeral"} | kept},
    )
    run.wait()

    stats, answered = sim.stats(), run.progress().done
    hour = 1500 if kept else 0
    usage = genai_prices.Usage(
        input_tokens=1500, cache_write_tokens=1500, cache_write_1h_tokens=hour, output_tokens=100
    )
    one = float(genai_prices.calc_price(usage, side.name, provider_id=side.priced).total_price)
    assert answered == stats.answered > 0
    assert run.cost == pytest.approx(answered * one, rel=1e-9)
    assert run.cost <= budget
    assert pllm.runs()[-1] is run


@pytest.mark.parametrize("side", HOSTED, indirect=True, ids=lambda side: side.id)
def test_an_answer_is_known_whether_it_was_asked_for_with_a_mark_or_without(
    side: Side, sim: Simulator, system: str
) -> None:
    # Alone, a row shows nothing that it could share; among others it is sent in two parts.
    examples = f"Examples {next(_numbers)}:\n" + "Text: it is good.\nAnswer: yes\n" * 800
    words("row 0").llm.complete(examples + "{text}", model=side.model)

    out = rows(4).llm.complete(examples + "{text}", model=side.model)

    assert out.llm.status.tolist() == ["cached", "ok", "ok", "ok"]
