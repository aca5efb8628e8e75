"""Time cost of a cost limit: the same rows with `max_cost_usd` and without.

    python -m benchmarks.ceilings [--rows 1000] [--times 3]

Calls have no `max_output_tokens`; 64 run at once against the simulator in a separate process, 0.3 s each (lognormal).
The true cost is that of the rows without a limit. Wall-clock times are measured in turns. Figures are medians, and
ratios are computed within each round. Nothing leaves this machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

import pandas as pd

import pllm_notebook as pllm
from benchmarks.calls import Review

TIMES_THE_COST = (40.0, 2.0, 1.2)


def ask(rows: int, salt: str, max_cost_usd: float | None) -> tuple[float, float, int]:
    """Ask *rows*. Return the seconds, the cost in US dollars, and the number of answered rows."""
    frame = pd.DataFrame({"text": [f"review number {n}" for n in range(rows)]})
    given: dict[str, Any] = {} if max_cost_usd is None else {"max_cost_usd": max_cost_usd}
    start = time.perf_counter()
    run = frame.llm.submit(Review, "Read:\n{text}", model="sim:openai", concurrency=64, salt=salt, **given)
    out = run.result()
    took = time.perf_counter() - start
    assert run.cost is not None
    return took, run.cost, int(out["score"].notna().sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args()
    pllm.configure(cache_dir=tempfile.mkdtemp(), progress=False, sim={"latency_s": 0.3, "latency_sigma": 0.5})
    _, true_usd, _ = ask(given.rows, "first", None)
    took: dict[float | None, list[float]] = {times: [] for times in (None, *TIMES_THE_COST)}
    answered: dict[float | None, int] = {}
    for turn in range(given.times):
        for times in list(took)[:: 1 if turn % 2 else -1]:
            ceiling = None if times is None else times * true_usd
            seconds, cost_usd, answered[times] = ask(given.rows, f"{turn} {times}", ceiling)
            took[times].append(seconds)
            assert ceiling is None or cost_usd <= ceiling
    print(f"{given.rows:,} rows, ${true_usd:.4f} without a ceiling\n")
    print("| max_cost_usd | s | with / without | answered |\n| --- | --- | --- | --- |")
    for times, seconds_of in took.items():
        name = "none" if times is None else f"{times:g} times the cost"
        ratio = statistics.median(mine / free for mine, free in zip(seconds_of, took[None], strict=True))
        print(f"| {name} | {statistics.median(seconds_of):.1f} | {ratio:.2f} | {answered[times]:,} |")


if __name__ == "__main__":
    main()
