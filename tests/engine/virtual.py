"""A loop whose time is virtual, and a provider modelled in it: whole runs in milliseconds, to the float."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from pllm_notebook.engine import Dispatcher, Endpoint, Limiter, RunQueue, SendPolicy
from pllm_notebook.failures import Failure
from pllm_notebook.pending_call import CallResult, PendingCall
from pllm_notebook.protocols import CallSource, TransportFault
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


def dispatcher_to(
    server: ModelServer, limiter: Limiter | None = None, adapt: Callable[[Failure, bytes], bool] | None = None
) -> Dispatcher:
    """Make a dispatcher to the modelled provider; its draws are seeded."""
    adapt = adapt or (lambda failure, content: False)
    endpoint = Endpoint("model", "/", lambda: server, read, adapt, limits)
    return Dispatcher(endpoint, limiter or Limiter(), random.Random(1))


class Calls(CallSource):
    """A run's worth of calls, and what became of each.

    Args:
        keys: One call each, in order.
        output_limit: Of each call's answer.
        hedge: Whether a call that hangs is sent a second time, once every call has been taken.
    """

    def __init__(self, keys: list[str], *, output_limit: int | None = None, **policy: Any) -> None:
        self.keys = keys
        self._output_limit = output_limit
        self.results: dict[int, CallResult] = {}
        self.order: list[int] = []
        self.errors: list[Exception] = []
        self._next = 0
        self._all = asyncio.get_running_loop().create_future()
        self.queue = RunQueue(self, SendPolicy(**({"max_retries": 5, "timeout_s": 60.0} | policy)))

    def next(self) -> PendingCall | None:
        if self._next == len(self.keys):
            return None
        n, self._next = self._next, self._next + 1
        key = self.keys[n]
        return PendingCall(key, lambda: self.content(key), 20.0, n, output_limit=self._output_limit)

    def content(self, key: str) -> bytes:
        return key.encode()

    def may_hedge(self, call: PendingCall) -> bool:
        return self._next == len(self.keys)

    def done(self, call: PendingCall, result: CallResult) -> None:
        assert call.tag not in self.results, "a call ends once"
        self.results[call.tag] = result
        self.order.append(call.tag)
        if len(self.results) == len(self.keys) and not self._all.done():
            self._all.set_result(None)

    def fail(self, error: Exception) -> None:
        self.errors.append(error)

    async def all(self) -> None:
        """Wait until every call has ended."""
        await self._all

    def kinds(self) -> list[str]:
        """How each call ended, in order of the calls: "ok" or the failure's kind."""
        ended = (self.results[n].result for n in range(len(self.keys)) if n in self.results)
        return [str(result.kind) if isinstance(result, Failure) else "ok" for result in ended]


__all__ = ["Calls", "ModelServer", "TransportFault", "VirtualLoop", "dispatcher_to", "run_virtual"]
