"""kill -9 in the middle of a run: what was reported done is there and is not asked again."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

import pllm_notebook as pllm
from pllm_notebook.sim import Simulator
from tests.faults.asking import ask, rows
from tests.faults.children import Child, number_in, until

KILLS = int(os.environ.get("PLLM_KILLS", "5"))
FIRST = int(os.environ.get("PLLM_FIRST_KILL", "0"))
AT_ONCE = 32


@pytest.mark.sample(2)
@pytest.mark.parametrize("seed", range(FIRST, FIRST + KILLS))
def test_a_killed_run_pays_again_only_for_what_was_in_flight(
    seed: int, sim: Simulator, address: str, cache_dir: Path, record_property: Any
) -> None:
    draw = random.Random(seed)
    count = draw.randrange(300, 2001)
    sim.set(latency_s=draw.choice([0.0, 0.01, 0.05]), latency_sigma=0.5)
    options = {"concurrency": AT_ONCE}

    child = Child.asking(cache=cache_dir, address=address, count=count, follow=True, options=options)
    child.expect("begun")
    wanted = draw.randrange(count)
    while len(child.done_rows()) < wanted:
        child.next()
    child.kill()
    until(lambda: sim.stats().in_flight == 0, "the simulator notices that its client is gone")
    paid, sent, done = sim.stats(), len(sim.requests(20_000)), child.done_rows()
    run = ask(rows(count), **options)
    out = run.result()

    again = {number_in(_prompt(request)) for request in sim.requests(20_000)[sent:]}
    stats = sim.stats()
    assert len(done) >= wanted
    assert not again & done
    assert out["number"].tolist() == list(range(count))
    assert (stats.distinct, stats.rejected) == (count, 0)
    assert stats.answered - count <= paid.answered - len(done)
    assert pllm.cache.check().ok
    ask(rows(count)).wait()
    assert sim.stats().requests == stats.requests
    record_property("kill", {"rows": count, "done": len(done), "paid": paid.answered, "twice": stats.repeated})


def _prompt(request: dict[str, Any]) -> str:
    return str(request["body"]["messages"][-1]["content"])
