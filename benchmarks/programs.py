"""Duration of a program, asynchronous and synchronous, and its cost when all answers are in the cache.

    python -m benchmarks.programs [--leaves 32] [--latency 0.2] [--times 3]

The program asks all leaves, and then makes one call about all their answers, with the simulator on loopback at a fixed
latency. Each run has its own directory, and strategies take turns. A warm run is the same program once more. Nothing
leaves this machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import pllm_notebook as pllm
from pllm_notebook.sim import Simulator

STRATEGIES = ("sync", "async")
# Number of questions of a warm program.
WARM = 2_000


def program(directory: Path, strategy: str, leaves: int) -> float:
    """Ask the leaves and then the root. Return the seconds."""
    began = time.perf_counter()
    with pllm.resume_directory(directory, strategy=strategy, model="here:any") as session:  # type: ignore[arg-type]
        agent = session.agent("reader")
        replies = [agent.ask_llm(f"Summarise chapter {number} in one sentence.") for number in range(leaves)]
        agent.ask_llm("Put these together.", *session.resolve_all(replies)).resolve()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--leaves", type=int, default=32)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds of each call")
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args()
    took: dict[str, list[float]] = {strategy: [] for strategy in STRATEGIES}
    with Simulator() as sim, tempfile.TemporaryDirectory() as folder:
        pllm.configure(servers={"here": sim.base_url("compatible")}, progress=False)
        sim.set(answers=lambda request: "It rains.")
        program(Path(folder) / "first", "async", given.leaves)  # imports and the first connection are not measured
        sim.set(latency_s=given.latency)
        for turn in range(given.times):
            for strategy in STRATEGIES:
                took[strategy].append(program(Path(folder) / f"{turn}-{strategy}", strategy, given.leaves))
        sim.set(latency_s=0)
        program(Path(folder) / "warm", "async", WARM)
        warm = min(program(Path(folder) / "warm", "async", WARM) for _ in range(given.times))
    sync, fast = (statistics.median(took[strategy]) for strategy in STRATEGIES)
    print(f"| leaves | latency of a call | sync | async | sync / async |\n{'| --- ' * 5}|")
    print(f"| {given.leaves} | {given.latency:g} s | {sync:.2f} s | {fast:.2f} s | {sync / fast:.1f} |")
    print(f"\nWarm: {warm / WARM * 1e6:.0f} us a call, of {WARM:,} in one program")


if __name__ == "__main__":
    main()
