"""The engine ends while a run is going: whoever waits is told, and nothing of ours goes on."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pllm_notebook import engine
from pllm_notebook.engine.shared_engine import engine as start_engine
from pllm_notebook.exceptions import PllmError, RunInterrupted
from pllm_notebook.execution import Run, live_of
from pllm_notebook.sim import Simulator
from pllm_notebook.store import open_store
from tests.faults.asking import ask, rows
from tests.faults.children import PATIENCE_S, until

OWN = (617, 7, 9)


@pytest.fixture(autouse=True)
def own_thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*OWN)
    yield
    gc.set_threshold(*before)


@pytest.fixture
def going(sim: Simulator, address: str) -> Run:
    """A run whose first calls hang and would hang for an hour."""
    sim.set(hang=1.0)
    run = ask(rows(100), timeout_s=3600)
    until(lambda: sim.stats().in_flight > 0, "calls are on the wire")
    return run


def test_a_shutdown_ends_the_run_for_a_thread_that_waits(going: Run) -> None:
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            going.result()
        except BaseException as error:
            errors.append(error)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    engine.shutdown()
    waiter.join(PATIENCE_S)

    (error,) = errors
    assert isinstance(error, RunInterrupted)
    assert going.state == "cancelled"


def test_a_shutdown_ends_the_run_for_a_task_that_awaits(going: Run) -> None:
    async def awaiting() -> None:
        waiter = asyncio.ensure_future(live_of(going).until_ended())
        await asyncio.sleep(0)
        await asyncio.to_thread(engine.shutdown)
        await asyncio.wait_for(waiter, PATIENCE_S)

    asyncio.run(awaiting())

    assert going.state == "cancelled"


def test_a_shutdown_puts_the_collector_back_and_leaves_no_thread_of_the_engine(going: Run) -> None:
    eased = gc.get_threshold()

    engine.shutdown()

    assert eased != OWN
    assert gc.get_threshold() == OWN
    assert [thread.name for thread in threading.enumerate() if thread.name == "pllm-engine"] == []


def test_a_loop_that_is_stopped_behind_our_back_ends_its_runs_all_the_same(going: Run, sim: Simulator) -> None:
    loop = engine.engine().loop

    loop.loop.call_soon_threadsafe(loop.loop.stop)
    loop.thread.join(PATIENCE_S)

    assert going.done()
    with pytest.raises(PllmError, match="engine of this run was shut down"):
        going.result()
    assert gc.get_threshold() == OWN
    until(lambda: sim.stats().in_flight == 0, "no connection is open any more")


def test_a_shutdown_keeps_what_has_arrived(sim: Simulator, address: str) -> None:
    sim.set(latency_s=0.02)
    run = ask(rows(2000), concurrency=8)
    until(lambda: run.progress().done > 20, "some rows are answered")

    engine.shutdown()

    answered = sim.stats().answered
    assert open_store().check()[0] == live_of(run).execution.kept
    assert live_of(run).execution.kept > 20
    assert answered - live_of(run).execution.kept <= 8  # cut off while their answers were on the way


def test_after_a_shutdown_the_run_is_not_gone_on_with_and_the_cell_can_be_run_again(going: Run, sim: Simulator) -> None:
    engine.shutdown()
    sim.set(hang=0.0)

    with pytest.raises(PllmError, match="The engine of this run was shut down"):
        going.retry()

    assert going.done()
    assert ask(rows(100)).result()["number"].tolist() == list(range(100))


def test_a_shutdown_does_not_wait_for_answers_that_cannot_be_stored(
    sim: Simulator, address: str, cache_dir: Path
) -> None:
    store = open_store()
    with store.change_lock:  # the writer waits for it as for a disk that does not answer
        run = ask(rows(3))
        until(lambda: store.backlog_bytes > 0, "an answer waits to be written")
        engine.shutdown(grace_s=0.0)

        with pytest.raises(RunInterrupted):
            run.result()
    store.flush()

    assert store.check()[0] > 0


def test_a_shutdown_from_the_engines_own_thread_returns_and_ends_it(going: Run) -> None:
    running = start_engine()

    running.loop.call(engine.shutdown)

    until(going.done, "the run ends")
    until(lambda: not running.loop.alive, "the thread ends")
