"""Cost of crashes in batch mode: rows paid for twice and rows never finished, for every crash point while sending.

    python -m benchmarks.batch_crashes [--dir /dev/shm]

The scenarios are those of tests/batch/crashes.py, with the real journal on disk and a modelled provider in
virtual time. *dir* is the directory of the journals; a memory file system makes this several times faster.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

from tests.batch.crashes import GRACE_S, Line, table


def show(line: Line) -> None:
    lag = f"{line.lag_s:.0f} s" + (" (beyond grace)" if line.lag_s > GRACE_S else "")
    print(
        f"| {line.name} | {lag} | {line.played:,} | {line.recreated:,} | {line.paid_twice:,} | {line.unfinished:,} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/dev/shm" if os.path.isdir("/dev/shm") else None)
    given = parser.parse_args()
    print(f"Grace period {GRACE_S:.0f} s, two rows a job.\n")
    print("| order, provider | list lags | scenarios | asked more than once | rows paid twice | rows unfinished |")
    print("| --- | --- | --- | --- | --- | --- |")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=given.dir) as directory:
        table(directory, show)
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
