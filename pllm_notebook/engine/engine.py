"""The engine of this process: its loop, its lanes, and the threads that user code runs in."""

from __future__ import annotations

import asyncio
import atexit
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pllm_notebook.engine.lane import Lane
from pllm_notebook.engine.limiter import FIRST_WINDOW, Known, Limiter
from pllm_notebook.engine.loop import EngineLoop

__all__ = ["Engine", "engine"]


class Engine:
    """All that is shared by the runs of one process.

    Attributes:
        loop: Where network I/O lives.
        workers: Threads for what may block: validators, tools, planning.
    """

    def __init__(self, where: Literal["private", "notebook"] = "private", rng: random.Random | None = None) -> None:
        self.loop = EngineLoop(where)
        self.workers = ThreadPoolExecutor(4, thread_name_prefix="pllm-work")
        self.rng = rng or random.Random()
        self._lanes: dict[tuple[str, ...], Lane] = {}

    def __repr__(self) -> str:
        return f"Engine({self.loop!r}, lanes={list(self._lanes.values())})"

    @property
    def lanes(self) -> list[Lane]:
        """One for each provider, account and model that was asked."""
        return list(self._lanes.values())

    def lane(
        self,
        identity: tuple[str, ...],
        make: Callable[[Limiter], Lane],
        *,
        slots: int | None,
        known: Callable[[], Known | None],
    ) -> Lane:
        """Give the one lane of an account and model. Call it on the loop.

        Args:
            identity: Provider, account and model.
            make: Makes it on first use.
            slots: Calls the server works on at once, None for unknown.
            known: Gives what another run learned of its limits, None for nothing; asked on first use.
        """
        lane = self._lanes.get(identity)
        if lane is None:
            limiter = Limiter(window=slots or FIRST_WINDOW, **({"widest": slots} if slots else {}))
            learned = known()
            if learned is not None:
                limiter.begin(self.loop.loop.time(), learned)
            lane = self._lanes[identity] = make(limiter)
        return lane

    def close(self) -> None:
        """Cancel what is on the wire, close the connections, and end the threads."""
        if self.loop.alive and self.loop.where == "private":

            async def end() -> None:
                for lane in self._lanes.values():
                    await lane.aclose()

            if not self.loop.inside():
                asyncio.run_coroutine_threadsafe(end(), self.loop.loop).result(timeout=10)
            self.loop.stop()
        self.workers.shutdown(wait=False, cancel_futures=True)


_lock = threading.Lock()
_engine: Engine | None = None


def engine(where: Literal["private", "notebook"] = "private") -> Engine:
    """Give this process's engine, started on first use and again after a fork."""
    global _engine
    with _lock:
        if _engine is None or not _engine.loop.alive:
            _engine = Engine(where)
        return _engine


def shutdown() -> None:
    """End the engine, if there is one; the next call starts another."""
    global _engine
    with _lock:
        ended, _engine = _engine, None
    if ended is not None and ended.loop.alive:
        ended.close()


atexit.register(shutdown)
