"""Deciding in a worker thread, since types and callables are the user's code: one group of calls at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from pllm_notebook.engine import Engine
from pllm_notebook.ensemble.decisions import Decision
from pllm_notebook.execution import Outcome

__all__ = ["Decided", "Deciding"]

logger = logging.getLogger("pllm_notebook")

# None for a call that must be asked further first.
Decided = tuple[Outcome, Decision] | None


class Deciding:
    """Decide calls that everybody has answered. Used on the engine's loop alone; sends nothing.

    Args:
        engine: Whose worker decides.
        decide: Called in the worker with a call, and what came of asking it further, None where it was not.
        decided: Called on the loop with each call and what was made of it.
        paused: Called on the loop after each group, when the next one is under way.
        failed: Called on the loop with what *decide* raised; what waited is forgotten.
    """

    def __init__(
        self,
        engine: Engine,
        decide: Callable[[int, Outcome | None], Decided],
        decided: Callable[[int, Decided], None],
        paused: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._loop = engine.loop
        self._workers = engine.workers
        self._decide = decide
        self._give = decided
        self._paused = paused
        self._failed = failed
        self._ready: list[tuple[int, Outcome | None]] = []
        self._under_way = False

    def __repr__(self) -> str:
        return f"Deciding(ready={len(self._ready)}, under_way={self._under_way})"

    @property
    def busy(self) -> bool:
        """Whether there is anything that is not decided yet."""
        return self._under_way or bool(self._ready)

    def take(self, call: int, further: Outcome | None) -> None:
        """Decide *call* soon."""
        self._ready.append((call, further))
        if not self._under_way:
            self._next()

    def forget(self) -> None:
        """Forget what waits. A group that is under way is decided all the same."""
        self._ready = []

    def _next(self) -> None:
        # Whatever has come while the last group was decided makes the next.
        group, self._ready = self._ready, []
        self._under_way = bool(group)
        if group:
            work = self._loop.loop.run_in_executor(self._workers, self._work, group)
            work.add_done_callback(partial(self._done, group))

    def _work(self, group: Sequence[tuple[int, Outcome | None]]) -> list[Decided]:
        """In the worker thread."""
        return [self._decide(call, further) for call, further in group]

    def _done(self, group: Sequence[tuple[int, Outcome | None]], work: asyncio.Future[list[Decided]]) -> None:
        try:
            decided = work.result()
        except BaseException as error:  # rows must not wait for ever
            logger.exception("Answers could not be decided")
            self._under_way = False
            self.forget()
            self._failed(error)
            return
        for (call, _), made in zip(group, decided, strict=True):
            self._give(call, made)
        self._next()
        self._paused()
