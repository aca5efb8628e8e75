"""Efficiency of a cluster at a rate limit: Dask with one sender (even, skewed, a worker lost), and three senders.

    python -m benchmarks.clusters [--rows 2000] [--times 3] [--requests-per-min 6000] [--unreported]

5 % of the rows of the first and last of 8 partitions are equal. The simulator of OpenAI has one limit, reported in
headers, and a latency of 300 ms; the cluster has three workers with one thread each. The three senders have separate
caches, a third of the limit each, and the calls of their shard; they are timed from the first start to the last end.
With --unreported, the server is a compatible one, whose limit has to be inferred from its refusals.
Efficiency is the time of one run of the same rows in the same minute divided by the cluster's (medians). Rows paid for
twice and refused requests are counted over all rounds.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

import pandas as pd

import pllm_notebook as pllm
from benchmarks.batches import PROMPT, Score
from pllm_notebook.sim import SimRequest, Simulator

PARTITIONS, WORKERS, SENDERS, TWINS = 8, 3, 3, 20
OPENAI_PATH = "/openai/v1"


def rows(count: int) -> pd.DataFrame:
    distinct = count - count // TWINS
    return pd.DataFrame({"text": [f"review {n % distinct}." for n in range(count)]})


def cluster_frame(frame: pd.DataFrame, *, skewed: bool) -> Any:
    import dask.dataframe as dd

    if not skewed:
        return dd.from_pandas(frame, npartitions=PARTITIONS)
    most = len(frame) * 9 // 10
    pieces = [dd.from_pandas(frame[:most], npartitions=1), dd.from_pandas(frame[most:], npartitions=PARTITIONS - 1)]
    return dd.concat(pieces, interleave_partitions=False)


def answer(request: SimRequest) -> dict[str, int]:
    return {"score": len(request.prompt) % 5}


def connect(cache_dir: str, address: str) -> dict[str, Any]:
    """Configure a cache and the simulator at *address*, and return the options for its model."""
    server = not address.endswith(OPENAI_PATH)
    pllm.configure(cache_dir=cache_dir, progress=False, servers={"here": address} if server else {})
    os.environ.update(OPENAI_BASE_URL=address, OPENAI_API_KEY="unused")
    return {"model": "here:any" if server else "openai:gpt-4.1-mini"}


def timed(sim: Simulator, name: str, frame: pd.DataFrame, client: Any, address: str) -> float:
    """Answer the rows with a new cache, and return the seconds."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        given = connect(f"{directory}/cache", address)
        sim.reset()
        begin = time.monotonic()
        if name == "one run":
            frame.llm.parse(Score, PROMPT, **given)
            return time.monotonic() - begin
        data = cluster_frame(frame, skewed=name == "skewed")
        killer = threading.Timer(5.0, kill_one, [client])
        if name == "worker killed":
            killer.start()
        done = data.llm.parse(Score, PROMPT, to=f"{directory}/out", rows=500, **given)
        took = time.monotonic() - begin
        killer.cancel()
        assert len(done) == done["score"].count().compute() == len(frame)
        return took


def sent_by_shards(sim: Simulator, count: int, requests_per_min: float, address: str) -> float:
    """Answer the rows in several independent processes, and return the seconds."""
    sim.reset()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        command = [sys.executable, "-m", "benchmarks.clusters", "--rows", str(count)]
        given = [address, str(requests_per_min / SENDERS), directory]
        senders = [
            subprocess.Popen([*command, "--shard", str(at), *given], stdout=subprocess.PIPE, text=True)
            for at in range(SENDERS)
        ]
        times = [float(time) for sender in senders for time in sender.communicate()[0].split()[-2:]]
    return max(times) - min(times)


def send_shard(count: int, at: str, address: str, requests_per_min: str, directory: str) -> None:
    """Send the calls of one shard when all senders are ready, and print the times of start and end."""
    given = connect(f"{directory}/{at}", address)
    frame = rows(count)
    open(f"{directory}/ready-{at}", "w").close()
    while sum(name.startswith("ready-") for name in os.listdir(directory)) < SENDERS:
        time.sleep(0.01)
    begin = time.monotonic()
    limit = float(requests_per_min)
    frame.llm.parse(Score, PROMPT, shard=(int(at), SENDERS), requests_per_min=limit, **given)
    print(begin, time.monotonic())


def kill_one(client: Any) -> None:
    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--requests-per-min", type=float, default=6_000.0)
    parser.add_argument("--unreported", action="store_true")
    parser.add_argument("--shard", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.shard is not None:
        send_shard(given.rows, *given.shard)
        return
    from distributed import Client, LocalCluster

    frame = rows(given.rows)
    names = ("one run", "even", "skewed", "worker killed", "3 senders by shard")
    took: dict[str, list[float]] = {name: [] for name in names}
    twice: dict[str, int] = dict.fromkeys(names, 0)
    refused: dict[str, int] = dict.fromkeys(names, 0)
    limit = {"requests_per_min": given.requests_per_min, "burst_s": 1.0, "latency_s": 0.3, "latency_sigma": 0.3}
    with Simulator() as sim:
        sim.set(answers=answer, **limit)
        cluster = LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
        with cluster, Client(cluster) as client:
            address = sim.base_url("compatible" if given.unreported else "openai")
            timed(sim, "one run", frame[: given.rows // 4], client, address)  # the limit is known to all rounds
            for _ in range(given.times):
                for name in names:
                    if name == names[-1]:
                        took[name].append(sent_by_shards(sim, given.rows, given.requests_per_min, address))
                    else:
                        took[name].append(timed(sim, name, frame, client, address))
                    stats = sim.stats()
                    twice[name] += stats.answered - stats.distinct
                    refused[name] += stats.refused_429
    print("| rows | efficiency | paid twice | refused |\n| --- | --- | --- | --- |")
    for name in names:
        ratios = [alone / one for alone, one in zip(took["one run"], took[name], strict=True)]
        share = refused[name] / (given.times * given.rows)
        print(f"| {name} | {statistics.median(ratios):.3f} | {twice[name]} | {share:.2%} |")


if __name__ == "__main__":
    main()
