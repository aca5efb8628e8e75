"""One cache, several processes and kernels at the same moment."""

from __future__ import annotations

from pathlib import Path

import pytest

import pllm_notebook as pllm
from pllm_notebook.sim import Simulator
from tests.faults.asking import ask, rows
from tests.faults.children import Child
from tests.notebook.kernels import Kernel

COUNT = 300
AT_ONCE = 8

SETUP = """
import sys
sys.path.insert(0, {root!r})
from tests.faults.asking import ask, rows, settle
settle({cache!r}, {address!r})
"""


def test_four_processes_that_ask_the_same_at_once_all_get_it_and_leave_one_whole_cache(
    sim: Simulator, address: str, cache_dir: Path
) -> None:
    sim.set(latency_s=0.01)
    job = {"cache": cache_dir, "address": address, "count": COUNT, "wait": True, "options": {"concurrency": AT_ONCE}}
    children = [Child.asking(**job) for _ in range(4)]
    for child in children:
        child.expect("ready")
    for child in children:
        child.tell()

    ended = [child.expect("ended") for child in children]

    assert [child.end() for child in children] == [0] * 4
    assert [(one["right"], one["kept"], one["unsaved"]) for one in ended] == [(True, COUNT, 0)] * 4
    assert [child.stderr for child in children] == [""] * 4
    assert sim.stats().answered == COUNT
    sim.reset()
    assert ask(rows(COUNT)).result()["number"].tolist() == list(range(COUNT))
    assert sim.stats().requests == 0
    assert pllm.cache.check().ok


def test_processes_that_meet_in_the_middle_pay_for_nothing_twice(sim: Simulator, address: str, cache_dir: Path) -> None:
    sim.set(latency_s=0.01)
    job = {"cache": cache_dir, "address": address, "count": COUNT, "wait": True, "options": {"concurrency": AT_ONCE}}
    children = [Child.asking(**job, reverse=reverse) for reverse in (False, True)]
    for child in children:
        child.expect("ready")
    for child in children:
        child.tell()

    ended = [child.expect("ended") for child in children]

    assert [child.end() for child in children] == [0, 0]
    assert [one["right"] for one in ended] == [True, True]
    assert sim.stats().answered == COUNT


@pytest.mark.kernel
def test_two_kernels_on_one_cache_both_finish(
    sim: Simulator, address: str, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sim.set(latency_s=0.01)
    setup = SETUP.format(root=str(Path(__file__).parents[2]), cache=str(cache_dir), address=address)
    kernels = [Kernel(tmp_path_factory.mktemp("kernel"), setup) for _ in range(2)]
    try:
        cells = [kernel.start(f"out = ask(rows({COUNT}), concurrency={AT_ONCE}).result()") for kernel in kernels]
        for kernel, cell in zip(kernels, cells, strict=True):
            kernel.finish(cell)
            assert cell.status == "ok", cell.error
            assert cell.streams == {"stdout": "", "stderr": ""}
            assert kernel.value("out['number'].tolist()") == list(range(COUNT))
    finally:
        for kernel in kernels:
            kernel.close()

    assert sim.stats().distinct == COUNT
    assert sim.stats().answered == COUNT
    assert pllm.cache.check().ok
