"""A child that dies at a chosen step of a batch: each commit of a database, each request to the provider.

The steps are taken where SQLite and the SDKs' HTTP are entered and left, so that they are those of any code that
sends batches. A process that has everything loaded forks one child for each line of its input (see `steps`). A line
says {"cache", "environment", "model", "count", "at", "fine"}: the step to die at, 0 for none; and which steps count.
Coarse are those after a commit and after a response, where what is known here and what is known there differ; fine
are those before them as well, leases and files.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd

import pllm_notebook as pllm
import pllm_notebook.batch_jobs.batch_dispatcher as batch_dispatcher
import pllm_notebook.batch_jobs.service as batch_service
from pllm_notebook.batch import Recreation
from tests.faults.asking import say
from tests.faults.steps import Steps, connect_by, fork_for_each_line

_CHANGES = ("INSERT", "UPDATE", "DELETE", "CREATE")
# A lease is no knowledge: whoever dies with one, or without, knows the same.
_LEASE = "UPDATE jobs SET owner"
_FILES = ("remove", "rename", "replace", "unlink")
# A dead kernel's jobs are its own for a minute; here for a moment.
_LEASE_S = 0.3


def put_in(steps: Steps, *, fine: bool) -> None:
    """Count commits and requests of this process from now on, and with *fine* leases and files too."""

    class Connection(sqlite3.Connection):
        changed = ""

        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            self._see(sql)
            if sql != "COMMIT" or not self.changed:
                return super().execute(sql, *args)
            label, self.changed = f"commit: {self.changed}", ""
            if fine:
                steps(f"before {label}")
            cursor = super().execute(sql, *args)
            if fine or _LEASE not in label:
                steps(f"after {label}")
            return cursor

        def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
            self._see(sql)
            return super().executemany(sql, *args)

        def _see(self, sql: str) -> None:
            if sql.startswith("BEGIN"):
                self.changed = ""
            elif not self.changed and sql.startswith(_CHANGES):
                self.changed = " ".join(sql.split()[:4])

    connect_by(Connection)
    _count_requests(steps, fine=fine)
    for name in _FILES if fine else ():
        setattr(os, name, _counting(steps, name, getattr(os, name)))


def _counting(steps: Steps, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **named: steps.around(name, lambda: real(*args, **named))


def _count_requests(steps: Steps, *, fine: bool) -> None:
    import aiohttp
    import httpx2

    def counted(real: Callable[..., Any], label: Callable[..., str]) -> Callable[..., Any]:
        async def send(*args: Any, **named: Any) -> Any:
            if fine:
                steps(f"before {label(*args)}")
            response = await real(*args, **named)
            steps(f"after {label(*args)}")
            return response

        return send

    of_httpx = httpx2.AsyncHTTPTransport.handle_async_request
    httpx2.AsyncHTTPTransport.handle_async_request = counted(  # type: ignore[method-assign]
        of_httpx, lambda transport, request: f"{request.method} {_kind(request.url.path)}"
    )
    of_aiohttp = aiohttp.ClientSession._request
    aiohttp.ClientSession._request = counted(  # type: ignore[method-assign]
        of_aiohttp, lambda session, method, url: f"{method.upper()} {_kind(str(url))}"
    )


def _kind(path: str) -> str:
    """Give a path without what differs from run to run."""
    return "/".join("…" if any(map(str.isdigit, part)) and len(part) > 8 else part for part in path.split("/")[-3:])


def _live(job: dict[str, Any]) -> None:
    os.environ.update(job["environment"])
    pllm.configure(cache_dir=job["cache"], progress=False)
    if job["at"] >= 0:
        put_in(Steps(job["at"]), fine=job["fine"])
    frame = pd.DataFrame({"text": [f"text {n}" for n in range(job["count"])]})
    out = frame.llm.complete("say {text}", model=job["model"], mode="batch", confirm=False)
    while any(not each.final for each in pllm.jobs().fetch()):
        pass
    jobs = [[str(each.state), each.answered] for each in pllm.jobs()]
    say("ended", answers=out["answer"].tolist(), states=out.llm.status.tolist(), jobs=jobs)


def main() -> None:
    # What a run loads at its first use, once for all children; no thread is started by it.
    import anthropic  # noqa: F401
    import openai  # noqa: F401
    from google import genai  # noqa: F401

    import pllm_notebook.store.recovery  # noqa: F401

    batch_service.FIRST_LOOK_S = 0.01
    batch_dispatcher._GATHER_S = 0.0
    # Its list lags behind by nothing here, so a job that is not found was never made.
    batch_service.Driver = partial(batch_service.Driver, recreation=Recreation(lambda job: True, 0.0))  # type: ignore[misc,assignment]
    batch_service.JournalAccess = partial(batch_service.JournalAccess, lease_s=_LEASE_S)  # type: ignore[misc,assignment]
    fork_for_each_line(_live)


if __name__ == "__main__":
    main()
