"""A kill at every step of a batch, of each provider's real SDK: nothing is submitted twice, and nothing is lost."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pllm_notebook.sim import SimRequest, Simulator
from tests.contract.sides import ANTHROPIC, GOOGLE, OPENAI, Side
from tests.faults.children import Child

COUNT = 3
ANSWERS = [f"SAY TEXT {n}" for n in range(COUNT)]

every_step = pytest.mark.skipif("PLLM_KILLS" not in os.environ, reason="make kill runs every step")


def answer(request: SimRequest) -> str:
    return request.prompt.upper()


@pytest.fixture(scope="module")
def forker() -> Iterator[Child]:
    child = Child("tests.faults.batch_steps")
    yield child
    child.kill()


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory where there is one: hundreds of journals, each with many commits."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as directory:
        yield Path(directory)


class Dying:
    """Batches whose kernel dies, and the same cell once more in the next kernel."""

    def __init__(self, forker: Child, sim: Simulator, side: Side, folder: Path, **faults: Any) -> None:
        self._forker, self._sim, self._side, self._folder, self._faults = forker, sim, side, folder, faults

    def die(self, at: int, *, fine: bool) -> str:
        """Kill a batch at a step and run its cell again; give the step's name, "" where it came to its end."""
        self._sim.reset()
        self._sim.set(answers=answer, batch_s=0, **self._faults)
        told = self._child(at, fine)
        label = next((str(event["at"]) for event in told if event["event"] == "dies"), "")

        (ended,) = [event for event in self._child(-1, fine) if event["event"] == "ended"]

        stats = self._sim.stats()
        assert ended["answers"] == ANSWERS, label
        assert (stats.batch_jobs, stats.batch_lines, stats.repeated, stats.requests) == (1, COUNT, 0, 0), label
        assert ended["jobs"] == [["done", COUNT]], label
        return label

    def _child(self, at: int, fine: bool) -> list[dict[str, Any]]:
        said = len(self._forker.events)
        environment = {self._side.key: "any-key", self._side.address: self._sim.base_url(self._side.wire)}
        cache = str(self._folder / f"{self._side.id}-{abs(at)}") if at >= 0 else self._cache
        self._cache = cache
        job = {"cache": cache, "environment": environment, "model": self._side.model, "count": COUNT}
        self._forker.tell(json.dumps(job | {"at": at, "fine": fine}))
        code = self._forker.expect("died")["code"]
        events = self._forker.events[said:]
        died = any(event["event"] == "dies" for event in events)
        assert code == (-9 if died else 0), self._forker.stderr
        return events

    def die_everywhere(self, *, fine: bool) -> list[str]:
        """Die at each step in turn; give the steps' names."""
        labels: list[str] = []
        while label := self.die(len(labels) + 1, fine=fine):
            labels.append(label)
        return labels


@pytest.mark.sample(1)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("side", [OPENAI, ANTHROPIC, GOOGLE], ids=lambda side: side.id)
def test_a_kernel_that_dies_at_any_step_of_a_batch_submits_nothing_twice_and_loses_nothing(
    side: Side, sim: Simulator, forker: Child, memory: Path, record_property: Any
) -> None:
    steps = Dying(forker, sim, side, memory).die_everywhere(fine=False)

    record_property("steps", steps)
    kinds = {" ".join(step.split()[:5]) for step in steps}
    assert kinds >= {
        "after commit: INSERT INTO jobs",
        "after commit: UPDATE jobs SET",
        "after commit: INSERT INTO Cache",
    }
    assert sum(step.startswith("after POST") for step in steps) == {"openai": 2, "anthropic": 1, "google": 3}[side.id]


@every_step
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lost", [0, 1], ids=["answered", "lost"])
@pytest.mark.parametrize("side", [OPENAI, ANTHROPIC, GOOGLE], ids=lambda side: side.id)
def test_a_kill_at_every_step_of_a_batch(
    side: Side, lost: int, sim: Simulator, forker: Child, memory: Path, record_property: Any
) -> None:
    steps = Dying(forker, sim, side, memory, batch_create_lost=lost).die_everywhere(fine=True)

    record_property("steps", {side.id: len(steps)})
