"""What will be asked again is read from Anthropic's prompt cache: a conversation's turns, a tool's, the next list's."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

import pllm_notebook as pllm
from pllm_notebook import LLMConfig, LLMPromptContext, ParallelAIUtilities
from pllm_notebook.sim import SimAnswer, Simulator
from tests.contract.scripts import InTurn, words
from tests.contract.sides import ANTHROPIC, Side

pytestmark = pytest.mark.parametrize("side", [ANTHROPIC], indirect=True, ids=lambda side: side.id)

_numbers = count()


@pytest.fixture
def system() -> str:
    """An instruction of 22 kB that no test has had."""
    return f"Instruction {next(_numbers)}. " + "Answer from the text alone. " * 800


def read(sim: Simulator) -> tuple[int, int, int]:
    """Input tokens, and of these read from and written to the cache."""
    ((total, cached, written, _),) = sim.stats().charged.values()
    return total, cached, written


def asked(prompt: LLMPromptContext, side: Side, *, use_cache: bool = True) -> LLMPromptContext:
    """The prompt with its answer and a further question."""
    (output,) = ParallelAIUtilities().run_parallel_ai_completion_sync([prompt])
    assert output.error is None
    config = LLMConfig(client=side.provider, model=side.name, response_format="text", use_cache=use_cache)
    following: Any = prompt.add_chat_turn_history(output)
    return following.model_copy(update={"new_message": "And then?", "llm_config": config})


def first(side: Side, system: str, *, use_cache: bool = True) -> LLMPromptContext:
    config = LLMConfig(client=side.provider, model=side.name, response_format="text", use_cache=use_cache)
    return LLMPromptContext(new_message="What is it?", system_string=system, llm_config=config)


def test_a_conversation_reads_what_was_said_before(side: Side, sim: Simulator, system: str) -> None:
    sim.set(prompt_cache=True, answers=lambda request: "word " * 500)
    prompt = first(side, system)

    for _ in range(4):
        prompt = asked(prompt, side)

    total, cached, written = read(sim)
    # The first turn could have been the only one; the second writes, the third and fourth read.
    assert written < 1.3 * total / 4
    assert cached > 0.45 * total
    third, fourth = sim.requests()[-2:]
    marks = [str(message["content"]).count("cache_control") for message in fourth["body"]["messages"]]
    assert marks == [0, 0, 0, 0, 1, 0, 1]
    assert str(third["body"]["system"]).count("cache_control") == 1


def test_a_conversation_that_wants_no_cache_has_no_marks(side: Side, sim: Simulator, system: str) -> None:
    sim.set(prompt_cache=True, answers=lambda request: "word")
    prompt = first(side, system, use_cache=False)

    for _ in range(3):
        prompt = asked(prompt, side, use_cache=False)

    assert read(sim)[1:] == (0, 0)
    assert "cache_control" not in str(sim.requests())


def test_the_next_list_reads_the_instruction_of_the_last(side: Side, sim: Simulator, system: str) -> None:
    sim.set(prompt_cache=True)

    for at in range(3):
        config = LLMConfig(client=side.provider, model=side.name, response_format="text")
        prompt = LLMPromptContext(new_message=f"question {at}", system_string=system, llm_config=config)
        ParallelAIUtilities().run_parallel_ai_completion_sync([prompt])

    assert [("cache_control" in str(request["body"])) for request in sim.requests()] == [False, True, True]
    assert read(sim)[1] > 5_000


def test_a_short_conversation_is_not_marked(side: Side, sim: Simulator) -> None:
    prompt = first(side, "Be brief.")

    for _ in range(3):
        prompt = asked(prompt, side)

    assert "cache_control" not in str(sim.requests())


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def test_a_tools_turn_reads_the_turns_before_it(side: Side, sim: Simulator, system: str) -> None:
    call = SimAnswer.tool_calls([("add", {"a": 1, "b": 2})])
    sim.set(prompt_cache=True, answers=InTurn(call, call, call, "done"))

    out = words("one row").llm.complete("{text}", model=side.model, system=system, tools=(add,), run_tools=True)

    assert out.llm.status.tolist() == ["ok"]
    total, cached, written = read(sim)
    assert sim.stats().requests == 4
    assert cached > 0.7 * total
    assert written < 0.3 * total


@pytest.mark.parametrize("strategy", ["sync", "async"])
def test_a_programs_next_calls_read_the_document_that_all_begin_with(
    side: Side, sim: Simulator, system: str, strategy: str, tmp_path: Path
) -> None:
    sim.set(prompt_cache=True, answers=lambda request: request.prompt.splitlines()[-2])

    with pllm.resume_directory(tmp_path / strategy, strategy=strategy, llm=side.model) as session:
        agent = session.agent("reader")
        said = [agent.ask_llm(system, f"q{number}").resolve() for number in range(5)]

    bodies = [request["body"] for request in sim.requests()]
    marks = [str(body["messages"]).count("cache_control") for body in bodies]
    # The first call could have been the only one. From the third on, the document is known to be asked about again.
    assert (marks[0], marks[2:]) == (0, [1, 1, 1])
    assert read(sim)[1] > 10_000
    assert said == [f"q{number}" for number in range(5)]
    texts = [as_text(body["messages"][0]["content"]) for body in bodies]
    assert texts == [texts[0].replace("q0", f"q{number}") for number in range(5)]


def as_text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


def test_marks_are_in_no_key(side: Side, sim: Simulator, system: str) -> None:
    frame = words("one row")
    frame.llm.complete("{text}", model=side.model, system=system)
    pllm.configure(max_cost_usd=5)

    out = frame.llm.complete("{text}", model=side.model, system=system)

    assert out.llm.status.tolist() == ["cached"]


def test_a_repair_is_not_marked(side: Side, sim: Simulator, system: str) -> None:
    sim.set(answers=lambda request: SimAnswer.text("nothing"))

    words("one row").llm.parse(int, "{text}", model=side.model, system=system, max_repairs=1)

    assert sim.stats().requests == 2
    assert "cache_control" not in str(sim.requests())
