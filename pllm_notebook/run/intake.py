"""From a reply that has arrived to an outcome that may be reported: stored first, then read.

The store's writer and the user's validators each have a thread of their own; both hand over whole
groups, so that the loop is woken once for many rows. Everything else here runs on the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from pllm_notebook.conversation import Prompt
from pllm_notebook.engine import Engine
from pllm_notebook.protocols import Store
from pllm_notebook.records import Failure, FailureKind
from pllm_notebook.run.ask import Ask
from pllm_notebook.run.outcomes import Outcome
from pllm_notebook.run.settle import Arrival, Settled, settle

__all__ = ["Intake"]

logger = logging.getLogger("pllm_notebook")


class Intake:
    """Take in one run's replies.

    Args:
        ask: The question.
        engine: Whose loop and workers are used.
        store: None to keep nothing.
        prompt: Makes one row's prompt, for repair turns.
        settled: Called on the loop with each group that has been read.
        unsaved: Called on the loop with a reply that the store could not keep.
    """

    def __init__(
        self,
        ask: Ask,
        engine: Engine,
        store: Store | None,
        prompt: Callable[[int], Prompt],
        settled: Callable[[list[tuple[Arrival, Settled]]], None],
        unsaved: Callable[[Arrival], None],
    ) -> None:
        self._ask = ask
        self._loop = engine.loop
        self._workers = engine.workers
        self._store = store
        self._prompt = prompt
        self._give = settled
        self._unsaved = unsaved
        self._commits: deque[tuple[Arrival, BaseException | None]] = deque()
        self._commits_told = False
        self._arrivals: list[Arrival] = []
        self._reading = False

    def take(self, key: str, arrival: Arrival) -> None:
        """Take one reply; nobody can cancel it from here on."""
        if self._store is None:
            self._read_soon(arrival)
            return
        try:
            self._store.put(key, arrival.entry, partial(self._committed, arrival))
        except Exception as error:  # a store that was closed under us; the answer is here and was paid for
            self._committed(arrival, error)

    def _committed(self, arrival: Arrival, error: BaseException | None) -> None:
        """In the writer's thread: a reply is on disk. One hop to the loop for a whole group."""
        self._commits.append((arrival, error))
        if not self._commits_told:
            self._commits_told = True
            self._loop.call(self._take_commits)

    def _take_commits(self) -> None:
        self._commits_told = False  # before the first is taken: what comes later tells again
        while self._commits:
            arrival, error = self._commits.popleft()
            if error is not None:
                logger.error("An answer cannot be saved to the cache and is only in memory: %s", error)
                self._unsaved(arrival)
            self._read_soon(arrival)

    def _read_soon(self, arrival: Arrival) -> None:
        self._arrivals.append(arrival)
        if not self._reading:
            self._read()

    def _read(self) -> None:
        # Whatever has come while the last group was read makes the next.
        group, self._arrivals = self._arrivals, []
        self._reading = bool(group)
        if group:
            work = self._loop.loop.run_in_executor(self._workers, settle, self._ask, self._store, self._prompt, group)
            work.add_done_callback(partial(self._have_read, group))

    def _have_read(self, group: list[Arrival], work: asyncio.Future[list[Settled]]) -> None:
        outcomes: Sequence[Settled]
        try:
            outcomes = work.result()
        except BaseException as error:  # ours or the interpreter's: rows must not wait for ever
            logger.exception("Replies could not be read")
            failure = Failure(FailureKind.SCHEMA, f"{type(error).__name__}: {error}")
            outcomes = [Outcome(None, failure, a.key, (a.entry.meta,), False, a.entry) for a in group]
        if self._store is None:
            for arrival, outcome in zip(group, outcomes, strict=True):
                if isinstance(outcome, Outcome):
                    outcome.entry = arrival.entry
        self._give(list(zip(group, outcomes, strict=True)))
        self._read()
