"""Memory of a live row: the peak by which a run grows its process, without the frame.

    python -m benchmarks.memory [--rows 20000 100000] [--concurrency 64 256 1000]

The simulator runs in the parent process, which is not counted, at zero latency. Each figure is from a fresh process,
because memory that one run has freed is reused by the next. A first run of as many calls as will be in flight opens the
client and its connections, and is not counted. The smallest number of rows is run with every concurrency, the others
only with the smallest, so that the bytes per row show what grows with either. 100,000 rows take a minute or two.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile

import pllm_notebook as pllm
from benchmarks.rows import PeakMemory
from benchmarks.start import PROMPT, reviews
from pllm_notebook.sim import Simulator

MOST_BYTES = 3_000


def grown(rows: int, concurrency: int, address: str) -> int:
    """Run in this process, and return the bytes by which it grew at its peak."""
    from benchmarks.calls import Review

    pllm.configure(cache_dir=tempfile.mkdtemp(), progress=False, servers={"here": address})
    reviews(2 * concurrency).llm.parse(Review, PROMPT, model="here:any", concurrency=concurrency, salt="first")
    frame = reviews(rows)
    frame.memory_usage(deep=True)  # pandas builds its own caches of the frame now
    with PeakMemory() as memory:
        out = frame.llm.parse(Review, PROMPT, model="here:any", concurrency=concurrency)
    assert out["score"].notna().all()
    return memory.grown


def in_a_process_of_its_own(rows: int, concurrency: int, address: str) -> int:
    command = [sys.executable, "-m", "benchmarks.memory", "--one", str(rows), str(concurrency), address]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[64, 256, 1000])
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        rows, concurrency, address = given.one
        print(grown(int(rows), int(concurrency), address))
        return
    few = min(given.rows)
    cases = [(few, concurrency) for concurrency in sorted(given.concurrency)]
    cases += [(rows, min(given.concurrency)) for rows in sorted(given.rows) if rows != few]
    print("| rows | at once | grown by, MB | bytes a row | at most |\n| --- | --- | --- | --- | --- |", flush=True)
    with Simulator(latency_s=0.0) as sim:
        for rows, concurrency in cases:
            size = in_a_process_of_its_own(rows, concurrency, sim.base_url("compatible"))
            print(f"| {rows:,} | {concurrency} | {size / 1e6:.0f} | {size / rows:,.0f} | {MOST_BYTES:,} |", flush=True)


if __name__ == "__main__":
    main()
