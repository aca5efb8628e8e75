"""Scripts that end in every way there is, each in a process of its own, and how they ended.

One process imports what all scripts need, and forks for each: importing it fifty times would take two minutes. What is
forked has no thread of ours yet, runs its script as its main module, and ends as any interpreter does.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pydantic import BaseModel, field_validator

import pllm_notebook as pllm

__all__ = ["BATCH", "MODEL", "End", "Quick", "Stuck", "ask_in_child", "at_last", "frame", "ready", "run_all", "stuck"]

MODEL = "here:any"
BATCH = "openai:gpt-6-luna"
_AT_ONCE = 6
# A script that takes longer from its main thread's end, or from its signal, is killed.
_MOST_S = 120.0
_TRIES = 3
_LOOK_S = 0.01


class Quick(BaseModel):
    word: str


class Stuck(BaseModel):
    word: str

    @field_validator("word")
    @classmethod
    def look(cls, value: str) -> str:
        stuck()
        return value


_reached = threading.Event()

at_last: list[Callable[[], object]] = []
"""Called at exit when the engine has ended: what is registered before the engine is imported runs after its end."""


@atexit.register
def _last() -> None:
    for function in at_last:
        function()


def stuck(*_: object) -> Any:
    """Never return; `wait_until_stuck` does from here on."""
    _reached.set()
    threading.Event().wait()


def wait_until_stuck() -> None:
    assert _reached.wait(60)


def frame(rows: int = 3, word: str = "quick") -> pd.DataFrame:
    """Give rows; those with "slow" in their text are never answered, and "tool" calls the function `act`."""
    return pd.DataFrame({"text": [f"{word} {n}" for n in range(rows)]})


def ready() -> None:
    """Say that the signal may come."""
    os.write(1, b"ready\n")


def wait_until_on_wire() -> None:
    """Wait until a run has calls on the wire."""
    while not any(run.progress().in_flight for run in pllm.runs()):
        time.sleep(_LOOK_S)


def ready_on_wire() -> None:
    """Be ready when a run has calls on the wire: an interrupt amid an import could hit Python's own code."""
    wait_until_on_wire()
    ready()


def ready_when_stuck() -> None:
    wait_until_stuck()
    ready()


def ask_in_child(settings: Mapping[str, Any] | None = None) -> int:
    """Ask as a worker process does, and give how many rows were answered."""
    if settings is not None:
        pllm.configure(**settings)
    out = frame().llm.parse(Quick, "{text}", model=MODEL)
    return int(out["word"].notna().sum())


class End(NamedTuple):
    """How a script ended.

    Attributes:
        code: As `subprocess` gives it: negative for a signal.
        seconds: From the end of its main thread's code, or from the signal, to its death.
        out: What it printed.
        errors: What it wrote to stderr.
        main_s: From its start, or from the signal, to the end of its main thread's code; 0 where nobody knows.
        waiting: Processes for each core of the machine when it died, 1 or more.
    """

    code: int
    seconds: float
    out: str
    errors: str
    main_s: float
    waiting: float


class _Going:
    def __init__(self, name: str, pid: int, directory: Path, signals: Sequence[int]) -> None:
        self.name = name
        self.pid = pid
        self.directory = directory
        self.signals = list(signals)
        self.began = time.monotonic()
        self.killed_at: float | None = None

    def look(self) -> None:
        """Send the next signal, if it is ready for it; kill it when it takes too long."""
        now = time.monotonic()
        since = self.killed_at if self.killed_at is not None else self.began
        if self.signals and self.killed_at is None and "ready" in (self.directory / "out").read_text():
            self.killed_at = now
            os.kill(self.pid, self.signals.pop(0))
        elif self.signals and self.killed_at is not None and now - self.killed_at > 0.3:
            os.kill(self.pid, self.signals.pop(0))
        elif now - since > _MOST_S:
            os.kill(self.pid, signal.SIGKILL)

    def ended(self, status: int) -> End:
        now = time.monotonic()
        mark = self.directory / "main_ended"
        main = float(mark.read_text() or 0) if mark.exists() else 0.0
        since = self.killed_at or main or now
        main_s = max(0.0, main - (self.killed_at or self.began))
        out, errors = ((self.directory / name).read_text(errors="replace") for name in ("out", "errors"))
        waiting = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        return End(os.waitstatus_to_exitcode(status), now - since, out, errors, main_s, waiting)


def run_all(scripts: Sequence[tuple[str, str, Sequence[int]]], directory: Path, soon_s: float) -> dict[str, End] | str:
    """In the forking process: run each script, six at once.

    Args:
        scripts: Name, code and the signals that it is sent.
        directory: Where each has one of its own.
        soon_s: One that takes longer to end, times the processes that wait for a core, is run again by itself, and
            counts by its quickest end: what waits for something that does not come takes as long each time, and what
            waits for a core does not.

    Returns:
        In the process that forks, how each ended; in a forked one, the code that it is to run.
    """
    ends = _run(scripts, directory, _AT_ONCE)
    for again in range(1, _TRIES):
        if isinstance(ends, str):
            return ends
        for script in scripts:
            before = ends[script[0]]
            if before.seconds > soon_s * before.waiting:
                end = _run([script], directory / f"again{again}", 1)
                if isinstance(end, str):
                    return end
                ends[script[0]] = min(before, end[script[0]], key=lambda one: one.seconds)
    return ends


def _run(scripts: Sequence[tuple[str, str, Sequence[int]]], directory: Path, at_once: int) -> dict[str, End] | str:
    left, going, ends = list(scripts), dict[int, _Going](), dict[str, End]()
    while left or going:
        while left and len(going) < at_once:
            name, code, signals = left.pop(0)
            own = directory / name
            own.mkdir(parents=True)
            for file in ("out", "errors"):
                (own / file).touch()
            pid = os.fork()
            if not pid:
                _become(own)
                return code
            going[pid] = _Going(name, pid, own, signals)
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            one = going.pop(pid)
            ends[one.name] = one.ended(status)
            continue
        for one in going.values():
            one.look()
        time.sleep(_LOOK_S)
    return ends


def _become(own: Path) -> None:
    """In a forked process: take its own files, and its own cache."""
    for number, (name, flags) in enumerate((("/dev/null", os.O_RDONLY), ("out", os.O_WRONLY), ("errors", os.O_WRONLY))):
        file = os.open(own / name, flags)
        os.dup2(file, number)
        os.close(file)
    os.chdir(own)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup
    pllm.configure(cache_dir=own / "cache")


if __name__ == "__main__":
    import asyncio

    import aiohttp
    import openai  # what each script would load at its first call

    job = json.loads(sys.argv[1])
    SERVERS, ROOT = {"here": job["address"]}, os.getcwd()
    pllm.configure(progress=False, servers=SERVERS)
    gc.freeze()  # no script looks through what is imported for garbage
    found = run_all(job["scripts"], Path(job["directory"]), job["soon_s"])
    if isinstance(found, str):
        globals().update(asyncio=asyncio, aiohttp=aiohttp, openai=openai)
        try:
            exec(compile(found, "script.py", "exec"))
        finally:
            Path("main_ended").write_text(str(time.monotonic()))
    else:
        print(json.dumps(found))
