"""Text, structured answers and tools, by every strategy, of three providers: one program, 27 cells."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from pllm_notebook.tools import ToolCallOutput
from tests.contract.cells import CELLS, Cell, page, with_table
from tests.contract.programs import LONG_S, restart
from tests.contract.sides import reach


class City(BaseModel):
    """A city."""

    name: str
    people: int


def weather(city: str) -> str:
    """Tell the weather of a city."""
    raise AssertionError("nobody runs it unasked")


def scripted(request: SimRequest) -> Any:
    if request.results:
        return "It is sunny in Paris." if "sunny in Paris" in request.results[0][1] else "Who knows?"
    if request.tools:
        return SimAnswer.tool_calls([("weather", {"city": "Paris"})])
    return {"name": "Paris", "people": 2_100_000} if request.schema else "Paris"


def program(directory: Path, cell: Cell) -> Any:
    """Ask as the cell says; None where the block ended early."""
    value = None
    with pllm.resume_directory(directory, strategy=cell.strategy, model=cell.side.model, confirm=False) as session:  # type: ignore[arg-type]
        agent = session.agent("one")
        if cell.kind == "text":
            value = agent.ask_llm("The capital of France?").resolve()
        elif cell.kind == "structured":
            value = agent.ask_llm("The capital of France?", text_format=City).resolve_parsed()
        else:
            question = "Is it fine in Paris?"
            asked = agent.ask_llm(question, tools=[weather])
            (call,) = asked.resolve_tool_calls()
            output = ToolCallOutput(call.id, call.name, f"sunny in {call.arguments['city']}")
            value = agent.ask_llm(question, asked, output, tools=[weather]).resolve()
    return value


EXPECTED = {"text": "Paris", "structured": City(name="Paris", people=2_100_000), "tools": "It is sunny in Paris."}


@pytest.mark.sample(5)
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_a_program_asks_for_anything_by_any_strategy_of_any_provider(
    cell: Cell, sim: Simulator, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[SimRequest] = []

    def answer(request: SimRequest) -> Any:
        seen.append(request)
        return scripted(request)

    reach(cell.side, sim, monkeypatch)
    sim.set(answers=answer, batch_s=LONG_S)
    frontiers = 2 if cell.kind == "tools" else 1

    values = []
    for _ in range(frontiers + 1 if cell.strategy == "batch" else 1):
        values.append(program(tmp_path / "session", cell))
        restart()
        sim.advance(LONG_S)
    again = program(tmp_path / "session", cell)

    assert values == [None] * (len(values) - 1) + [EXPECTED[cell.kind]]
    assert again == EXPECTED[cell.kind]
    assert [request.batch for request in seen] == [cell.strategy == "batch"] * frontiers
    assert reduce(lambda body, name: body[name], cell.field.split("."), seen[0].body)


def test_the_table_of_the_page_is_that_of_the_cells() -> None:
    assert with_table(page()) == page()
    assert "| request | OpenAI |" in page()
