"""A program as a cell: it ends quietly at what is pending, goes on after a restart, and stops when it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pllm_notebook.sim import Simulator
from tests.contract.programs import LONG_S, WINNER, tournament_answers
from tests.contract.sides import ANTHROPIC, GOOGLE, OPENAI, Side
from tests.notebook.kernels import Kernel

pytestmark = pytest.mark.kernel

SETUP = """
import asyncio, os
from functools import partial
import pllm_notebook as pllm
import pllm_notebook.batch_jobs.service as office
os.environ.update({environment!r})
# A dead kernel's jobs are its own for a minute; here for a moment.
office.JournalAccess = partial(office.JournalAccess, lease_s=0.5)
"""
TOURNAMENT = """
with pllm.resume_directory("enzymes", strategy={strategy!r}, provider={provider!r}, confirm=False) as session:
    with session.agent("judge", dashboard=True) as agent:
        teams = agent.ask_llm("Name 8 enzymes, one a line.").resolve().splitlines()
        while len(teams) > 1:
            pairs = zip(teams[::2], teams[1::2])
            asked = [agent.ask_llm("Choose one; answer with its name only.", a, b) for a, b in pairs]
            teams = [reply.resolve() for reply in asked]
        agent.print(teams[0])
"""


def kernel_for(side: Side, sim: Simulator, folder: Path) -> Kernel:
    environment = {side.key: "any-key", side.address: sim.base_url(side.wire)}
    return Kernel(folder, SETUP.format(environment=environment))


@pytest.fixture
def kernel(sim: Simulator, tmp_path: Path) -> Iterator[Kernel]:
    kernel = kernel_for(OPENAI, sim, tmp_path)
    yield kernel
    kernel.close()


@pytest.mark.sample(1)
@pytest.mark.parametrize("side", [OPENAI, ANTHROPIC, GOOGLE], ids=lambda side: side.id)
def test_a_batch_program_ends_its_cell_quietly_and_goes_on_in_the_next_kernel(
    side: Side, sim: Simulator, tmp_path: Path
) -> None:
    sim.set(answers=tournament_answers, batch_s=LONG_S)
    kernel = kernel_for(side, sim, tmp_path)
    program = TOURNAMENT.format(strategy="batch", provider=side.provider)
    jobs = []
    try:
        for _ in range(4):
            cell = kernel.ok(program)
            assert "Run the program again to continue." in cell.stdout
            jobs.append(sim.stats().batch_jobs)
            sim.advance(LONG_S)
            kernel.restart()
        cell = kernel.ok(program)
    finally:
        kernel.close()

    assert WINNER in cell.stdout
    assert jobs == [1, 2, 3, 4]
    assert (sim.stats().batch_lines, sim.stats().requests) == (8, 0)


@pytest.mark.sample(1)
@pytest.mark.parametrize("strategy", ["sync", "async"])
def test_an_interrupted_program_keeps_what_it_has_and_goes_on(strategy: str, sim: Simulator, kernel: Kernel) -> None:
    # The names come at once; what is asked after them would take minutes.
    sim.set(answers=tournament_answers)
    kernel.ok("import pllm_notebook.sessions")
    program = TOURNAMENT.format(strategy=strategy, provider="openai")
    kernel.ok(program.replace("while len(teams) > 1", "while False"))
    sim.set(latency_s=30)

    cell = kernel.start(program)
    kernel.until(lambda: sim.stats().requests > 1)
    kernel.interrupt()
    kernel.finish(cell)

    assert cell.reply["ename"] == "KeyboardInterrupt"
    assert "Run the program again to continue" in cell.error
    sent = sim.stats().requests
    sim.set(latency_s=0)
    again = kernel.ok(program)
    assert WINNER in again.stdout
    # The names were not asked again.
    assert sim.stats().requests == sent + 7


@pytest.mark.sample(1)
@pytest.mark.parametrize("strategy", ["sync", "async"])
def test_a_program_runs_with_the_engine_on_the_notebooks_own_loop(
    strategy: str, sim: Simulator, kernel: Kernel
) -> None:
    sim.set(answers=tournament_answers)
    kernel.ok("pllm.configure(loop='notebook')")

    cell = kernel.ok(TOURNAMENT.format(strategy=strategy, provider="openai"))

    assert WINNER in cell.stdout


def test_an_awaiting_cell_is_interrupted_and_pauses_like_any_other(sim: Simulator, kernel: Kernel) -> None:
    sim.set(answers=lambda request: "yes", latency_s=30, batch_s=LONG_S)
    program = """
async with pllm.resume_directory("awaited", strategy={strategy!r}, provider="openai", confirm=False) as session:
    agent = session.agent("one")
    answers = await asyncio.gather(*(agent.ask_llm(f"leaf {{number}}") for number in range(3)))
"""

    cell = kernel.start(program.format(strategy="async"))
    kernel.until(lambda: sim.stats().requests == 3)
    kernel.interrupt()
    kernel.finish(cell)
    paused = kernel.ok(program.format(strategy="batch"))

    assert cell.status == "error"
    assert cell.reply["ename"] in ("CancelledError", "KeyboardInterrupt")
    assert "submitted 3 calls in 1 batch job" in paused.stdout
    assert sim.stats().batch_jobs == 1


AWAITS = {
    "one request": "await pllm.create_framework().parse(model='openai:gpt-6-luna', messages=ASKED)",
    "gathered requests": "await asyncio.gather(*[pllm.create_framework().parse(model='openai:gpt-6-luna', "
    "messages=[{'role': 'user', 'content': word}]) for word in 'ab'])",
    "a list of prompts": "await pllm.ParallelAIUtilities().run_parallel_ai_completion([pllm.LLMPromptContext("
    "new_message='Hi', llm_config=pllm.LLMConfig(client='openai', model='gpt-6-luna'))])",
    "a request file": "await pllm.process_api_requests_from_file(pllm.OAIApiFromFileConfig("
    "requests_filepath='asked.jsonl', client='openai'))",
    "a program": "async with pllm.resume_directory('one', strategy='async', provider='openai') as session:\n"
    "    await session.agent('one').ask_llm('Hi')",
    "a program's own work": "async with pllm.resume_directory('two', strategy='async', provider='openai') as session:\n"
    "    session.agent('one').ask_llm('Hi')\n    [await asyncio.sleep(0.1) for _ in range(6000)]",
}


@pytest.mark.parametrize("code", AWAITS.values(), ids=AWAITS)
@pytest.mark.sample(3)
def test_an_interrupted_await_is_one_line_whatever_it_waits_for(code: str, sim: Simulator, kernel: Kernel) -> None:
    sim.set(latency_s=60)
    kernel.ok(
        "ASKED = [{'role': 'user', 'content': 'Hi'}]\nimport json, pathlib\n"
        "_ = pathlib.Path('asked.jsonl').write_text(json.dumps({'model': 'gpt-6-luna', 'messages': ASKED}) + '\\n')"
    )

    cell = kernel.start(code)
    kernel.until(lambda: sim.stats().in_flight > 0)
    kernel.interrupt()
    kernel.finish(cell)

    assert cell.error.startswith("CancelledError: Stopped. ")
    assert len(cell.error.splitlines()) == 1


def test_nobody_to_confirm_is_one_line_and_no_question(sim: Simulator, kernel: Kernel) -> None:
    program = TOURNAMENT.format(strategy="batch", provider="openai").replace(", confirm=False", "")

    cell = kernel.run(program)

    assert cell.reply["ename"] == "NotConfirmedError"
    assert "there is no interactive input to confirm it" in cell.error
    assert "Traceback" not in cell.error
    assert sim.stats().batch_jobs == 0
