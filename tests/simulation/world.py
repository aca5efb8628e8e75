"""One process of a simulated life: a loop whose time is virtual, workers on it, and death at a chosen step.

Nothing here waits, and nothing here is random but by the seed. A process dies by having no effect any
more: from the chosen step on no request is admitted, nothing is written and nothing that is reported counts,
and its loop is thrown away with all that was in its memory.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any

from pllm_notebook.engine import Engine
from pllm_notebook.engine.loop import EngineLoop
from tests.engine.virtual import VirtualLoop

__all__ = ["Process", "SimLoop", "Trace"]

# Virtual seconds after which a run counts as hung: the longest lawful waits together are shorter.
_PATIENCE_S = 20_000.0
# After the end of all runs: longer than every timer that a run may leave behind for itself.
_SETTLE_S = 30.0


class Trace:
    """What happened, in order: two lives from one seed must have the same."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def add(self, at: float, *event: Any) -> None:
        self.events.append((round(at, 6), *event))


class SimLoop(VirtualLoop):
    """A virtual loop for one thread, so that nothing need be woken through a socket."""

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.call_soon(callback, *args, context=context)

    def pending(self) -> int:
        """Number of timers that are still to fire."""
        return sum(not handle.cancelled() for handle in self._scheduled)


class _OnLoop(EngineLoop):
    """The engine's loop on a loop that is given."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.where = "private"
        self.pid = os.getpid()
        self.loop = loop
        self.thread = threading.current_thread()

    @property
    def alive(self) -> bool:
        return not self.loop.is_closed()


class _Workers(Executor):
    """Does the work on the loop itself, a drawn moment later: in any order, as four threads would."""

    def __init__(self, process: Process, rng: random.Random, delays_s: Sequence[float]) -> None:
        self._process = process
        self._rng = rng
        self._delays_s = iter(delays_s)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            if self._process.step("work", getattr(fn, "__name__", "?")):
                return
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        delay_s = next(self._delays_s, None)
        if delay_s is None:
            delay_s = self._rng.choice((0.0, 0.0, 0.001, 0.02, 0.3))
        self._process.loop.call_later(delay_s, work)
        return future


class Process:
    """One process, from its start to its end or its death.

    Args:
        number: Which of its life's processes it is.
        seed: Of the draws that only this process makes.
        trace: Where its events are noted.
        delays_s: Of the first pieces of work that its workers are given; the others are drawn.

    Attributes:
        dies_at: The step at which it is killed, None for never.
        dead: Whether it was killed; nothing that happens then has an effect.
        on_death: Called at that moment, to look at what had been reported by then.
        steps: Steps so far: requests that arrive and replies that leave, commits, pieces of work.
    """

    def __init__(self, number: int, seed: str, trace: Trace, delays_s: Sequence[float] = ()) -> None:
        self.number = number
        self.trace = trace
        self.dead = False
        self.dies_at: int | None = None
        self.steps = 0
        self.on_death: Callable[[], None] = lambda: None
        self.faults: list[str] = []
        self.loop = SimLoop()
        self.loop.set_exception_handler(self._unhandled)
        self.rng = random.Random(f"{seed}:{number}:process")
        self._main: asyncio.Task[Any] | None = None
        asyncio.set_event_loop(self.loop)
        self.engine = Engine(
            rng=random.Random(f"{seed}:{number}:jitter"),
            loop=_OnLoop(self.loop),
            workers=_Workers(self, random.Random(f"{seed}:{number}:workers"), delays_s),
        )

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self.dead:
            self.faults.append(f"unhandled on the loop: {context.get('message')} {context.get('exception')!r}")

    def now(self) -> float:
        return self.loop.time()

    def step(self, *event: Any) -> bool:
        """Note one step; True when the process is dead, and what was to happen must not."""
        if self.dead:
            return True
        self.steps += 1
        self.trace.add(self.loop.time(), self.number, *event)
        if self.steps == self.dies_at:
            self.die()
        return self.dead

    def die(self) -> None:
        self.trace.add(self.loop.time(), self.number, "killed")
        self.on_death()
        self.dead = True
        self.loop.stop()

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Go on until *main* has ended, or the process is dead."""
        task = self._main = self.loop.create_task(main)
        task.add_done_callback(lambda _: self.loop.stop())
        watch = self.loop.call_later(_PATIENCE_S, self._hung)
        try:
            self.loop.run_forever()
        except RuntimeError as error:
            self.faults.append(str(error))
            return
        watch.cancel()
        if task.done() and not task.cancelled() and task.exception() is not None and not self.dead:
            raise task.exception()  # type: ignore[misc]

    def _hung(self) -> None:
        self.faults.append(f"still going after {_PATIENCE_S:,.0f} virtual seconds")
        self.loop.stop()

    def leave(self) -> list[str]:
        """End an orderly process, and tell what it left behind."""
        left: list[str] = []
        self.dies_at = None

        async def end() -> None:
            await asyncio.sleep(0)
            here = asyncio.current_task()
            left.extend(f"task {task!r}" for task in asyncio.all_tasks() if task is not here)
            left.extend(f"requests on the wire: {lane!r}" for lane in self.engine.dispatchers if lane.in_flight)
            for lane in self.engine.dispatchers:
                await lane.aclose()
            await asyncio.sleep(_SETTLE_S)

        self.run(end())
        if self.loop.pending():
            left.append(f"{self.loop.pending()} timers")
        self.throw_away()
        return left

    def throw_away(self) -> None:
        """Forget the loop and everything on it, as the end of a process does."""
        for task in asyncio.all_tasks(self.loop):
            with suppress(AttributeError):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
        asyncio.set_event_loop(None)
        self.loop.close()
