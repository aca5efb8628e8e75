"""A kill before and after each change of a file or a table: while opening, while keeping answers, while mending."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pllm_notebook as pllm
from pllm_notebook import engine
from pllm_notebook.sim import Simulator
from pllm_notebook.store import close_stores
from tests.faults.asking import ask, rows, settle
from tests.faults.children import Child, number_in, until

COUNT = 8
OPENING = ["after makedirs", "after CREATE TABLE IF", "before INSERT INTO pllm_store", "before pwrite"]
KEEPING = [
    f"{when} {what}"
    for what in ("BEGIN IMMEDIATE", "INSERT INTO Cache", "UPDATE pllm_store SET", "COMMIT", "pwrite")
    for when in ("before", "after")
]
MENDING = ["before rename", "after rename", "before INSERT INTO Cache", "before COMMIT", "after COMMIT"]

every_step = pytest.mark.skipif("PLLM_KILLS" not in os.environ, reason="make kill runs every step")


@pytest.fixture(scope="module")
def forker() -> Iterator[Child]:
    child = Child("tests.faults.steps")
    yield child
    child.kill()


class Dying:
    """Runs that die, and the same run once more in this process."""

    def __init__(self, forker: Child, sim: Simulator, address: str, folder: Path) -> None:
        self._forker, self._sim, self._address, self._folder = forker, sim, address, folder
        self.deaths = 0

    def die(self, at: int | str, *, opened: bool, cache: Path | None = None) -> str:
        """Kill a run at a step, run it again, and compare; give the step's name, "" where it came to its end."""
        cache = cache or self._folder / f"cache-{at}"
        self._sim.reset()
        said = len(self._forker.events)
        job = {"cache": str(cache), "address": self._address, "count": COUNT, "at": at, "opened": opened}
        self._forker.tell(json.dumps(job))
        code = self._forker.expect("died")["code"]
        events = self._forker.events[said:]
        done = {row for event in events if event["event"] == "done" for row in event["rows"]}
        label = next((str(event["at"]) for event in events if event["event"] == "dies"), "")
        assert code == (-9 if label else 0), self._forker.stderr
        until(lambda: self._sim.stats().in_flight == 0, "the simulator notices that its client is gone")
        paid, sent = self._sim.stats().answered, len(self._sim.requests())

        settle(str(cache), self._address)
        out = ask(rows(COUNT), max_retries=0).result()

        again = {number_in(request["body"]["messages"][-1]["content"]) for request in self._sim.requests()[sent:]}
        assert out["number"].tolist() == list(range(COUNT)), label
        assert not again & done, label
        assert self._sim.stats().answered - COUNT <= paid - len(done), label
        assert pllm.cache.check().ok, label
        close_stores()
        self.deaths += bool(label)
        return label

    def damaged(self, name: object) -> Path:
        """Give a directory with a cache that holds every row and whose head is damaged."""
        cache = self._folder / f"damaged-{name}"
        if not (self._folder / "whole").exists():
            settle(str(self._folder / "whole"), self._address)
            ask(rows(COUNT)).wait()
            close_stores()
        shutil.copytree(self._folder / "whole", cache)
        with (cache / "answers/cache.db").open("r+b") as file:
            file.write(b"\xff" * 100)
        return cache


@pytest.fixture
def dying(forker: Child, sim: Simulator, address: str, tmp_path: Path) -> Iterator[Dying]:
    # Slow enough that the rows are committed in several groups.
    sim.set(latency_s=0.02)
    yield Dying(forker, sim, address, tmp_path)
    engine.shutdown()


@pytest.mark.parametrize("step", OPENING)
def test_a_kill_while_the_cache_is_made_leaves_one_that_opens(dying: Dying, step: str) -> None:
    assert dying.die(step, opened=False) == step


@pytest.mark.sample(5)
@pytest.mark.parametrize("step", KEEPING)
def test_a_kill_while_answers_are_kept_loses_none_that_was_reported(dying: Dying, step: str) -> None:
    assert dying.die(step, opened=True) == step


@pytest.mark.parametrize("step", MENDING)
def test_a_kill_while_a_damaged_cache_is_mended_costs_no_answer(dying: Dying, sim: Simulator, step: str) -> None:
    assert dying.die(step, opened=False, cache=dying.damaged(step)) == step

    assert sim.stats().requests == 0


@every_step
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("where", ["opening", "keeping", "mending"])
def test_a_kill_at_every_step(dying: Dying, sim: Simulator, where: str, record_property: Any) -> None:
    at = 1
    while dying.die(at, opened=where == "keeping", cache=dying.damaged(at) if where == "mending" else None):
        assert where != "mending" or sim.stats().requests == 0
        at += 1

    record_property("steps", {where: dying.deaths})
