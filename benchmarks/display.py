"""Cost of the run view: the same run in a real kernel, with the view and with `progress=False`.

    python -m benchmarks.display [--rows 6000] [--times 9] [--concurrency 256]

The kernel is a separate process, driven like a notebook's, and all of its messages are received. The simulator answers
at once, so the run is as fast as it can be. The two runs take turns, each with rows that are not in the cache. Ratios
are computed within each round: of wall-clock time, and of the kernel's CPU time, which varies less on a shared machine.

Bytes are the contents of all messages to the browser except streams and kernel states. The messages that open the view,
including its module and style sheet, are sent once and counted separately.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from pllm_notebook.sim import Simulator
from tests.notebook.kernels import Kernel

MOST = 1.05
MOST_BYTES_PER_S = 60_000

_SETUP = """
import json, time
import pandas as pd
import pllm_notebook as pllm
from benchmarks.calls import Review

pllm.configure(servers={{"here": {address!r}}})
"""
_RUN = """
frame = pd.DataFrame({{"text": [f"review {{n}}" for n in range({rows})]}})
given = {{"model": "here:any", "concurrency": {concurrency}, "salt": {salt!r}, "progress": {progress}}}
wall, cpu = time.perf_counter(), time.process_time()
out = frame.llm.parse(Review, "Read:\\n{{text}}", **given)
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
assert out["score"].notna().all()
"""


class CountingKernel(Kernel):
    """A kernel that counts the bytes it sends to the browser."""

    opening = changes = 0

    def _take_output(self, message: dict[str, Any]) -> None:
        kind = message["msg_type"]
        size = len(json.dumps(message["content"], ensure_ascii=False).encode())
        if kind in ("comm_open", "display_data"):
            self.opening += size
        elif kind in ("comm_msg", "update_display_data"):
            self.changes += size
        super()._take_output(message)


def run(kernel: Kernel, rows: int, concurrency: int, salt: str, *, progress: bool) -> tuple[float, float]:
    """Return the wall-clock and kernel CPU seconds of one run."""
    code = _RUN.format(rows=rows, concurrency=concurrency, salt=f"{salt} {progress}", progress=progress)
    cell = kernel.ok(code)
    if bool(cell.outputs) != progress:  # at the end, the view is replaced by its static page
        raise SystemExit(f"The view was {'not ' if progress else ''}shown.")
    wall, cpu = json.loads(cell.stdout)
    return wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=6_000)
    parser.add_argument("--times", type=int, default=9)
    parser.add_argument("--concurrency", type=int, default=256)
    given = parser.parse_args()
    pairs, rates, openings = [], [], []
    with Simulator(latency_s=0.0) as sim:
        setup = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        kernel = CountingKernel(Path(tempfile.mkdtemp()), setup + _SETUP.format(address=sim.base_url("compatible")))
        try:
            for nth in range(given.times + 1):
                # The second one has the larger cache, so the order alternates.
                order = (True, False) if nth % 2 else (False, True)
                took = {}
                for shown in order:
                    kernel.opening = kernel.changes = 0
                    took[shown] = run(kernel, given.rows, given.concurrency, f"round {nth}", progress=shown)
                    if shown and nth:
                        rates.append(kernel.changes / took[shown][0])
                        openings.append(kernel.opening)
                if nth:  # the first round loads the view and opens the client
                    pairs.append((took[True], took[False]))
        finally:
            kernel.close()
    print("| clock | with the view, rows a second | without | with / without | at most |")
    print("| --- | --- | --- | --- | --- |")
    for at, clock in enumerate(("wall", "CPU")):
        shown, hidden = (given.rows / statistics.median(pair[which][at] for pair in pairs) for which in (0, 1))
        ratio = statistics.median(on[at] / off[at] for on, off in pairs)
        print(f"| {clock} | {shown:,.0f} | {hidden:,.0f} | {ratio:.3f} | {MOST} |")
    most, median = max(rates), statistics.median(rates)
    print(f"\nTo the browser: {median:,.0f} bytes a second (most {most:,.0f}, at most {MOST_BYTES_PER_S:,}),")
    print(f"and {statistics.median(openings):,.0f} bytes once, to open the view.")


if __name__ == "__main__":
    main()
