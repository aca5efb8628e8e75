"""What the tests of the store share: entries, keys, a clock that never sleeps, and child processes."""

from __future__ import annotations

import base64
import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import orjson

import pllm_notebook.types
from pllm_notebook.store import DiskStore
from pllm_notebook.store.writer import Clock
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish

PARTS = ("finish", "text", "output_tokens", "output_limit", "meta", "raw")
ROOT = Path(pllm_notebook.types.__file__).parents[1]


def of_a_later_format(value: bytes) -> bytes:
    """The entry, as a later version of this package would mark it."""
    body = value[6:]
    return b"P2" + zlib.crc32(b"P2" + body).to_bytes(4, "little") + body


def key(number: int) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(str(number).encode()).digest()).decode().rstrip("=")


def entry(
    number: int = 0, *, raw: bytes | None = None, finish: Finish = Finish.COMPLETE, **about: object
) -> StoredReply:
    meta = {"usage": [9, 3, 0, 0, 0], "cost_usd": 0.5, "model": "m", "created_at": 1000.0 + number, **about}
    text = f'{{"answer": {number}}}'.encode()
    return StoredReply(finish, text, 3, 0, orjson.dumps(meta), b'{"raw": %d}' % number * 20 if raw is None else raw)


def parts(one: StoredReply) -> tuple[object, ...]:
    return tuple(getattr(one, name) for name in PARTS)


def fill(store: DiskStore, numbers: Iterable[int]) -> None:
    """Put entries and fail where one of them was not kept."""
    errors: list[BaseException | None] = []
    for number in numbers:
        store.put(key(number), entry(number), errors.append)
    store.flush()
    assert not any(errors), errors


def held_by(store: DiskStore, numbers: Iterable[int]) -> set[int]:
    """Give which of *numbers* the store has, having compared each to the byte."""
    numbers = list(numbers)
    found = store.get_many([key(number) for number in numbers])
    there = {number for number in numbers if key(number) in found}
    assert all(parts(found[key(number)]) == parts(entry(number)) for number in there)
    return there


def execute(path: Path, statement: str, *arguments: object) -> list[tuple[object, ...]]:
    """Run one statement as another program would."""
    with closing(sqlite3.connect(path / "answers/cache.db", isolation_level=None)) as connection:
        return connection.execute(statement, arguments).fetchall()


def python(script: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    """Start a child that runs *script*."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])},
        **options,  # type: ignore[call-overload]
    )


class SteppingClock(Clock):
    """Time that moves only by being waited for; a wait of a known length is over at once.

    Attributes:
        pauses: Seconds of every such wait.
        on_pause: Called before each, to change the world meanwhile.
    """

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.on_pause = lambda: None
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        if seconds is None:
            condition.wait()
            return
        self.on_pause()
        self.pauses.append(seconds)
        self._now += seconds
