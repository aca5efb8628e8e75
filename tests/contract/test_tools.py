"""Tools through every provider: calls into columns, functions that are run, and chains that are never paid twice."""

from __future__ import annotations

import json
import threading
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel

from pllm_notebook.batch_jobs import batch_dispatcher as batch_lanes
from pllm_notebook.batch_jobs import service as offices
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.sides import Side

ROWS = pd.DataFrame({"text": ["Rome", "Oslo", "Lima"]}, index=["a", "b", "c"])


class Weather(BaseModel):
    """What the weather is like."""

    city: str
    degrees: int


class Forecasts:
    """A tool that counts how often it was run, and for what."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def forecast(self, city: str, unit: Literal["c", "f"] = "c") -> dict[str, Any]:
        """Give the temperature of a city.

        Args:
            city: Its name.
            unit: Celsius or Fahrenheit.
        """
        self.asked.append(city)
        return {"city": city, "degrees": len(city), "unit": unit}


def given(request: SimRequest) -> Any:
    """Give what the first tool gave; Google's results are objects, so that text is put into one."""
    ((_, text), *_) = request.results
    read = json.loads(text)
    return json.loads(read["output"]) if isinstance(read, dict) and "output" in read else read


def by_tools(request: SimRequest) -> Any:
    """Call the tool, and answer from what it gave."""
    if not request.results:
        return SimAnswer.tool_calls([("forecast", {"city": request.prompt.rpartition(" ")[2], "unit": "c"})])
    gave = given(request)
    return SimAnswer.value({"city": gave["city"], "degrees": gave["degrees"]})


def test_functions_are_run_until_the_model_answers(side: Side, sim: Simulator) -> None:
    tool = Forecasts()
    sim.set(answers=by_tools)

    out = ROWS.llm.parse(Weather, "Weather in {text}", model=side.model, tools=[tool.forecast], run_tools=True)

    assert out["city"].tolist() == ["Rome", "Oslo", "Lima"]
    assert out["degrees"].tolist() == [4, 4, 4]
    assert sorted(tool.asked) == ["Lima", "Oslo", "Rome"]
    assert sim.stats().requests == 6


def test_running_the_cell_again_runs_no_function_and_sends_nothing(side: Side, sim: Simulator) -> None:
    tool = Forecasts()
    sim.set(answers=by_tools)
    options: dict[str, Any] = {"model": side.model, "tools": [tool.forecast], "run_tools": True}
    first = ROWS.llm.parse(Weather, "Weather in {text}", **options)

    again = ROWS.llm.parse(Weather, "Weather in {text}", **options)

    pd.testing.assert_frame_equal(first, again, check_flags=False)
    assert len(tool.asked) == 3
    assert sim.stats().requests == 6
    assert again.llm.status.tolist() == ["cached"] * 3


class Ticket(BaseModel):
    """A ticket to be opened."""

    title: str
    urgent: bool = False


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def test_calls_become_columns_with_typed_arguments(side: Side, sim: Simulator) -> None:
    both = [("add", {"a": 1, "b": 2}), ("Ticket", {"title": "x", "urgent": True})]
    sim.set(answers=lambda request: "nothing to do" if "Lima" in request.prompt else SimAnswer.tool_calls(both))

    out = ROWS.llm.call_tools([add, Ticket], "{text}?", model=side.model)

    assert out.index.tolist() == ["a", "b", "c"]
    assert out["tool"].dtype == "string"
    assert out["tool"].tolist()[:2] == ["add", "add"]
    assert out["arguments"].tolist()[:2] == [{"a": 1, "b": 2}] * 2
    assert [call.arguments for call in out["calls"].iloc[0]] == [{"a": 1, "b": 2}, Ticket(title="x", urgent=True)]
    assert out.loc["c", ["tool", "arguments"]].isna().all()
    assert out.loc["c", "calls"] == []


def test_each_call_has_a_line_of_its_own_where_asked_for(side: Side, sim: Simulator) -> None:
    calls = [("Ticket", {"title": "x", "urgent": False}), ("Ticket", {"title": "y", "urgent": True})]
    sim.set(answers=lambda request: "none" if "Lima" in request.prompt else SimAnswer.tool_calls(calls))

    out = ROWS.llm.call_tools([Ticket], "{text}?", model=side.model, explode=True, prefix="t_")

    assert out.index.tolist() == ["a", "a", "b", "b", "c"]
    assert [None if pd.isna(one) else one for one in out["t_tool"]] == ["Ticket"] * 4 + [None]
    assert out["t_arguments"].iloc[1] == Ticket(title="y", urgent=True)
    assert "t_calls" not in out.columns


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, sim: Simulator) -> None:
    """Jobs end at the next look, and looks follow each other."""
    monkeypatch.setattr(offices, "FIRST_LOOK_S", 0.02)
    sim.set(batch_s=0)


@pytest.mark.usefixtures("quick")
def test_each_turn_goes_into_the_next_batch_job(hosted: Side, sim: Simulator) -> None:
    tool = Forecasts()
    sim.set(answers=by_tools)
    options: dict[str, Any] = {"model": hosted.model, "tools": [tool.forecast], "run_tools": True}

    out = ROWS.llm.parse(Weather, "Weather in {text}", mode="batch", confirm=False, **options)
    live = ROWS.llm.parse(Weather, "Weather in {text}", **options)

    assert out["city"].tolist() == ["Rome", "Oslo", "Lima"]
    pd.testing.assert_frame_equal(out, live, check_flags=False)
    stats = sim.stats()
    assert (stats.requests, stats.batch_jobs, stats.batch_lines) == (0, 2, 6)
    assert len(tool.asked) == 3


@pytest.mark.usefixtures("quick")
def test_a_job_waits_for_the_slowest_tool(luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_lanes, "_GATHER_S", 0.0)
    too_soon = threading.Event()

    def forecast(city: str, unit: str = "c") -> dict[str, Any]:
        """Give the temperature of a city."""
        if city == "Rome":
            too_soon.wait(0.3)
        return {"city": city, "degrees": 1}

    def answers(request: SimRequest) -> Any:
        if request.results and "Rome" not in request.prompt:
            too_soon.set()
        return by_tools(request)

    sim.set(answers=answers)

    ROWS.llm.parse(
        Weather, "Weather in {text}", model=luna, tools=[forecast], run_tools=True, mode="batch", confirm=False
    )

    assert sim.stats().batch_jobs == 2


@pytest.mark.usefixtures("quick")
def test_calls_come_by_batch_too(hosted: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.tool_calls([("add", {"a": 1, "b": len(request.prompt)})]))

    out = ROWS.llm.call_tools([add], "{text}?", model=hosted.model, mode="batch", confirm=False)

    assert out["arguments"].tolist() == [{"a": 1, "b": 5}] * 3
