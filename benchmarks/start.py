"""Waiting time before the first row is asked: importing, loading the magics, and planning.

    python benchmarks/start.py [--rows 100000] [--planned 1000000] [--times 9]

Imports are timed in fresh processes that take turns, by the time of the import statement alone; ratios are computed
within each round. First paint is the time until the simulator has received the 20th request of a large frame: warm
from the call, in a process with a running engine and a loaded SDK; cold from the first line of a script that imports
pandas and this package, builds the frame and asks. There, the simulator runs in the parent process, since no real run
starts one. Planning is measured with a frame that has no cached answers and of which nothing is sent: the longest
time that the engine's loop was blocked, and the memory per row, without the frame, when all rows are planned and wait
to be sent. Nothing leaves this machine.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from typing import Any, NamedTuple

from pllm_notebook.execution import live_of
from pllm_notebook.sim import Simulator

FIRST = 20
PROMPT = "Read this review:\n{text}"

# What each fresh process runs; it prints seconds of the wall clock and of its own CPU.
_TIMED = """
import time
wall, cpu = time.perf_counter(), time.process_time()
{work}
print(time.perf_counter() - wall, time.process_time() - cpu)
"""
_SHELL = """
import os, tempfile
os.environ["IPYTHONDIR"] = tempfile.mkdtemp()
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
{before}
""" + _TIMED.replace("{work}", 'shell.run_line_magic("load_ext", "pllm_notebook")')
_COLD = """
import time
started = time.monotonic()
import pandas as pd
import pllm_notebook as pllm
from pydantic import BaseModel

class Review(BaseModel):
    product: str
    score: int

pllm.configure(cache_dir={cache!r}, progress=False, servers={{"here": {address!r}}})
frame = pd.DataFrame({{"text": [f"review {{n}}: it works as it should." for n in range({rows})]}})
run = frame.llm.submit(Review, {prompt!r}, model="here:any")
print(started, flush=True)
input()
run.cancel()
run.wait()
"""


class Cost(NamedTuple):
    """Seconds of one piece of work."""

    wall: float
    cpu: float


def fresh(code: str) -> Cost:
    """Time *code* in a fresh process."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    wall, cpu = done.stdout.split()[-2:]
    return Cost(float(wall), float(cpu))


def imports(times: int) -> list[tuple[str, str, str]]:
    """Time the imports, taking turns."""
    kinds = {
        "pandas": _TIMED.format(work="import pandas"),
        "ours": _TIMED.format(work="import pllm_notebook"),
        "load_ext": _SHELL.format(before="import pandas"),
        "load_ext, pandas too": _SHELL.format(before=""),
    }
    taken: dict[str, list[Cost]] = {kind: [] for kind in kinds}
    for nth in range(times + 1):
        for kind, code in kinds.items():
            cost = fresh(code)
            if nth:  # the first round reads the files into memory
                taken[kind].append(cost)
    pairs = list(zip(taken["ours"], taken["pandas"], strict=True))
    wall = statistics.median(ours.wall / pandas.wall for ours, pandas in pairs)
    cpu = statistics.median(ours.cpu / pandas.cpu for ours, pandas in pairs)
    alone = statistics.median(pandas.wall for _, pandas in pairs)
    loaded, whole = (statistics.median(c.cpu for c in taken[kind]) for kind in ("load_ext", "load_ext, pandas too"))
    return [
        ("`import pandas`, wall", f"{alone:.3f} s", ""),
        ("`import pllm_notebook` / `import pandas`, wall", f"{wall:.2f}", "1.15"),
        ("the same, CPU", f"{cpu:.2f}", "1.15"),
        ("`%load_ext pllm_notebook`, CPU", f"{loaded:.2f} s", "0.3 s"),
        ("the same where it has to import pandas too, CPU", f"{whole:.2f} s", ""),
    ]


