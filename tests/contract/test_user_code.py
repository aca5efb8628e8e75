"""Validators and tools are the caller's code: what blocks, or exits, fails its own row and is in nobody's way."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import BaseModel, field_validator

import pllm_notebook as pllm
from pllm_notebook import engine
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import Run, live_of
from pllm_notebook.failures import FailureKind
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.scripts import words
from tests.faults.children import PATIENCE_S, until

# Every way that a loop takes a callback; one that Python adds is tried too.
WAYS = [name for name in dir(asyncio.AbstractEventLoop) if name.startswith("call_") and "exception" not in name]
WAYS.append("future")


class Gate:
    """Blocks who comes to it, until the test has ended."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.waiting = 0
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            self.waiting += 1
        self.opened.wait(10 * PATIENCE_S)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


def echo(request: SimRequest) -> Any:
    """Answer with the row's own word."""
    return {"word": request.messages[0][1].rpartition(" ")[2]}


def typed(act: Any) -> type[BaseModel]:
    """Make a type whose validator does *act* with the word "odd"."""

    class Word(BaseModel):
        word: str

        @field_validator("word")
        @classmethod
        def look(cls, value: str) -> str:
            if value == "odd":
                act()
            return value

    return Word


def many(count: int, odd: int) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"w{n}" if n != odd else "odd" for n in range(count)]})


def failure_of(run: Run, row: int) -> Any:
    return live_of(run).table.failure(row)


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("made up")])
def test_what_one_rows_validator_raises_fails_that_row_alone(luna: str, sim: Simulator, raised: BaseException) -> None:
    def act() -> None:
        raise raised

    sim.set(answers=echo)
    frame, kind = many(200, 77), typed(act)

    first = frame.llm.submit(kind, "Say {text}", model=luna, max_repairs=0)
    first.wait()
    again = frame.llm.submit(kind, "Say {text}", model=luna, max_repairs=0)
    again.wait()

    for run in (first, again):
        assert run.state == "done"
        assert [row for row in range(200) if failure_of(run, row) is not None] == [77]
        assert type(raised).__name__ in failure_of(run, 77).message
    assert sim.stats().requests == 200


def test_a_validator_that_does_not_return_fails_its_row_alone(luna: str, sim: Simulator, gate: Gate) -> None:
    sim.set(answers=echo)
    options: dict[str, Any] = {"model": luna, "max_repairs": 0, "validator_timeout_s": 3.0}
    frame, kind = many(40, 7), typed(gate.wait)

    first = frame.llm.submit(kind, "Say {text}", **options)
    first.wait()
    again = frame.llm.submit(kind, "Say {text}", **options)
    again.wait()

    for run in (first, again):
        assert [row for row in range(40) if failure_of(run, row) is not None] == [7]
        assert failure_of(run, 7).kind is FailureKind.SCHEMA
        assert failure_of(run, 7).message == (
            "The type's validators did not return within validator_timeout_s=3 s. The answer is kept: mend the "
            "validators and run the cell again; nothing is paid for twice."
        )
    assert sim.stats().requests == 40
    gate.opened.set()
    assert frame.llm.parse(kind, "Say {text}", **options)["word"].tolist() == frame["text"].tolist()
    assert sim.stats().requests == 40


def test_stopped_runs_whose_validators_are_stuck_leave_the_next_alone(luna: str, sim: Simulator, gate: Gate) -> None:
    sim.set(answers=echo)
    stuck = []
    for n in range(6):
        run = many(3, 1).llm.submit(typed(gate.wait), f"{n}: {{text}}", model=luna)
        until(lambda n=n: gate.waiting > n, "its validator is stuck")
        run.cancel()
        stuck.append(run)

    out = words("a", "b").llm.parse(typed(gate.wait), "Say {text}", model=luna)

    assert out["word"].tolist() == ["a", "b"]
    until(lambda: all(run.done() for run in stuck), "the stopped runs have ended")
    assert {run.state for run in stuck} == {"cancelled"}


def test_a_run_that_is_stopped_while_it_reads_the_cache_ends(luna: str, sim: Simulator, gate: Gate) -> None:
    sim.set(answers=echo)
    quick = typed(lambda: None)
    many(3, 1).llm.parse(quick, "Say {text}", model=luna)
    run = many(3, 1).llm.submit(typed(gate.wait), "Say {text}", model=luna)
    until(lambda: gate.waiting > 0, "its validator is stuck")

    run.cancel()

    until(run.done, "the run has ended")
    assert sim.stats().requests == 3


