"""What a child process does: ask rows of the simulator as a script would, and say on its output how far it is.

A line of its output is one JSON object with the key "event"; what it may not know beforehand it is told on its
input. The faults are the test's: nothing here knows of any, save how long the store is to be patient.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pandas as pd
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.execution import Run, live_of
from pllm_notebook.store import DiskStore, open_store
from tests.contract.departures import Departures

__all__ = ["MODEL", "PROMPT", "Note", "ask", "be_patient", "follow", "main", "rows", "say", "settle"]

MODEL = "here:any"
PROMPT = "Read {text}"
# A line below this many bytes reaches a pipe whole, whatever kills the process meanwhile.
_ROWS_A_LINE = 200
_LOOK_S = 0.005


class Note(BaseModel):
    """What was read.

    Attributes:
        number: The number that the row's own text names: another row's answer would show.
        note: Of the size that the reply should have.
    """

    number: int
    note: str


def rows(count: int, first: int = 0) -> pd.DataFrame:
    """Give rows numbered from *first*."""
    return pd.DataFrame({"text": [f"review number {first + n}." for n in range(count)]})


def settle(cache: str, address: str) -> None:
    """Have runs of this process go to the simulator at *address* and keep their answers in *cache*."""
    pllm.configure(cache_dir=cache, progress=False, servers={"here": address})


def be_patient(seconds: float, busy_timeout_s: float = 5.0) -> None:
    """Have stores that are opened from now on try for *seconds*, where a person would wait for a minute."""
    defaults = DiskStore.__init__.__kwdefaults__
    assert defaults is not None
    defaults.update(patience_s=seconds, busy_timeout_s=busy_timeout_s)


def ask(frame: pd.DataFrame, **options: Any) -> Run:
    """Begin a run."""
    return frame.llm.submit(Note, PROMPT, model=MODEL, **options)


def say(event: str, **values: Any) -> None:
    """Write one line, at once and whole."""
    os.write(1, json.dumps({"event": event} | values).encode() + b"\n")


def follow(run: Run, total: int) -> None:
    """Say of each row that the run reports it as done, as soon as it does, until the run has ended."""
    open_rows = set(range(total))
    ended = False
    while not ended:
        ended = run.done()
        done = [row for row in open_rows if live_of(run).table.status(row) in ("ok", "cached")]
        open_rows.difference_update(done)
        for at in range(0, len(done), _ROWS_A_LINE):
            say("done", rows=done[at : at + _ROWS_A_LINE])
        live_of(run)._end.ended.wait(_LOOK_S)


def main(job: dict[str, Any]) -> None:
    """Ask rows as *job* says: `count` of them from `first` on, in reverse order with `reverse`, after "go" with `wait`,
    which comes after the opening of the store with `opened`. It says by how many more requests than `per_s` allows the
    busiest time exceeded that.
    """
    settle(job["cache"], job["address"])
    seen = Departures.here()
    if "patience_s" in job:
        be_patient(job["patience_s"], job.get("busy_timeout_s", 5.0))
    frame = rows(job["count"], job.get("first", 0))
    if job.get("reverse"):
        frame = frame[::-1]
    if job.get("opened"):
        open_store()
    say("ready")
    if job.get("wait"):
        sys.stdin.readline()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            run = ask(frame, **job.get("options", {}))
            say("begun")
            follower = threading.Thread(target=follow, args=(run, len(frame)), daemon=True)
            if job.get("follow"):
                follower.start()
            if job.get("notes"):
                threading.Thread(target=_say_notes, args=(run,), daemon=True).start()
            try:
                out = run.result()
            finally:
                # A second interrupt does not wait for the run's end, and neither does its follower.
                if job.get("follow") and run.done():
                    follower.join()
            wanted = [int(text.split()[-1][:-1]) for text in frame["text"]]
            right = bool(out["number"].notna().all()) and out["number"].tolist() == wanted
            say("ended", right=right, above=seen.most_above(job.get("per_s", 0.0)), **_counts(run))
        except BaseException as error:
            say("failed", kind=type(error).__name__, message=str(error), **_counts(list(pllm.runs()[-1:])))
    for one in told:
        say("warned", message=str(one.message))


def _counts(run: Run | list[Run]) -> dict[str, Any]:
    if isinstance(run, list):
        if not run:
            return {}
        run = run[0]
    progress, live = run.progress(), live_of(run)
    failures = (live.table.failure(row) for row in range(live.rows.total))
    return {
        "kept": progress.done + progress.cached,
        "cached": progress.cached,
        "unsaved": live.execution.unsaved,
        "note": progress.note,
        "state": progress.state,
        "failures": sorted({f"{one.kind}: {one.message}"[:300] for one in failures if one is not None}),
    }


def _say_notes(run: Run) -> None:
    for note in _notes(run):
        say("note", note=note)


def _notes(run: Run) -> Iterator[str]:
    last = ""
    while not run.done():
        if (note := run.progress().note) != last:
            last = note
            yield note
        live_of(run)._end.ended.wait(_LOOK_S)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
