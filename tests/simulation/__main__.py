"""`python -m tests.simulation SEED …` replays lives; `--seeds 20000` lives that many, from `--first` on."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.life import live


def main() -> int:
    """Live, and tell every life in which something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", nargs="*", type=int, help="lives to replay, with all that happened in them")
    parser.add_argument("--seeds", type=int, default=0, help="number of lives")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    given = parser.parse_args()
    failed = 0
    for seed in given.seed:
        lived = live(seed)
        for event in lived.trace:
            print(*event)
        print(f"seed {seed}: {lived.runs} runs, {lived.kills} kills, {lived.paid}")
        print("\n".join(lived.faults) or "everything held")
        failed += bool(lived.faults)
    began, spent, runs, kills, requests = time.monotonic(), time.process_time(), 0, 0, 0
    for seed in range(given.first, given.first + given.seeds):
        lived = live(seed)
        runs, kills, requests = runs + lived.runs, kills + lived.kills, requests + lived.requests
        if lived.faults:
            failed += 1
            print(f"seed {seed}: {lived.faults[0]}\n  python -m tests.simulation {seed}", flush=True)
    if given.seeds:
        took, cpu = time.monotonic() - began, time.process_time() - spent
        print(
            f"{given.seeds:,} lives, {runs:,} runs, {kills:,} kills, {requests:,} requests: {failed} failed; "
            f"{took:,.0f} s, {cpu:,.0f} s of CPU, {runs / cpu * 60:,.0f} runs a minute of CPU"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
