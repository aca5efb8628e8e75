"""Cost and benefit of claims, which prevent two processes from paying for the same row.

    python -m benchmarks.claims [--rows 5000] [--calls 2000] [--times 5] [--processes 4]

Alone: CPU of one process with and without claims, for cached and live calls in turns. The live calls go to the
simulator on loopback at zero latency, 64 at once. Together: seconds in which several processes that start at the same
moment answer the same rows, compared with one process, in turns; each call takes 0.2 s. Figures are medians, and ratios
are computed within each round. Nothing leaves this machine.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import pandas as pd

import pllm_notebook as pllm
from benchmarks.calls import Review, settle_down
from pllm_notebook.sim import Simulator
from pllm_notebook.store import open_store

PROMPT = "Read:\n{text}"
LATENCY_S = 0.2


def frame_of(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"review number {n}" for n in range(rows)]})


def cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def alone(rows: int, times: int, ask: Callable[[int, str], object], *, salted: bool) -> tuple[float, float, float]:
    """Return the CPU in us per row with and without claims, and the ratio. The order changes in each round."""
    took: dict[bool, list[float]] = {True: [], False: []}
    store = open_store()
    kept = store.claims
    for turn in range(times):
        for claims in (True, False) if turn % 2 else (False, True):
            store.claims = kept if claims else None  # type: ignore[assignment]
            salt = f"{turn} {claims}" if salted else "first"
            took[claims].append(cpu(lambda salt=salt: ask(rows, salt)))  # type: ignore[misc]
            settle_down()
    store.claims = kept
    ratio = statistics.median(with_ / without for with_, without in zip(took[True], took[False], strict=True))
    return (*(statistics.median(took[claims]) / rows * 1e6 for claims in (True, False)), ratio)  # type: ignore[return-value]


def child(directory: str, address: str, rows: int) -> None:
    """Ask all rows at the parent's signal, and print the seconds."""
    pllm.configure(cache_dir=directory, progress=False, servers={"here": address}, concurrency=64)
    frame_of(1).llm.parse(Review, "Begin:\n{text}", model="here:any")
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    out = frame_of(rows).llm.parse(Review, PROMPT, model="here:any")
    assert out["score"].notna().all()
    print(time.perf_counter() - start, flush=True)


def together(number: int, rows: int, address: str) -> float:
    """Return the seconds until the last of *number* processes has all answers."""
    directory = tempfile.mkdtemp()
    command = [sys.executable, "-m", "benchmarks.claims", "--child", directory, address, str(rows)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(number)
    ]
    for each in children:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in children:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    return max(float(each.communicate()[0]) for each in children)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=5_000, help="that the cache answers")
    parser.add_argument("--calls", type=int, default=2_000, help="that are sent")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        directory, address, rows = given.child
        child(directory, address, int(rows))
        return
    with Simulator(latency_s=0.0) as sim:
        address = sim.base_url("compatible")
        pllm.configure(cache_dir=tempfile.mkdtemp(), progress=False, servers={"here": address}, concurrency=64)

        def ask(rows: int, salt: str) -> object:
            return frame_of(rows).llm.parse(Review, PROMPT, model="here:any", salt=salt)

        ask(given.rows, "first")
        print("| one process | CPU with claims, us a row | without | with / without |\n| --- | --- | --- | --- |")
        for name, rows, salted in (("cached", given.rows, False), ("live", given.calls, True)):
            with_, without, ratio = alone(rows, given.times, ask, salted=salted)
            print(f"| {name} | {with_:.1f} | {without:.1f} | {ratio:.3f} |", flush=True)
        sim.set(latency_s=LATENCY_S)
        took: dict[int, list[float]] = {given.processes: [], 1: []}
        for turn in range(given.times):
            for number in (1, given.processes) if turn % 2 else (given.processes, 1):
                took[number].append(together(number, given.calls, address))
        ratios = [many / one for many, one in zip(took[given.processes], took[1], strict=True)]
        print(f"\n| {given.processes} processes, s | one, s | ratio |\n| --- | --- | --- |")
        many, one = statistics.median(took[given.processes]), statistics.median(took[1])
        print(f"| {many:.1f} | {one:.1f} | {statistics.median(ratios):.2f} |")


if __name__ == "__main__":
    main()
