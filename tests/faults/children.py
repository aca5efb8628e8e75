"""Child processes that a test drives: what they say, with a limit to every wait, and their end."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pllm_notebook.sim import SimRequest
from tests.forked import Forked

__all__ = ["PATIENCE_S", "Child", "answer", "number_in", "until"]

# Longer than anything here takes; a test that waits this long has failed.
PATIENCE_S = 180.0
ROOT = Path(__file__).parents[2]

_LOOK_S = 0.005


class Child:
    """A process that says events, one JSON object a line.

    Attributes:
        events: All that it has said and the test has read.
    """

    def __init__(self, *argv: object, code: str | None = None, env: Mapping[str, str] | None = None) -> None:
        """Start it: a module with its arguments, or *code* with its arguments."""
        program = ["-m", *argv] if code is None else ["-c", code, *argv]
        self._process = Forked([*map(str, program)], {**os.environ, **(env or {})})
        self.events: list[dict[str, Any]] = []
        self._said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._errors: list[bytes] = []
        self._readers = [threading.Thread(target=work, daemon=True) for work in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    @classmethod
    def asking(cls, **job: Any) -> Child:
        """Start `tests.faults.asking` with a job."""
        return cls("tests.faults.asking", json.dumps(job, default=str))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr(self) -> str:
        """What it wrote there; whole once it has ended."""
        return b"".join(self._errors).decode(errors="replace")

    def tell(self, line: str = "go") -> None:
        """Write a line to its input."""
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def next(self) -> dict[str, Any] | None:
        """Wait for its next event; None when it has ended."""
        try:
            event = self._said.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError(f"The child said nothing. It wrote: {self.stderr}") from None
        if event is not None:
            self.events.append(event)
        return event

    def expect(self, kind: str, where: Callable[[dict[str, Any]], bool] = lambda event: True) -> dict[str, Any]:
        """Read on until an event of this kind comes."""
        while (event := self.next()) is not None:
            if event["event"] == kind and where(event):
                return event
        raise AssertionError(f"The child ended without {kind!r}. It said {self.events[-3:]} and wrote: {self.stderr}")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it with signal 9, and read what it had said by then."""
        self._process.kill()
        self.end()

    def end(self) -> int:
        """Wait for its end, read all that it said, and give its exit code."""
        while self.next() is not None:
            pass
        code = self._process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            stream.close()
        return code

    def done_rows(self) -> set[int]:
        """Give the rows that it has reported as done."""
        return {row for event in self.events if event["event"] == "done" for row in event["rows"]}

    def _read(self) -> None:
        for line in self._process.stdout:
            if line.endswith(b"\n"):
                self._said.put(json.loads(line))
        self._said.put(None)

    def _read_errors(self) -> None:
        for line in self._process.stderr:
            self._errors.append(line)


def answer(request: SimRequest) -> dict[str, Any]:
    """Answer with the row's own number, in 0.2 to 5 kB."""
    number = number_in(request.prompt)
    return {"number": number, "note": "x" * (200 + zlib.crc32(b"%d" % number) % 4800)}


def number_in(prompt: str) -> int:
    """Give the number of the row that a prompt is of."""
    found = re.search(r"review number (\d+)\.", prompt)
    assert found is not None, prompt
    return int(found[1])


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so, and fail where it is not in time."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"Not in {PATIENCE_S:.0f} s: {what}"
        time.sleep(_LOOK_S)
