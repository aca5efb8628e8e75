"""Memory and time of a request file: the peak by which a process grows, and lines per second.

    python -m benchmarks.request_files [--lines 20000 200000] [--concurrency 64]

The simulator runs in the parent process, which is not counted, at zero latency. Each figure is from a fresh process,
because memory that one run has freed is reused by the next. First all lines are sent; then the same file is processed
with a new results file, from the cache; then once more with that results file, so that nothing is left to do. A line
has 1 kB. A tenth of the lines are bare bodies, the others OpenAI's batch lines.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import pllm_notebook as pllm
from benchmarks.rows import PeakMemory
from pllm_notebook.request_files.process_file import OAIApiFromFileConfig, process_api_requests_from_file_sync
from pllm_notebook.sim import Simulator

MOST_BYTES = 250_000_000
SIZE = 1_000


def write(path: str, lines: int) -> None:
    """Write a request file."""
    with open(path, "w") as file:
        for row in range(lines):
            said = f"Read this review, number {row}: ".ljust(SIZE, "x")
            body = {"model": "any", "messages": [{"role": "user", "content": said}]}
            bare = body | {"metadata": {"row": row}}
            batch = {"custom_id": f"r{row}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(batch if row % 10 else bare) + "\n")


def process(requests: str, results: str, cache: str, address: str, concurrency: int) -> dict[str, float]:
    """Process the file in this process, and return the time and memory."""
    pllm.configure(concurrency=concurrency)
    small = f"{requests}.first"
    if not os.path.exists(small):
        write(small, 2 * concurrency)
    given = {"cache_dir": cache, "request_url": f"{address}/chat/completions", "progress": False}
    # A first file, which is not counted, opens the client, its connections and the store.
    process_api_requests_from_file_sync(OAIApiFromFileConfig(requests_filepath=small, **given))
    config = OAIApiFromFileConfig(requests_filepath=requests, save_filepath=results, **given)
    began, cpu = time.perf_counter(), time.process_time()
    with PeakMemory() as memory:
        status = process_api_requests_from_file_sync(config)
    assert status.complete
    assert not status.failed
    took = time.perf_counter() - began
    return {"grown": memory.grown, "s": took, "cpu_s": time.process_time() - cpu, "cached": status.cached}


def in_a_process_of_its_own(*words: object) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.request_files", "--one", *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(process(*given.one[:4], int(given.one[4]))))
        return
    print(
        "| lines | what | grown by, MB | lines a second | CPU us a line |\n| --- | --- | --- | --- | --- |", flush=True
    )
    with Simulator(latency_s=0.0) as sim:
        for lines in sorted(given.lines):
            with tempfile.TemporaryDirectory() as place:
                requests, address = f"{place}/requests.jsonl", sim.base_url("compatible")
                write(requests, lines)
                for what, results in (("sent", "sent"), ("from the cache", "cached"), ("nothing left to do", "cached")):
                    found = in_a_process_of_its_own(
                        requests, f"{place}/{results}.jsonl", f"{place}/cache", address, given.concurrency
                    )
                    assert found["grown"] < MOST_BYTES, found
                    print(
                        f"| {lines:,} | {what} | {found['grown'] / 1e6:.0f} | {lines / found['s']:,.0f} "
                        f"| {found['cpu_s'] / lines * 1e6:,.0f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
