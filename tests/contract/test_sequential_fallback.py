"""Where the engine itself cannot run, a list is asked one prompt after another, with the same outputs."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.engine import engine
from pllm_notebook.sim import SimAnswer, Simulator
from pllm_notebook.store.claims import Claims
from tests.contract.sides import ANTHROPIC, GOOGLE, OPENAI, reach
from tests.faults.children import until


class Word(BaseModel):
    """What was read."""

    word: str


def look_up(word: str) -> str:
    """Look a word up.

    Args:
        word: Any.
    """
    return f"{word} is a word"


@pytest.fixture
def prompts(sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> list[pllm.LLMPromptContext]:
    """Prompts of three providers, with a type and without."""
    for side in (OPENAI, ANTHROPIC, GOOGLE):
        reach(side, sim, monkeypatch)
    sim.set(answers=lambda request: request.prompt.upper() if request.schema is None else {"word": request.prompt})
    return [
        pllm.LLMPromptContext(
            id=f"p{row}",
            new_message=f"prompt {row % 6}",
            structured_output=Word,
            llm_config=pllm.LLMConfig(
                client=side.provider, model=side.name, response_format="structured_output" if row % 2 else "text"
            ),
        )
        for row, side in enumerate([OPENAI, ANTHROPIC, GOOGLE] * 4)
    ]


def told(outputs: list[pllm.LLMOutput]) -> list[dict[str, Any]]:
    """Give what does not hang on when and how a prompt was asked."""
    own = {"time_taken", "start_time", "end_time", "raw_result", "cost", "usage"}
    return [output.model_dump(exclude=own) for output in outputs]


def break_the_loop() -> None:
    loop = engine().loop
    loop.loop.call_soon_threadsafe(loop.loop.stop)
    until(lambda: not loop.alive, "the loop's end")


def test_a_loop_that_died_leaves_the_same_outputs(prompts: list[pllm.LLMPromptContext], sim: Simulator) -> None:
    wanted = pllm.ParallelAIUtilities(cache="off").run_parallel_ai_completion_sync(prompts)
    sim.set(latency_s=0.05)
    utilities = pllm.ParallelAIUtilities(fallback="sequential", concurrency=1)

    async def main() -> list[pllm.LLMOutput]:
        task = asyncio.create_task(utilities.run_parallel_ai_completion(prompts))
        before = sim.stats().requests
        while sim.stats().requests < before + 3:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(break_the_loop)
        return await task

    outputs = asyncio.run(main())

    assert told(outputs) == told(wanted)
    assert all(output.error is None for output in outputs)


def test_what_the_broken_run_has_answered_is_not_sent_again(
    prompts: list[pllm.LLMPromptContext], sim: Simulator
) -> None:
    sim.set(latency_s=0.1)
    utilities = pllm.ParallelAIUtilities(fallback="sequential", cache="off", concurrency=1)

    async def main() -> list[pllm.LLMOutput]:
        task = asyncio.create_task(utilities.run_parallel_ai_completion(prompts))
        while sim.stats().requests < 4:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(break_the_loop)
        return await task

    outputs = asyncio.run(main())

    assert all(output.error is None for output in outputs)
    # Only the request that was in flight, and a reply that was not recorded yet, may be repeated.
    assert sim.stats().requests <= len({(p.new_message, p.llm_config.model) for p in prompts}) + 2


def test_without_a_fallback_the_error_is_raised(prompts: list[pllm.LLMPromptContext]) -> None:
    engine().workers.shutdown()

    with pytest.raises(RuntimeError, match="after shutdown"):
        pllm.ParallelAIUtilities().run_parallel_ai_completion_sync(prompts)


def test_workers_that_are_gone_leave_the_same_outputs(prompts: list[pllm.LLMPromptContext], sim: Simulator) -> None:
    wanted = pllm.ParallelAIUtilities(cache="off").run_parallel_ai_completion_sync(prompts)
    before = sim.stats().requests
    engine().workers.shutdown()

    outputs = pllm.ParallelAIUtilities(fallback="sequential", cache="off").run_parallel_ai_completion_sync(prompts)

    assert told(outputs) == told(wanted)
    # Equal prompts of one question are asked once.
    assert sim.stats().requests - before == len({(p.new_message, p.llm_config.model) for p in prompts})


def test_answers_of_the_sequence_are_kept(prompts: list[pllm.LLMPromptContext], sim: Simulator) -> None:
    engine().workers.shutdown()
    utilities = pllm.ParallelAIUtilities(fallback="sequential")
    outputs = utilities.run_parallel_ai_completion_sync(prompts)
    before = sim.stats().requests

    again = utilities.run_parallel_ai_completion_sync(prompts)

    assert told(again) == told(outputs)
    assert sim.stats().requests == before


def test_failures_retries_and_repairs_are_as_ever(prompts: list[pllm.LLMPromptContext], sim: Simulator) -> None:
    seen: list[str] = []

    def answer(request: Any) -> Any:
        seen.append(request.prompt)
        if request.prompt == "prompt 1" and seen.count("prompt 1") == 1:
            return SimAnswer.status(500)
        if request.prompt == "prompt 2":
            return SimAnswer.status(400)
        # A repair turn has other words.
        return "no JSON" if request.prompt == "prompt 3" else {"word": "tea"}

    sim.set(answers=answer)
    engine().workers.shutdown()

    retried, refused, repaired = pllm.ParallelAIUtilities(fallback="sequential").run_parallel_ai_completion_sync(
        prompts[1:4]
    )

    assert retried.json_object == {"word": "tea"}
    assert (refused.error or "").startswith("bad_request")
    assert repaired.json_object == {"word": "tea"}
    assert len(seen) == 5


def test_tools_are_run_as_ever(prompts: list[pllm.LLMPromptContext], sim: Simulator) -> None:
    said = [SimAnswer.tool_calls([("look_up", {"word": "tea"})]), "done"]
    sim.set(answers=lambda request: said[bool(request.results)])
    prompt = pllm.LLMPromptContext(new_message="What is tea?", tools=[look_up])
    engine().workers.shutdown()

    (output,) = pllm.ParallelAIUtilities(fallback="sequential", run_tools=True).run_parallel_ai_completion_sync(
        [prompt]
    )

    assert output.str_content == "done"
    assert sim.stats().requests == 2


def test_an_error_of_the_callers_is_no_reason_to_fall_back(
    prompts: list[pllm.LLMPromptContext], sim: Simulator
) -> None:
    sim.set(error_500=1.0)
    utilities = pllm.ParallelAIUtilities(fallback="sequential", errors="raise", max_retries=0)

    with pytest.raises(pllm.PllmError):
        utilities.run_parallel_ai_completion_sync(prompts[:1])

    assert sim.stats().requests == 1


def test_a_prompt_that_another_process_asks_is_waited_for_and_not_paid_again(
    prompts: list[pllm.LLMPromptContext], sim: Simulator, cache_dir: Path
) -> None:
    other = Claims(str(cache_dir))
    asked = pd.DataFrame({"t": [prompts[0].new_message]})
    (line,) = asked.llm.request_lines(None, "{t}", model="openai:gpt-6-luna").lines
    key = json.loads(line)["custom_id"].removeprefix("p1-")
    assert other.take("live", [key]).granted
    assert other.mark("live").owners == 1  # its batch calls
    utilities = pllm.ParallelAIUtilities(fallback="sequential")
    outputs: list[pllm.LLMOutput] = []
    break_the_loop()

    asking = threading.Thread(target=lambda: outputs.extend(utilities.run_parallel_ai_completion_sync(prompts[:1])))
    asking.start()
    until(lambda: other.mark("live").owners > 1, "the first look at the claims")
    while_claimed = sim.stats().requests
    other.release("live", [key])
    asking.join()
    other.close()

    assert while_claimed == 0
    assert [output.str_content for output in outputs] == ["PROMPT 0"]
    assert sim.stats().requests == 1
