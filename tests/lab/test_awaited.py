"""Every method of the lab that pays has a twin that is awaited: the same result, a free loop, and a stop that keeps."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.lab.shared_runs import Asked, SharedRuns
from pllm_notebook.sim import SimRequest
from tests.lab.test_improve import PROPOSAL, TASKS, Task, ready
from tests.lab.test_improve import Review as Mood

PROMPTS = {"A": "A {text}", "B": "B {text}"}


class Review(BaseModel):
    """A review."""

    mood: Literal["good", "bad"]


class Sim:
    """Prompt A is always right, B on two rows of three. A call may be held until the test lets it go."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.is_open = threading.Event()
        self.is_open.set()
        self.is_asked = threading.Event()

    def answer(self, request: SimRequest) -> Any:
        self.asked[request.prompt] += 1
        self.is_asked.set()
        self.is_open.wait(60)
        number = int(request.prompt.split()[-1])
        wrong = request.prompt.startswith("B") and number % 3 == 0
        return {"mood": ["good", "bad"][(number + wrong) % 2]}


@pytest.fixture
def sim_model(cache_dir: Path) -> Sim:
    model = Sim()
    pllm.configure(sim={"answers": model.answer}, model="sim:openai")
    return model


def frame_of(rows: int) -> pd.DataFrame:
    return pd.DataFrame({
        "text": [f"text {at}" for at in range(rows)],
        "gold": [["good", "bad"][at % 2] for at in range(rows)],
    })  # fmt: skip


async def compared(frame: pd.DataFrame) -> Any:
    return await pllm.acompare(PROMPTS, Review, on=frame, against="gold", field="mood")


async def raced(frame: pd.DataFrame) -> Any:
    return await frame.llm.arace(Review, PROMPTS, against="gold", field="mood")


async def rechecked(frame: pd.DataFrame, n: int = 20) -> Any:
    return await (await frame.llm.aparse(Review, "A {text}")).llm.arecheck(n=n)


METHODS: dict[str, Callable[[pd.DataFrame], Coroutine[Any, Any, Any]]] = {
    "compare": compared,
    "race": raced,
    "recheck": rechecked,
}


def test_an_awaited_result_is_that_of_the_blocking_method_and_asked_once(sim_model: Sim) -> None:
    frame = frame_of(40)

    found = [asyncio.run(method(frame)) for method in METHODS.values()]
    asked = sim_model.asked.total()
    again = [
        pllm.compare(PROMPTS, Review, on=frame, against="gold", field="mood"),
        frame.llm.race(Review, PROMPTS, against="gold", field="mood"),
        frame.llm.parse(Review, "A {text}").llm.recheck(n=20),
    ]

    assert asked == 80 + 2 * 20  # the race and the rechecked run found what the comparison paid for
    assert sim_model.asked.total() == asked
    assert found[0].labelled == again[0].labelled
    assert [one.accuracy for one in found[1].arms] == [one.accuracy for one in again[1].arms]
    assert found[2].fields == again[2].fields


@pytest.mark.parametrize("name", METHODS)
def test_the_callers_loop_goes_on_while_answers_are_awaited(sim_model: Sim, name: str) -> None:
    sim_model.is_open.clear()

    async def main() -> Any:
        task = asyncio.ensure_future(METHODS[name](frame_of(40)))
        while not sim_model.is_asked.is_set():  # would never be, were the loop blocked
            await asyncio.sleep(0.01)
        sim_model.is_open.set()
        return await task

    assert asyncio.run(main()) is not None


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("compare", "Stopped"),
        ("race", "Race was stopped. Answers so far are kept: run the cell again to continue."),
        ("recheck", "Stopped"),
    ],
)
def test_a_cancelled_call_stops_sending_and_says_what_is_kept(sim_model: Sim, name: str, line: str) -> None:
    frame = frame_of(200)
    if name == "recheck":
        frame.llm.parse(Review, "A {text}")
    sim_model.is_open.clear()
    sim_model.is_asked.clear()
    before = sim_model.asked.total()

    async def main() -> BaseException:
        task = asyncio.ensure_future(METHODS[name](frame))
        while not sim_model.is_asked.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await task
        return cancelled.value

    error: Any = asyncio.run(main())
    sim_model.is_open.set()

    for run in pllm.runs():
        run.wait(60)
        assert run.done()
    assert line in error._render_traceback_()[0]
    assert sim_model.asked.total() - before < 400  # as many as each of them takes at least
    assert asyncio.run(METHODS[name](frame)) is not None


def test_an_interrupt_of_runs_that_go_together_is_shown_in_one_line(sim_model: Sim) -> None:
    sim_model.is_open.clear()
    steps = SharedRuns(None, False, "race").ask([Asked(frame_of(4), Review, "A {text}", {})])
    next(steps)

    with pytest.raises(KeyboardInterrupt) as stopped:
        steps.throw(KeyboardInterrupt())

    sim_model.is_open.set()
    for run in pllm.runs():
        run.wait(60)
    line = "KeyboardInterrupt: Race was stopped. Answers so far are kept: run the cell again to continue."
    shown: Any = stopped.value
    assert shown._render_traceback_() == [line]


def test_a_search_is_awaited_while_its_library_blocks_a_thread(cache_dir: Path) -> None:
    task = Task(TASKS["one rule"])
    ready(task)
    frame = task.frame(120)
    out = frame.llm.parse(Mood, "Say what this is: {text}")
    threads = threading.active_count()

    improved = asyncio.run(out.llm.aimprove(against="gold", field="mood", proposals=3))

    assert improved.found
    requests = len(task.requests)
    assert out.llm.improve(against="gold", field="mood", proposals=3).prompt == improved.prompt
    assert len(task.requests) == requests
    assert not [one for one in threading.enumerate() if one.name == "pllm-callbacks"], threads


def test_a_search_that_is_cancelled_ends_its_thread_and_goes_on(cache_dir: Path) -> None:
    task = Task(TASKS["one rule"])
    is_proposing, is_open = threading.Event(), threading.Event()
    answer: Callable[[SimRequest], Any] = task.answer

    def held(request: SimRequest) -> Any:
        if request.prompt.startswith(PROPOSAL):
            is_proposing.set()
            is_open.wait(60)
        return answer(request)

    pllm.configure(sim={"answers": held}, model="sim:openai")
    out = task.frame(120).llm.parse(Mood, "Say what this is: {text}")

    async def main() -> None:
        search = asyncio.ensure_future(out.llm.aimprove(against="gold", field="mood", proposals=3))
        while not is_proposing.is_set():
            await asyncio.sleep(0.01)
        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search

    asyncio.run(main())
    is_open.set()
    for thread in threading.enumerate():
        if thread.name == "pllm-callbacks":
            thread.join(60)
            assert not thread.is_alive()

    assert out.llm.improve(against="gold", field="mood", proposals=3).found


def test_wrong_arguments_are_errors_of_the_await(sim_model: Sim) -> None:
    frame = frame_of(4)

    with pytest.raises(UsageError, match="Nothing was sent"):
        asyncio.run(pllm.acompare({"A": "A {text}"}, Review, on=frame))
    with pytest.raises(UsageError, match="Nothing was sent"):
        asyncio.run(frame.llm.arace(Review, PROMPTS, against="gold", field="moods"))
    assert not sim_model.asked
