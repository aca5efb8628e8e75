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

from pllm_notebook.engine import Engine
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.outcomes import Outcome
from pllm_notebook.execution.settle import Arrival, Settled, settle
from pllm_notebook.execution.user_code import settle_each_with_timeout
from pllm_notebook.execution.watched import watched
from pllm_notebook.messages_types import Prompt
from pllm_notebook.protocols import Store
from pllm_notebook.records import Failure, FailureKind

__all__ = ["Intake"]

_Read = Callable[[CallSpec, Store | None, Callable[[int], Prompt], Sequence[Arrival]], list[Settled]]

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
        failed: Called on the loop with what a step of this raised.
    """

    def __init__(
        self,
        ask: CallSpec,
        engine: Engine,
        store: Store | None,
        prompt: Callable[[int], Prompt],
        settled: Callable[[list[tuple[Arrival, Settled]]], None],
        unsaved: Callable[[Arrival], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._ask = ask
        self._loop = engine.loop
        self._workers = engine.workers
        self._store = store
        self._prompt = prompt
        self._give = settled
        self._unsaved = unsaved
        self._failed = failed
        self._commits: deque[tuple[Arrival, BaseException | None]] = deque()
        self._commits_told = False
        self._arrivals: list[Arrival] = []
        self._reading = False
        # What is being read, and the work that reads it; another's result is that of work that was left behind.
        self._group: list[Arrival] = []
        self._work: asyncio.Future[list[Settled]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        # Whether a group took too long: those after it are read one by one from the start.
        self._slow = False
        # Whether the present group is read one by one because it raised.
        self._one_by_one = False

    def fail(self, error: Exception) -> None:
        """End the run by a fault of ours (see `watched`)."""
        self._failed(error)

    def take(self, key: str, arrival: Arrival, *, stored: bool = False) -> None:
        """Take one reply; nobody can cancel it from here on.

        Args:
            key: Of the reply.
            arrival: The reply.
            stored: Whether it is on disk already: another process may have written it.
        """
        # What answers no later call must not take the place of an answer that does.
        fresh = self._ask.options.cache != "refresh" or arrival.entry.usable(self._ask.takes_empty)
        if self._store is None or stored or not fresh:
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

    @watched
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

    def let_go(self) -> int:
        """Wait no longer for replies that are being read, and return how many there were. All of them are stored."""
        count = len(self._group) + len(self._arrivals)
        self._group, self._arrivals, self._work = [], [], None
        self._reading = False
        if self._timer is not None:
            self._timer.cancel()
        return count

    def _read(self) -> None:
        # Whatever has come while the last group was read makes the next.
        group, self._arrivals = self._arrivals, []
        self._reading = bool(group)
        if group:
            self._begin(group, settle_each_with_timeout if self._slow else settle)

    def _begin(self, group: list[Arrival], read: _Read) -> None:
        loop = self._loop.loop
        work = loop.run_in_executor(self._workers, read, self._ask, self._store, self._prompt, group)
        self._group, self._work = group, work
        self._timer = None
        if read is settle:
            # What reads one by one has a limit for each.
            self._timer = loop.call_later(self._ask.options.validator_timeout_s, self._late, group, work)
        work.add_done_callback(partial(self._have_read, group))

    @watched
    def _late(self, group: list[Arrival], work: asyncio.Future[list[Settled]]) -> None:
        """Some validator takes too long: leave it behind, and find out which."""
        if work is self._work and not work.done():
            self._slow = True
            self._begin(group, settle_each_with_timeout)

    @watched
    def _have_read(self, group: list[Arrival], work: asyncio.Future[list[Settled]]) -> None:
        if work is not self._work:
            return  # let go, or late
        if self._timer is not None:
            self._timer.cancel()
        outcomes: Sequence[Settled]
        try:
            outcomes = work.result()
        except BaseException as error:  # ours or the interpreter's: rows must not wait for ever
            if len(group) > 1 and not self._one_by_one:
                self._one_by_one = True
                self._begin(group, settle_each_with_timeout)
                return
            logger.exception("Replies could not be read")
            failure = Failure(FailureKind.SCHEMA, f"{type(error).__name__}: {error}")
            outcomes = [Outcome(None, failure, a.key, (a.entry.meta,), False, a.entry) for a in group]
        self._one_by_one = False
        self._group, self._work = [], None
        if self._store is None:
            for arrival, outcome in zip(group, outcomes, strict=True):
                if isinstance(outcome, Outcome):
                    outcome.entry = arrival.entry
        self._give(list(zip(group, outcomes, strict=True)))
        self._read()