def test_a_tool_that_does_not_return_is_told_to_the_model(luna: str, sim: Simulator, gate: Gate) -> None:
    def search(query: str) -> str:
        """Search."""
        gate.wait()
        return query

    def by_tool(request: SimRequest) -> Any:
        if not request.results:
            return SimAnswer.tool_calls([("search", {"query": "any"})])
        return {"word": request.results[0][1]}

    sim.set(answers=by_tool)
    options: dict[str, Any] = {"model": luna, "tools": [search], "run_tools": True, "tool_timeout_s": 0.2}

    first = words("a").llm.parse(typed(lambda: None), "Say {text}", **options)
    gate.opened.set()
    again = words("a").llm.parse(typed(lambda: None), "Say {text}", **options)

    assert first["word"].tolist() == ["TimeoutError: the tool did not return within tool_timeout_s=0.2 s"]
    assert again["word"].tolist() == first["word"].tolist()  # what came late was not kept in its place
    assert gate.waiting == 1


def test_tools_that_ask_with_tools_have_threads_at_every_level(luna: str, sim: Simulator) -> None:
    rows = 20  # more than the tools of one run that work at once
    arrived = threading.Barrier(16)

    def inner(query: str) -> str:
        """Look it up."""
        return query

    def outer(query: str) -> str:
        """Ask somebody else."""
        if int(query[1:]) < 16:
            arrived.wait(PATIENCE_S)  # all that may work at once do
        out = words(query).llm.parse(
            typed(lambda: None), "inner {text}", model=luna, tools=[inner], run_tools=True, progress=False
        )
        return str(out["word"][0])

    def by_tool(request: SimRequest) -> Any:
        level, _, word = request.messages[0][1].partition(" ")
        if not request.results:
            return SimAnswer.tool_calls([(level, {"query": word})])
        return {"word": request.results[0][1]}

    sim.set(answers=by_tool)
    frame = pd.DataFrame({"text": [f"w{n}" for n in range(rows)]})

    out = frame.llm.parse(typed(lambda: None), "outer {text}", model=luna, tools=[outer], run_tools=True)

    assert out["word"].tolist() == frame["text"].tolist()


def test_a_decide_function_that_exits_or_blocks_fails_its_row_alone(luna: str, sim: Simulator, gate: Gate) -> None:
    def decide(values: list[Any]) -> Any:
        if values[0].word == "odd":
            sys.exit(1)
        if values[0].word == "w2":
            gate.wait()
        return values[0]

    sim.set(answers=echo)
    run = many(4, 1).llm.submit(
        typed(lambda: None), "Say {text}", model=luna, samples=2, decide=decide, validator_timeout_s=2.0
    )
    run.wait()

    assert [live_of(run).table.failure(row) is None for row in range(4)] == [True, False, False, True]
    assert "SystemExit: 1" in failure_of(run, 1).message
    assert "did not return within validator_timeout_s=2 s" in failure_of(run, 2).message


@pytest.mark.parametrize("how", WAYS)
def test_a_step_that_fails_on_the_loop_ends_whoever_may_wait_for_it(
    luna: str, sim: Simulator, how: str, cache_dir: Path
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("made up")

    def schedule() -> None:
        loop = engine.engine().loop.loop
        if how == "future":
            future = loop.create_future()
            future.add_done_callback(broken)
            future.set_result(None)
        else:
            when = {"call_later": (0.0,), "call_at": (loop.time(),)}.get(how, ())
            getattr(loop, how)(*when, broken)

    sim.set(hang=1.0)
    run = words("a").llm.submit_text("{text}", model=luna, timeout_s=3600)
    until(lambda: sim.stats().in_flight > 0, "a call is on the wire")

    engine.engine().loop.call(schedule)

    with pytest.raises(ZeroDivisionError, match="made up"):
        run.result()
    assert len(WAYS) >= 5
    sim.set(hang=0.0)
    assert words("a").llm.complete("{text}", model=luna).shape[0] == 1


def test_options_of_time_are_above_zero() -> None:
    for name in ("validator_timeout_s", "tool_timeout_s"):
        with pytest.raises(PllmError, match=name):
            pllm.configure(**{name: 0})
