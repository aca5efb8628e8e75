"""A paused run keeps no call from other processes, those in flight aside: not what waits to be sent again either."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pllm_notebook as pllm
from pllm_notebook.execution import live_of
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from pllm_notebook.store import open_store
from pllm_notebook.store.claims import Claims
from tests.contract.scripts import words

PATIENCE_S = 60.0

pytestmark = pytest.mark.filterwarnings("ignore:.*rows? failed")


class Gate:
    """Answers that are held until the gate opens: first an error that can pass, then what they should be."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.asked = 0

    def __call__(self, request: SimRequest) -> Any:
        self.asked += 1
        if self.opened.is_set():
            return request.prompt.upper()
        self.opened.wait(PATIENCE_S)
        return SimAnswer.status(500)


@pytest.fixture
def gate(sim: Simulator) -> Iterator[Gate]:
    made = Gate()
    sim.set(answers=made)
    yield made
    made.opened.set()


@pytest.fixture
def other(cache_dir: Path) -> Iterator[Claims]:
    """Another process with this cache, as far as claims go."""
    claims = Claims(str(cache_dir))
    yield claims
    claims.close()


def until(true: Callable[[], Any]) -> None:
    ends_at = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def take_all(other: Claims, keys: list[str]) -> None:
    """Claim keys as they become free, each of them once: what is taken twice is released twice."""
    left = set(keys)

    def taken() -> bool:
        left.difference_update(other.take("live", list(left)).granted)
        return not left

    until(taken)


def paused(gate: Gate, luna: str, **options: Any) -> pllm.Run:
    """Return a paused run whose calls have all failed, and are to be sent again."""
    run = words("one", "two").llm.submit_text("{text}", model=luna, **options)
    requests = 1 if "pack" in options else 2
    until(lambda: gate.asked == requests)  # all of them: one that arrives later finds the gate open
    run.pause()
    gate.opened.set()
    until(lambda: run.progress().in_flight == 0)
    return run


@pytest.mark.parametrize("options", [{}, {"pack": 2}], ids=["rows", "pack"])
def test_what_waits_to_be_sent_again_is_free_while_its_run_is_paused(
    luna: str, gate: Gate, other: Claims, options: dict[str, Any]
) -> None:
    run = paused(gate, luna, **options)

    keys = list(live_of(run).table.keys)
    take_all(other, keys)
    run.cancel()


@pytest.mark.parametrize("options", [{}, {"pack": 2}], ids=["rows", "pack"])
def test_a_run_that_goes_on_leaves_what_others_send_by_now_to_them(
    luna: str, gate: Gate, other: Claims, options: dict[str, Any]
) -> None:
    run = paused(gate, luna, **options)
    asked, keys = gate.asked, list(live_of(run).table.keys)
    take_all(other, keys)

    run.resume()
    until(lambda: "answered elsewhere" in run.progress().note)
    assert gate.asked == asked
    other.release("live", keys)
    out = run.result()

    assert out["answer"].tolist() == ["ONE", "TWO"]
    assert gate.asked > asked


def test_an_answer_that_came_during_a_pause_is_not_paid_for_again(
    luna: str, gate: Gate, other: Claims, cache_dir: Path
) -> None:
    run = paused(gate, luna)
    asked, keys = gate.asked, list(live_of(run).table.keys)
    take_all(other, keys)
    # As another process would write it: it has asked, and stored what came.
    store = open_store()
    other.release("live", keys)
    words("one", "two").llm.complete("{text}", model=luna)
    store.flush()

    run.resume()
    out = run.result()

    assert out["answer"].tolist() == ["ONE", "TWO"]
    assert gate.asked == asked + 2


def test_what_becomes_free_while_a_run_is_paused_stays_free(luna: str, gate: Gate, other: Claims) -> None:
    first = words("one", "two").llm.submit_text("{text}", model=luna)
    until(lambda: gate.asked == 2)
    keys = list(live_of(first).table.keys)
    first.cancel()
    first.wait()
    take_all(other, keys)
    third = Claims(str(Path(pllm.cache.directory)))
    run = words("one", "two").llm.submit_text("{text}", model=luna)
    until(lambda: "answered elsewhere" in run.progress().note)
    run.pause()
    until(lambda: run.progress().note == "paused")

    other.release("live", keys)
    # It looks at them, and finds them free: it must not hold them then.
    until(lambda: not live_of(run).execution.queues[0].order.elsewhere)

    until(lambda: third.take("live", keys).granted == set(keys))
    third.close()
    run.cancel()