def reached(sim: Simulator, requests: int) -> float:
    """Wait until *sim* has received that many requests, and return the time."""
    latest = time.monotonic() + 60.0
    while sim.stats().requests < requests:
        if time.monotonic() > latest:
            raise SystemExit("The requests did not come.")
        time.sleep(0.001)
    return time.monotonic()


def cold(sim: Simulator, rows: int) -> float:
    """Return the seconds from the first line of a script to its 20th request."""
    sim.reset()
    address = sim.base_url("compatible")
    code = _COLD.format(cache=tempfile.mkdtemp(), address=address, rows=rows, prompt=PROMPT)
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as script:
        at = reached(sim, FIRST)
        assert script.stdout is not None
        started = float(script.stdout.readline())
        script.communicate(b"\n")
    return at - started


def reviews(rows: int) -> Any:
    import pandas as pd

    return pd.DataFrame(
        {"text": [f"review {n}: it works as it should, and I would buy it again." for n in range(rows)]}
    )


def warm(sim: Simulator, rows: int, times: int) -> list[float]:
    """Return the seconds from the call to the 20th request, for repeated calls in this process."""
    taken = []
    frame = reviews(rows)
    for nth in range(times + 1):
        sim.reset()
        start = time.monotonic()
        run = frame.llm.submit(bool, PROMPT, model="here:any", salt=f"warm {nth}")
        taken.append(reached(sim, FIRST) - start)
        run.cancel()
        run.wait()
    return taken[1:]  # the first one opened the client


class Deaf:
    """The longest time by which a loop missed its 1 ms timer."""

    def __init__(self, loop: Any) -> None:
        self._loop, self._on, self.longest_s = loop, True, 0.0
        loop.call_soon_threadsafe(self._tick, time.perf_counter())

    def _tick(self, before: float) -> None:
        now = time.perf_counter()
        self.longest_s = max(self.longest_s, now - before)
        if self._on:
            self._loop.call_later(0.001, self._tick, now)

    def end(self) -> float:
        self._on = False
        return self.longest_s


def planned(rows: int, traced: bool) -> tuple[float, float, float]:
    """Plan a frame that waits for one unanswered request.

    Returns:
        Seconds until all rows are planned, the longest time that the loop was blocked, and bytes per row
        (0 unless *traced*, which is five times as slow).
    """
    from pllm_notebook.engine.shared_engine import engine

    frame = reviews(rows)
    gc.collect()
    if traced:
        tracemalloc.start()
    deaf, start = Deaf(engine().loop.loop), time.perf_counter()
    run = frame.llm.submit(bool, PROMPT, model="here:any", concurrency=1, salt=f"planned {traced}")
    while not live_of(run).execution.results.planned:
        time.sleep(0.01)
    took, longest = time.perf_counter() - start, deaf.end()
    held = 0
    if traced:
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    run.cancel()
    run.wait()
    return took, longest, held / rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--planned", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=9)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = imports(given.times)
    with Simulator(latency_s=0.3) as sim:
        colds = [cold(sim, given.rows) for _ in range(max(3, given.times // 2) + 1)][1:]
        import pllm_notebook as pllm

        pllm.configure(cache_dir=tempfile.mkdtemp(), progress=False, servers={"here": sim.base_url("compatible")})
        warms = warm(sim, given.rows, given.times)
        sim.set(latency_s=600.0)
        took, longest, _ = planned(given.planned, traced=False)
        _, _, held = planned(given.planned // 4, traced=True)
    lines += [
        (f"first {FIRST} of {given.rows:,} rows on their way, warm", f"{statistics.median(warms):.2f} s", "0.5 s"),
        ("the same, cold", f"{statistics.median(colds):.2f} s", "3 s"),
        (f"planning {given.planned:,} rows", f"{took:.1f} s ({took / given.planned * 1e6:.1f} us a row)", ""),
        ("longest time the engine's loop was deaf meanwhile", f"{longest * 1000:.0f} ms", "50 ms"),
        ("held for each row that is planned", f"{held:.0f} bytes", "300 bytes"),
    ]
    print("| what | figure | at most |\n| --- | --- | --- |")
    for line in lines:
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
