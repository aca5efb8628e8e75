"""The engine's own loop and its thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pllm_notebook.engine import loop as engine_loop
from pllm_notebook.exceptions import PllmError
from pllm_notebook.threads import DaemonLoop


def test_a_loop_that_somebody_stops_is_closed_by_its_thread() -> None:
    running = engine_loop.EngineLoop()
    ended: list[bool] = []
    running.on_end = lambda: ended.append(running.loop.is_closed())

    running.loop.call_soon_threadsafe(running.loop.stop)
    running.thread.join(timeout=30)

    assert (ended, running.loop.is_closed(), running.alive) == ([False], True, False)
    with pytest.raises(PllmError, match="shut down"):
        running.call(print)


def test_a_loop_whose_thread_cannot_start_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[asyncio.AbstractEventLoop] = []

    class Kept(DaemonLoop):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(engine_loop, "DaemonLoop", Kept)
    monkeypatch.setattr(threading.Thread, "start", refuse)

    with pytest.raises(RuntimeError, match="can't start new thread"):
        engine_loop.EngineLoop()

    assert [loop.is_closed() for loop in made] == [True]
