"""A loop whose time is virtual, and a provider modelled in it: whole runs in milliseconds, to the float."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from pllm_notebook.engine import Feed, Job, Landing, Lane, Limiter
from pllm_notebook.protocols import TransportFault
from pllm_notebook.records import Failure
from tests.engine.modelled import ModelServer, limits, read

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits: when nothing is ready, its clock jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__(_NeverWaits(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def jump(self, seconds: float | None) -> None:
        if seconds is None:
            raise RuntimeError("deadlock: nothing is ready and nothing is scheduled")
        self.now += max(0.0, seconds)


class _NeverWaits(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout != 0:
            self._loop.jump(timeout)
        return ready


def run_virtual(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run *main* to its end in virtual time."""
    loop = VirtualLoop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def lane_to(
    server: ModelServer, limiter: Limiter | None = None, heal: Callable[[Failure, bytes], bool] | None = None
) -> Lane:
    """Make a lane to the modelled provider; its draws are seeded."""
    heal = heal or (lambda failure, content: False)
    return Lane("model", "/", lambda: server, read, heal, limits, limiter or Limiter(), random.Random(1))


class Calls:
    """A run's worth of calls: a source for a feed, and what became of each.

    Args:
        keys: One call each, in order.
        output_limit: Of each call's answer.
    """

    def __init__(self, keys: list[str], *, output_limit: int | None = None, **feed: Any) -> None:
        self.keys = keys
        self._output_limit = output_limit
        self.landed: dict[int, Landing] = {}
        self.order: list[int] = []
        self._next = 0
        self._all = asyncio.get_running_loop().create_future()
        self.feed = Feed(self._source, **({"max_retries": 5, "timeout_s": 60.0} | feed))

    def _source(self) -> Job | None:
        if self._next == len(self.keys):
            return None
        n, self._next = self._next, self._next + 1
        key = self.keys[n]
        return Job(key, lambda: key.encode(), 20.0, self._done, n, output_limit=self._output_limit)

    def _done(self, job: Job, landing: Landing) -> None:
        assert job.tag not in self.landed, "a call ends once"
        self.landed[job.tag] = landing
        self.order.append(job.tag)
        if len(self.landed) == len(self.keys) and not self._all.done():
            self._all.set_result(None)

    async def all(self) -> None:
        """Wait until every call has ended."""
        await self._all

    def kinds(self) -> list[str]:
        """How each call ended, in order of the calls: "ok" or the failure's kind."""
        ended = (self.landed[n].result for n in range(len(self.keys)) if n in self.landed)
        return [str(result.kind) if isinstance(result, Failure) else "ok" for result in ended]


__all__ = ["Calls", "ModelServer", "TransportFault", "VirtualLoop", "lane_to", "run_virtual"]
