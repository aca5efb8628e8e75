"""A list of mixed prompts as batch jobs: one question to a person, about the whole list."""

from __future__ import annotations

import asyncio
import sys

import pytest

from pllm_notebook import LLMConfig, LLMPromptContext, ParallelAIUtilities
from pllm_notebook.exceptions import NotConfirmedError
from pllm_notebook.execution import estimate_list
from pllm_notebook.prompt_lists.build import prepare_prompts
from pllm_notebook.sim import Simulator
from tests.contract.sides import ANTHROPIC, GOOGLE, OPENAI, reach

SIDES = (OPENAI, ANTHROPIC, GOOGLE)


@pytest.fixture
def three(sim: Simulator, cache_dir: object, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """Three providers, whose jobs end at the next look."""
    for side in SIDES:
        reach(side, sim, monkeypatch)
    sim.set(answers=lambda request: f"{request.provider}: {request.prompt}", batch_s=0)
    return sim


@pytest.fixture
def prompts() -> list[LLMPromptContext]:
    """Two for each provider, and one of them once more."""
    made = [
        LLMPromptContext(new_message=f"prompt {at}", llm_config=LLMConfig(client=side.provider, model=side.name))
        for side in SIDES
        for at in range(2)
    ]
    return [*made, made[0]]


@pytest.mark.parametrize(("word", "jobs"), [("y", 3), ("no", 0)])
def test_a_list_that_goes_by_batch_is_confirmed_once_with_the_estimate_of_the_whole(
    three: Simulator, prompts: list[LLMPromptContext], monkeypatch: pytest.MonkeyPatch, word: str, jobs: int
) -> None:
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return word

    monkeypatch.setattr(sys.modules["pllm_notebook.execution.confirmation"], "is_interactive", lambda: True)
    monkeypatch.setattr("builtins.input", answer)

    if jobs:
        outputs = ParallelAIUtilities(mode="batch").run_parallel_ai_completion_sync(prompts)
        assert [output.error for output in outputs] == [None] * 7
    else:
        with pytest.raises(NotConfirmedError):
            ParallelAIUtilities(mode="batch").run_parallel_ai_completion_sync(prompts)

    assert three.stats().batch_jobs == jobs
    (question,) = asked
    assert all(side.model in question for side in SIDES)
    told = dict(line.split(maxsplit=1) for line in question.splitlines() if line)
    assert (told["rows"], told["duplicates"]) == ("7", "1")


def test_a_list_that_nobody_confirms_is_not_submitted(three: Simulator, prompts: list[LLMPromptContext]) -> None:
    utilities = ParallelAIUtilities(mode="batch", fallback="sequential")

    with pytest.raises(NotConfirmedError, match="6 calls would have been submitted"):
        utilities.run_parallel_ai_completion_sync(prompts)
    with pytest.raises(NotConfirmedError, match="confirm=False"):
        asyncio.run(utilities.run_parallel_ai_completion(prompts))

    stats = three.stats()
    assert (stats.requests, stats.batch_requests) == (0, 0)


def test_a_list_that_is_answered_already_asks_nobody(three: Simulator, prompts: list[LLMPromptContext]) -> None:
    ParallelAIUtilities().run_parallel_ai_completion_sync(prompts)

    outputs = ParallelAIUtilities(mode="batch").run_parallel_ai_completion_sync(prompts)

    assert outputs[0].str_content == "openai: prompt 0"
    assert three.stats().batch_jobs == 0


def test_a_lists_estimate_counts_each_prompt_once(three: Simulator, prompts: list[LLMPromptContext]) -> None:
    whole = estimate_list(prepare_prompts(prompts, {"mode": "batch"}, {}).parts)

    assert (whole.rows, whole.duplicates, whole.skipped, whole.calls, whole.jobs) == (7, 1, 0, 6, 3)
    assert whole.batch_cost_usd is not None
    assert whole.cost_usd == pytest.approx(2 * whole.batch_cost_usd, rel=0.05)
