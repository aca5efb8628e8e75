"""Effect of `hedge=True` on the end of a run, and its cost, in virtual time.

    python -m benchmarks.stragglers [--calls 3000] [--concurrency 64 256] [--seeds 20]

The engine's own dispatcher uses a modelled provider with lognormal latencies (median 1 s, sigma 1.0), one in a
hundred of which is ten times as long. Nothing is sent. Figures are medians over the seeds.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics

from pllm_notebook.engine import Limiter
from tests.engine.virtual import Calls, ModelServer, dispatcher_to, run_virtual


def heavy_tailed(rng: random.Random) -> float:
    return rng.lognormvariate(0.0, 1.0) * (10 if rng.random() < 0.01 else 1)


def makespan_s(count: int, concurrency: int, seed: int, *, hedge: bool) -> tuple[float, int]:
    """Return the virtual seconds until the last of *count* calls was answered, and the number of requests."""

    async def main() -> tuple[float, int]:
        server = ModelServer(latency_s=heavy_tailed, rng=random.Random(seed))
        calls = Calls([str(n) for n in range(count)], concurrency=concurrency, timeout_s=1e6)
        calls.feed.spare = (lambda job: True) if hedge else None
        dispatcher_to(server, Limiter(window=1000)).attach(calls.feed)
        await calls.all()
        return asyncio.get_running_loop().time(), server.requests

    return run_virtual(main)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--seeds", type=int, default=20)
    given = parser.parse_args()
    print("| at once | without, s | with `hedge`, s | with / without | requests sent twice |")
    print("| --- | --- | --- | --- | --- |")
    for concurrency in given.concurrency:
        pairs = [
            [makespan_s(given.calls, concurrency, seed, hedge=hedge) for hedge in (False, True)]
            for seed in range(given.seeds)
        ]
        without = statistics.median(plain[0] for plain, _ in pairs)
        hedged = statistics.median(twice[0] for _, twice in pairs)
        ratio = statistics.median(twice[0] / plain[0] for plain, twice in pairs)
        extra = statistics.median(twice[1] - given.calls for _, twice in pairs)
        share = extra / given.calls
        print(f"| {concurrency} | {without:.1f} | {hedged:.1f} | {ratio:.2f} | {extra:.0f} ({share:.1%}) |")


if __name__ == "__main__":
    main()
