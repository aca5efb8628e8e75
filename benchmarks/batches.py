"""Cost of a stream of tables compared with one run: memory by length, and time at a rate limit.

    python -m benchmarks.batches [--rows 1000000] [--size 20000] [--limited 3000] [--times 3]

Memory: peak of a fresh process that streams tables whose answers (5,000 different ones) are all in the cache, for a
fifth of the rows and for all rows. Time: rows answered by a simulator that allows 6,000 requests a minute, as one run
and as a stream of tables of 500 rows, one after the other, each in a fresh process. The result is the ratio.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import pandas as pd
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.sim import SimRequest, Simulator

PROMPT = "Read this review, and answer only from it:\n{text}"
DISTINCT, WIDTH = 5_000, 400


class Score(BaseModel):
    """The number of stars."""

    score: int


def tables(rows: int, size: int, distinct: int) -> Iterator[pd.DataFrame]:
    for first in range(0, rows, size):
        some = range(first, min(first + size, rows))
        yield pd.DataFrame({"text": [f"review {n % distinct}".ljust(WIDTH, ".") for n in some]})


def cached(rows: int, size: int, cache: str, address: str) -> float:
    """Stream rows from the cache, and return the peak of this process in MB."""
    pllm.configure(cache_dir=cache, progress=False, servers={"here": address})
    count = 0
    for part in pllm.parse_batches(tables(rows, size, DISTINCT), Score, PROMPT, model="here:any", rows=size):
        assert part["score"].notna().all()
        count += len(part)
    assert count == rows
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def limited(rows: int, size: int, cache: str, address: str) -> float:
    """Answer rows under the limit, in tables of *size* rows or (0) in one run, and return the seconds."""
    pllm.configure(cache_dir=cache, progress=False, servers={"here": address})
    pd.DataFrame({"text": ["warm"]}).llm.parse(Score, PROMPT, model="here:any")
    begin = time.monotonic()
    if size:
        made = list(pllm.parse_batches(tables(rows, size, rows), Score, PROMPT, model="here:any", rows=size))
    else:
        made = [next(tables(rows, rows, rows)).llm.parse(Score, PROMPT, model="here:any")]
    assert sum(int(part["score"].notna().sum()) for part in made) == rows
    return time.monotonic() - begin


def in_a_process_of_its_own(what: str, *given: object) -> float:
    command = [sys.executable, "-m", "benchmarks.batches", "--one", what, *map(str, given)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1])


def answer(request: SimRequest) -> dict[str, int]:
    return {"score": len(request.prompt) % 5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--limited", type=int, default=3_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        what, rows, size, cache, address = given.one
        print({"cached": cached, "limited": limited}[what](int(rows), int(size), cache, address))
        return
    with Simulator() as sim, tempfile.TemporaryDirectory() as directory:
        sim.set(answers=answer)
        address = sim.base_url("compatible")
        in_a_process_of_its_own("cached", DISTINCT, DISTINCT, directory, address)
        peaks = [
            in_a_process_of_its_own("cached", rows, given.size, directory, address)
            for rows in (given.rows // 5, given.rows)
        ]
        print(f"peak of {given.rows // 5:,} and {given.rows:,} cached rows: {peaks[0]:.0f} and {peaks[1]:.0f} MB, "
              f"ratio {peaks[1] / peaks[0]:.3f}", flush=True)  # fmt: skip
        sim.set(requests_per_min=6_000.0, burst_s=1.0, latency_s=0.3, latency_sigma=0.3)
        ratios = []
        for _ in range(given.times):
            took = []
            for size in (0, 500):
                sim.reset()
                with tempfile.TemporaryDirectory() as fresh:
                    took.append(in_a_process_of_its_own("limited", given.limited, size, fresh, address))
            ratios.append(took[0] / took[1])
            print(f"one run {took[0]:.2f} s, tables of 500 {took[1]:.2f} s, efficiency {ratios[-1]:.3f}", flush=True)
        print(f"median {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
