"""Ctrl-C in a script and in a kernel's busy cell, other cells' blocking code, and the end of a kernel."""

from __future__ import annotations

import re
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from pllm_notebook.sim import Simulator
from tests.faults.asking import ask, rows
from tests.faults.children import PATIENCE_S, Child, until
from tests.notebook.conftest import SETUP
from tests.notebook.kernels import Kernel


def test_an_interrupted_script_keeps_what_is_finished_and_goes_on_from_there(
    sim: Simulator, address: str, cache_dir: Path
) -> None:
    sim.set(latency_s=0.05)
    child = Child.asking(cache=cache_dir, address=address, count=1000, follow=True, options={"concurrency": 8})
    child.expect("done")
    child.signal(signal.SIGINT)
    failed = child.expect("failed")
    child.end()
    sim.reset()

    out = ask(rows(1000)).result()

    kept = failed["kept"]
    assert failed["kind"] == "KeyboardInterrupt"
    assert re.fullmatch(
        rf"Stopped\. {kept} of 1,000 rows are answered and kept: pllm\.run\('\w+'\)\.to_frame\(\) shows them\. "
        r"Run the cell again to continue\.",
        failed["message"],
    )
    assert child.stderr == ""
    assert out["number"].tolist() == list(range(1000))
    assert sim.stats().requests == 1000 - kept


def test_a_second_interrupt_does_not_wait_for_a_store_that_hangs(sim: Simulator, address: str, cache_dir: Path) -> None:
    sim.set(hang=0.2, faults_by="prompt", latency_s=0.02)
    child = Child.asking(
        cache=cache_dir, address=address, count=500, follow=True, notes=True, patience_s=60, busy_timeout_s=0.1,
        options={"concurrency": 8},
    )  # fmt: skip
    child.expect("done")
    with closing(sqlite3.connect(cache_dir / "answers/cache.db", isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        child.expect("note", lambda event: event["note"] == "waiting for the cache to be written")
        until(lambda: sim.stats().in_flight > 0, "calls hang")
        child.signal(signal.SIGINT)
        until(lambda: sim.stats().in_flight == 0, "the first interrupt cancels what is on the wire")
        child.signal(signal.SIGINT)
        # Still locked: nothing but the second interrupt can have ended the wait.
        failed = child.expect("failed")
        other.execute("ROLLBACK")
    child.end()
    sim.set(hang=0.0)
    sim.reset()

    out = ask(rows(500)).result()

    assert failed["kind"] == "KeyboardInterrupt"
    assert out["number"].tolist() == list(range(500))
    assert sim.stats().requests <= 500 - len(child.done_rows())


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path_factory.mktemp("kernel"), SETUP)
    yield kernel
    kernel.close()


@pytest.mark.kernel
def test_a_background_run_survives_the_blocking_code_of_other_cells(kernel: Kernel) -> None:
    kernel.ok("server = sim(latency_s=0.2)")
    kernel.ok("run = reviews(100, 'beside').llm.submit(bool, 'Read {text}', concurrency=10)")

    # Pure Python that never gives way by itself.
    kernel.ok(
        f"import time\nuntil = time.monotonic() + {PATIENCE_S}\nwhile not run.done() and time.monotonic() < until: pass"
    )

    assert kernel.value("[run.state, run.progress().done, server.stats().requests]") == ["done", 100, 100]


@pytest.mark.kernel
def test_an_interrupt_of_a_busy_cell_is_not_the_background_runs(kernel: Kernel) -> None:
    kernel.ok("server = sim(latency_s=0.2)")
    kernel.ok("run = reviews(100, 'busy').llm.submit(bool, 'Read {text}', concurrency=10)")
    cell = kernel.start("print('busy')\nwhile True: pass")
    kernel.until(lambda: cell.stdout == "busy\n")

    kernel.interrupt()
    kernel.finish(cell)

    assert cell.reply["ename"] == "KeyboardInterrupt"
    kernel.ok("out = run.result()")
    assert kernel.value("[run.state, run.progress().done]") == ["done", 100]


@pytest.mark.sample(1)
@pytest.mark.kernel
@pytest.mark.parametrize("how", ["asked to end", "killed"])
def test_the_end_of_a_kernel_ends_every_process_and_thread_of_ours(
    tmp_path_factory: pytest.TempPathFactory, how: str
) -> None:
    kernel = Kernel(tmp_path_factory.mktemp("kernel"), SETUP)
    kernel.ok("server = sim(hang=1.0)\nrun = reviews(100, 'left').llm.submit(bool, 'Read {text}', timeout_s=3600)")
    kernel.ok("while not server.stats().in_flight: pass")
    (pid,) = {int(kernel.value("__import__('os').getpid()"))}
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    simulator = kernel.value("server.pid")

    kernel.client.stop_channels()
    if how == "killed":
        processes[0].kill()
    kernel.manager.shutdown_kernel(now=False)

    gone, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
    assert simulator in {process.pid for process in gone}
    assert alive == []
