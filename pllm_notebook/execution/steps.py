"""Methods that wait for several runs, written once, as a generator that yields what it waits for.

A blocking method drives the generator with `blocking`, its awaitable twin with `awaiting`. An interrupt or a
cancellation is raised inside the generator, at the wait that it ended, so that the generator cancels its other runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from functools import partial
from typing import NamedTuple, TypeVar

from pllm_notebook.execution.live_run import LiveRun

__all__ = ["RunWait", "Steps", "awaiting", "blocking"]

T = TypeVar("T")


class RunWait(NamedTuple):
    """What a generator waits for.

    Attributes:
        run: The run to wait for (see `Run.wait`).
        timeout_s: Continue after this many seconds in any case, None for no limit.
    """

    run: LiveRun
    timeout_s: float | None = None


Steps = Generator[RunWait, None, T]


def blocking(steps: Steps[T]) -> T:
    """Drive *steps* to the end and return their result. Blocks; an interrupt is raised inside *steps*."""
    go_on: Callable[[], RunWait] = partial(next, steps)
    while True:
        try:
            wait = go_on()
        except StopIteration as ended:
            result: T = ended.value
            return result
        go_on = partial(next, steps)
        try:
            wait.run.wait(wait.timeout_s)
        except BaseException as error:
            go_on = partial(steps.throw, error)


async def awaiting(steps: Steps[T]) -> T:
    """Drive *steps* to the end on the caller's own event loop, and return their result."""
    ends: dict[str, asyncio.Future[None]] = {}
    go_on: Callable[[], RunWait] = partial(next, steps)
    try:
        while True:
            try:
                run, timeout_s = go_on()
            except StopIteration as ended:
                result: T = ended.value
                return result
            go_on = partial(next, steps)
            if run.id not in ends:
                ends[run.id] = asyncio.ensure_future(run.until_given())
            end = ends[run.id]
            try:
                await asyncio.wait([end], timeout=timeout_s)
                if end.done():
                    end.result()
            except BaseException as error:
                go_on = partial(steps.throw, await _cancelled(end) or error)
    finally:
        for end in ends.values():
            end.cancel()
        await asyncio.gather(*ends.values(), return_exceptions=True)


async def _cancelled(end: asyncio.Future[None]) -> asyncio.CancelledError | None:
    """Pass a cancellation on to a run, which stores what has arrived, and return its error, which says what is kept."""
    end.cancel()
    try:
        await end
    except asyncio.CancelledError as cause:
        return cause
    except Exception:
        return None
    return None
