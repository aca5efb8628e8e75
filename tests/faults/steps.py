"""A child that dies at a chosen step of what it writes: each SQL statement that changes something, each file's change.

The steps are taken where Python's own library is left, so that they are those of any code that keeps answers. A step
is counted before it is done, and once more after it: what follows a commit is a moment of its own.

A process that has everything loaded forks one child for each line of its input, so that a step costs a fork and not
the start of an interpreter. A line says {"cache", "address", "count", "at", "opened"}: the step to die at, by its
number or its name, 0 for none; and whether to count only once the store is open.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from typing import Any

from pllm_notebook.store import open_store
from tests.faults.asking import ask, follow, rows, say, settle

_CHANGES = ("BEGIN", "INSERT", "UPDATE", "DELETE", "COMMIT", "CREATE", "DROP", "PRAGMA journal_mode", "PRAGMA wal_")
_FILES = ("chmod", "link", "makedirs", "pwrite", "remove", "rename", "replace")


class Steps:
    """Count steps, and kill this process at one of them.

    Args:
        at: Its number from 1, or its label, the first of that name; 0 to say all of them.
    """

    def __init__(self, at: int | str) -> None:
        self._at = at
        self._count = 0
        self._lock = threading.Lock()

    def __call__(self, label: str) -> None:
        with self._lock:
            self._count += 1
            if self._at in (self._count, label):
                say("dies", at=label)
                os.kill(os.getpid(), signal.SIGKILL)
            if not self._at:
                say("step", label=label)

    def around(self, label: str, work: Callable[[], Any]) -> Any:
        """Do *work* between two steps."""
        self(f"before {label}")
        result = work()
        self(f"after {label}")
        return result


def put_in(steps: Steps) -> None:
    """Count what this process does to databases and files from now on."""

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            run = super().execute
            return _counted(sql, lambda: run(sql, *args))

        def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
            run = super().executemany
            return _counted(sql, lambda: run(sql, *args))

    def _counted(sql: str, work: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
        if not sql.lstrip().startswith(_CHANGES):
            return work()
        cursor: sqlite3.Cursor = steps.around(" ".join(sql.split()[:3]), work)
        return cursor

    connect_by(Connection)
    for name in _FILES:
        setattr(os, name, _counting(steps, name, getattr(os, name)))


def connect_by(kind: type[sqlite3.Connection]) -> None:
    """Let every connection of this process be of *kind* too, whatever else its caller makes of it."""
    connect = sqlite3.connect

    def connected(*args: Any, **named: Any) -> sqlite3.Connection:
        own = named.pop("factory", sqlite3.Connection)
        return connect(*args, factory=type(kind.__name__, (kind, own), {}), **named)

    sqlite3.connect = connected  # type: ignore[assignment]


def _counting(steps: Steps, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*args: Any, **named: Any) -> Any:
        return steps.around(name, lambda: real(*args, **named))

    return counted


def _live(job: dict[str, Any]) -> None:
    settle(job["cache"], job["address"])
    if job["opened"]:
        open_store(job["cache"])
    put_in(Steps(job["at"]))
    run = ask(rows(job["count"]), concurrency=2)
    follow(run, job["count"])
    run.result()


def fork_for_each_line(live: Callable[[dict[str, Any]], None]) -> None:
    """Have a child of its own do each job of this process' input, one after the other, and say how it ended."""
    gc.freeze()  # no child looks through what is imported for garbage
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            code = 1
            try:
                live(json.loads(line))
                code = 0
            finally:
                os._exit(code)
        say("died", code=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def main() -> None:
    # What a run loads at its first use, once for all children; no thread is started by it.
    import aiohttp  # noqa: F401
    import openai  # noqa: F401

    import pllm_notebook.store.recovery  # noqa: F401

    fork_for_each_line(_live)


if __name__ == "__main__":
    main()
