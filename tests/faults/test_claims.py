"""Processes that ask the same rows at the same moment pay for each once, live and by batch."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from pllm_notebook.sim import Simulator
from tests.faults.children import Child

LEASE_S = 8.0
LATENCY_S = 0.1

CODE = """
import sys
from pllm_notebook.store.claims import Claims
from tests.faults.asking import ask, rows, say, settle
Claims.__init__.__kwdefaults__["lease_s"] = float(sys.argv[5])
cache, address, count, options = sys.argv[1], sys.argv[2], int(sys.argv[3]), eval(sys.argv[4])
settle(cache, address)
ask(rows(1, first=10**6)).result()
say("ready")
sys.stdin.readline()
run = ask(rows(count), **options)
say("begun")
out = run.result()
there = out["number"].dropna()
say("ended", right=there.tolist() == there.index.tolist(), answered=len(there), numbers=there.tolist())
"""


def starting(
    number: int, cache: Path, address: str, count: int, *, lease_s: float = 60.0, **options: object
) -> list[Child]:
    """Start processes that are ready to ask the same rows, and wait for a word.

    A process that stands still for longer than its lease is taken for dead: only a test of that has a short one.
    """
    children = [Child(cache, address, count, repr(options), lease_s, code=CODE) for _ in range(number)]
    for child in children:
        child.expect("ready")
    return children


@pytest.mark.sample(1)
@pytest.mark.parametrize("number", [2, 4, 8])
def test_processes_that_begin_together_pay_for_each_row_once(
    sim: Simulator, address: str, cache_dir: Path, number: int
) -> None:
    children = starting(number, cache_dir, address, 800)
    sim.set(latency_s=LATENCY_S)
    before = sim.stats()

    for child in children:
        child.tell()
    ended = [child.expect("ended") for child in children]
    for child in children:
        child.end()

    after = sim.stats()
    assert [(event["right"], event["answered"]) for event in ended] == [(True, 800)] * number
    assert (after.requests - before.requests, after.repeated - before.repeated) == (800, 0)
    assert [child.stderr for child in children] == [""] * number


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("options", "distinct"),
    [({"samples": 3}, 120), ({"pack": 5}, 24), ({"max_repairs": 2}, None)],
    ids=["samples", "pack", "repairs"],
)
def test_samples_packs_and_repairs_are_paid_once_too(
    sim: Simulator, address: str, cache_dir: Path, options: dict[str, object], distinct: int | None
) -> None:
    children = starting(2, cache_dir, address, 120, **options)
    sim.set(answers=None, latency_s=LATENCY_S, invalid_json=0.3 if "max_repairs" in options else 0.0)
    before = sim.stats()

    for child in children:
        child.tell()
    ended = [child.expect("ended") for child in children]
    for child in children:
        child.end()

    assert ended[0]["numbers"] == ended[1]["numbers"]
    assert len(ended[0]["numbers"]) > 60
    after = sim.stats()
    assert after.requests - before.requests == int(str(options.get("samples", 1))) * (after.distinct - before.distinct)
    assert distinct in (None, after.distinct - before.distinct)


def test_of_a_killed_process_the_others_finish_the_rows_when_its_lease_has_ended(
    sim: Simulator, address: str, cache_dir: Path
) -> None:
    killed, other = starting(2, cache_dir, address, 600, lease_s=LEASE_S, concurrency=16)
    sim.set(latency_s=0.3)
    before = sim.stats()
    killed.tell()
    killed.expect("begun")
    other.tell()
    while sim.stats().requests - before.requests < 100:
        time.sleep(0.01)

    os.kill(killed.pid, signal.SIGKILL)
    at = time.monotonic()
    ended = other.expect("ended")
    took_s = time.monotonic() - at
    other.end()

    after = sim.stats()
    assert (ended["right"], ended["answered"]) == (True, 600)
    assert after.repeated - before.repeated <= 16
    # Alone it has 500 rows to ask, 16 at a time; what the dead one had claimed is free after the lease.
    assert took_s < 500 / 16 * 0.3 + LEASE_S + 120
