"""Forks, suspension and clocks that jump: a run is nobody's but its process's, and time is what passed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from pllm_notebook.sim import Simulator
from tests.faults.children import Child, until

BEGIN = """
import multiprocessing, os, sys, threading, time
from tests.faults.asking import ask, rows, say, settle
cache, address = sys.argv[1:]
settle(cache, address)
def right(out, first):
    return out["number"].tolist() == list(range(first, first + len(out)))
"""

FORKED = """
ask(rows(5)).wait()
run = ask(rows(60), concurrency=4)
children = []
for index in (1, 2):
    pid = os.fork()
    if not pid:
        out = ask(rows(30, first=1000 * index)).result()
        say("child", right=right(out, 1000 * index) and ask(rows(5)).result() is not None)
        os._exit(0)
    children.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
say("ended", right=right(run.result(), 0), codes=codes)
"""

POOLED = """
def work(first):
    return right(ask(rows(20, first=first)).result(), first)
ask(rows(5)).result()
with multiprocessing.get_context("fork").Pool(2) as pool:
    inside = pool.map(work, [1000, 2000, 3000])
say("ended", right=inside + [right(ask(rows(40)).result(), 0)])
"""

INHERITED = """
run = ask(rows(40), concurrency=2)
pid = os.fork()
if not pid:
    try:
        run.result()
    except Exception as error:
        say("child", kind=type(error).__name__, message=str(error))
    os._exit(0)
os.waitpid(pid, 0)
say("ended", right=right(run.result(), 0))
"""

JUMPING = """
from tests.contract.departures import Departures
seen = Departures.here()
real = time.time
jumps = iter([3600.0, -3600.0] * 1000)
time.time = lambda: real() + next(jumps)
run = ask(rows(300), concurrency=8, requests_per_min=5000, max_retries=0)
out = run.result()
say("ended", right=right(out, 0), above=seen.most_above(5000 / 60))
"""

# A second's worth that a limit of 5,000 a minute holds, twice: a pause may come between.
BURST = 2 * (5000 / 60 + 1)


def children(code: str, cache: Path, address: str) -> Child:
    return Child(cache, address, code=BEGIN + code)


def test_parent_and_children_of_a_fork_in_the_middle_of_a_run_all_finish(
    sim: Simulator, address: str, cache_dir: Path
) -> None:
    sim.set(latency_s=0.02)

    child = children(FORKED, cache_dir, address)
    ended = child.expect("ended")
    child.end()

    assert (ended["right"], ended["codes"]) == (True, [0, 0])
    assert [event["right"] for event in child.events if event["event"] == "child"] == [True, True]
    assert sim.stats().repeated == 0
    assert sim.stats().distinct == 60 + 2 * 30


def test_a_pool_of_forked_workers_runs_in_each(sim: Simulator, address: str, cache_dir: Path) -> None:
    child = children(POOLED, cache_dir, address)
    ended = child.expect("ended")
    child.end()

    assert ended["right"] == [True] * 4
    assert child.stderr == ""


def test_a_run_of_the_parent_is_not_waited_for_in_a_child(sim: Simulator, address: str, cache_dir: Path) -> None:
    sim.set(latency_s=0.02)

    child = children(INHERITED, cache_dir, address)
    told = child.expect("child")
    ended = child.expect("ended")
    child.end()

    assert told["kind"] == "PllmError"
    assert told["message"].startswith("This run belongs to the process that this one was forked from")
    assert ended["right"]


def test_a_wall_clock_that_jumps_by_hours_changes_nothing(sim: Simulator, address: str, cache_dir: Path) -> None:
    sim.set(requests_per_min=6000, burst_s=1.0)

    child = children(JUMPING, cache_dir, address)
    ended = child.expect("ended")
    child.end()

    assert ended["right"]
    # A clock that was believed would send all 300 at once.
    assert ended["above"] <= BURST
    assert sim.stats().answered == 300


long = pytest.mark.skipif("PLLM_KILLS" not in os.environ, reason="make kill runs the longer ones")


@pytest.mark.parametrize("moment", ["sending", pytest.param("waiting", marks=long)])
def test_a_run_that_is_suspended_and_resumed_keeps_the_limits_and_fails_no_row(
    sim: Simulator, address: str, cache_dir: Path, moment: str
) -> None:
    sim.set(requests_per_min=6000, burst_s=1.0, latency_s=0.0 if moment == "sending" else 1.0)
    count = 400
    child = Child.asking(
        cache=cache_dir, address=address, count=count, follow=True, per_s=5000 / 60,
        options={"requests_per_min": 5000, "concurrency": 64},
    )  # fmt: skip
    child.expect("begun" if moment == "waiting" else "done")
    until(lambda: sim.stats().requests > 0, "the first call is on its way")
    child.signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    seen = sim.stats().answered + sim.stats().in_flight
    until(lambda: time.monotonic() - stopped_at > 4.0, "the suspension is over")
    held = sim.stats().answered
    child.signal(signal.SIGCONT)
    ended = child.expect("ended")
    child.end()

    assert held <= seen + 64
    assert (ended["right"], ended["kept"]) == (True, count)
    # A run that made up for the time it slept would send what that time allows, on top of what it may always.
    assert ended["above"] <= BURST
    assert sim.stats().answered == count
