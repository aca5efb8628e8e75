"""A list whose prompts differ in model, instruction and options is one run, with outcomes in the list's order."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pllm_notebook.execution import LiveRun, WholePrompts, build_spec, options_for, parts_of, start_list
from pllm_notebook.failures import FailureKind
from pllm_notebook.messages_types import Dialogue, Prompt, RawRequest, Turn
from pllm_notebook.sim import SimAnswer, Simulator
from tests.contract.sides import ANTHROPIC, OPENAI, reach


class Listed(WholePrompts):
    """The rows of a list in the shape that a test looks at."""

    label = "list"

    def __init__(self, prompts: list[Prompt]) -> None:
        self._all = prompts
        self.total = len(prompts)

    def prompts(self, rows: range) -> list[Prompt]:
        return self._all[rows.start : rows.stop]

    def assemble(self, run: LiveRun) -> list[Any]:
        outcomes = [run.table.outcome(row) for row in range(self.total)]
        return [None if one is None else one.value for one in outcomes]

    def errors(self, run: LiveRun) -> list[FailureKind | None]:
        failures = [run.table.failure(row) for row in range(self.total)]
        return [None if failure is None else failure.kind for failure in failures]


def submitted(asked: list[tuple[str, Prompt]], heard: Any = None, **options: Any) -> LiveRun:
    """Start a run over (model, prompt)."""
    parts = parts_of(
        asked,
        lambda model: build_spec(options_for({"model": model, "progress": False} | options), None, instruct=False),
    )
    return start_list(parts, Listed([prompt for _, prompt in asked]), heard)


@pytest.fixture
def both(sim: Simulator, cache_dir: object, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Models of two providers."""
    for side in (OPENAI, ANTHROPIC):
        reach(side, sim, monkeypatch)
    sim.set(answers=lambda request: f"{request.model}: {request.prompt}")
    return [OPENAI.model, ANTHROPIC.model]


def test_outcomes_are_in_the_lists_order_whoever_was_asked(both: list[str]) -> None:
    asked = [(both[row % 2], f"prompt {row}") for row in range(20)]

    answers = submitted(asked).result()

    assert answers == [f"{model.partition(':')[2]}: {prompt}" for model, prompt in asked]


def test_a_text_a_conversation_and_a_whole_body_may_stand_in_one_list(both: list[str], sim: Simulator) -> None:
    said = (Turn("user", "one"), Turn("assistant", "two"), Turn("user", "three"))
    prompts: list[Prompt] = ["text", Dialogue(said, system="Be brief."), Dialogue((Turn("user", "text"),))]
    body = {"model": both[0].partition(":")[2], "messages": [{"role": "user", "content": "text"}]}
    sim.set(answers=lambda request: request.prompt.upper())

    run = submitted([(both[0], prompt) for prompt in [*prompts, RawRequest(body)]])

    assert run.result() == ["TEXT", "THREE", "TEXT", "TEXT"]
    # The three that are one request on the wire are one call.
    assert sim.stats().requests == 2


def test_each_row_is_told_of_once_with_its_answer_there(both: list[str]) -> None:
    heard: list[int] = []
    told = threading.Event()
    asked = [(both[row % 2], f"prompt {row % 6}") for row in range(12)]

    def hear(row: int) -> None:
        heard.append(row)
        told.set()

    run = submitted(asked, hear)
    run.result()

    assert sorted(heard) == list(range(12))
    assert run.progress().done + run.progress().cached == 12


def test_a_refused_key_fails_the_prompts_of_its_provider_alone(
    both: list[str], sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    asked = [(both[row % 2], f"prompt {row}") for row in range(6)]

    run = submitted(asked)
    with pytest.warns(UserWarning, match="3 of 6 rows failed"):
        answers = run.result()

    assert [answer is None for answer in answers] == [False, True] * 3
    assert run.errors == [None, FailureKind.AUTHENTICATION] * 3
    assert run.state == "done"


def test_a_retry_takes_up_what_failed_for_want_of_a_key(
    both: list[str], sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim.set(answers=lambda request: SimAnswer.status(401) if request.provider == "anthropic" else request.prompt)
    run = submitted([(both[row % 2], f"prompt {row}") for row in range(6)])
    run.wait()
    sim.set(answers=lambda request: request.prompt)

    run.retry()
    again = run.result()

    assert again == [f"prompt {row}" for row in range(6)]
    assert run.progress().failed == 0
