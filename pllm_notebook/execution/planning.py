"""The plan of one run, taken over from a worker thread: what the store has is recorded, the rest is to be sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from pllm_notebook.engine import Engine
from pllm_notebook.execution.backlog import Backlog
from pllm_notebook.execution.books import Books
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.ending import Ending, Owner
from pllm_notebook.execution.meanwhile import Meanwhile
from pllm_notebook.execution.outcomes import Outcome
from pllm_notebook.execution.planner import Chunk, Planner
from pllm_notebook.execution.settle import Calling, Repair
from pllm_notebook.execution.tender import Tender
from pllm_notebook.execution.user_code import as_error
from pllm_notebook.execution.watched import watched
from pllm_notebook.records import Failure, FailureKind

__all__ = ["Planning"]

# Stored answers to the same question that are looked at for what others will take.
_LEARNED_FROM = 64


class Planning:
    """Plan one run. Used on the engine's loop, except where noted.

    Args:
        ask: The question.
        engine: Whose worker plans.
        planner: Walks the rows.
        ending: The plan goes no further once something stops the run.
        books: The run's.
        backlog: Takes what must be sent.
        meanwhile: Finds what came later.
        tender: Told when there is something to send, and when the plan is whole.
        calling: Called with a stored reply whose tools are to be run.
        failed: Called with the first row that can never be sent, and why.
        owner: The run, which ends when planning raises.
    """

    def __init__(
        self,
        ask: CallSpec,
        engine: Engine,
        planner: Planner,
        *,
        ending: Ending,
        books: Books,
        backlog: Backlog,
        meanwhile: Meanwhile,
        tender: Tender,
        calling: Callable[[Calling], None],
        failed: Callable[[int, Failure], None],
        owner: Owner,
    ) -> None:
        self._ask = ask
        self._loop = engine.loop
        self._workers = engine.workers
        self._planner = planner
        self._ending = ending
        self._books = books
        self._backlog = backlog
        self._meanwhile = meanwhile
        self._tender = tender
        self._run_tools = calling
        self._failed = failed
        self._owner = owner
        self._only_look = ask.options.cache == "only"

    def begin(self) -> None:
        """Walk the rows that have not been planned, in a worker."""
        self._books.planned = False
        work = self._loop.loop.run_in_executor(
            self._workers, self._planner.walk, self._hand_over, lambda: self._ending.stopping is not None
        )
        work.add_done_callback(self._ended)

    def look_again(self, calls: Sequence[int]) -> None:
        """Take what has come into the cache since *calls* were planned; what has not fails, and nothing is sent."""
        self._backlog.restart(())
        for call in calls:
            key = self._books.ledger.keys[call]
            if not self._meanwhile.answered(call, lambda key=key: [key], None):  # type: ignore[misc]
                self._not_cached(call)

    def fail(self, error: Exception) -> None:
        """End the run by a fault of ours (see `watched`)."""
        self._owner.fail(error)

    def _hand_over(self, chunk: Chunk) -> None:
        """In the planner's thread: bring a chunk to the loop."""
        if chunk.missing and not self._only_look:
            self._ask.target.load()
        self._loop.call(self._take, chunk)

    @watched
    def _take(self, chunk: Chunk) -> None:
        books = self._books
        books.plan(chunk)
        for arrival, _ in chunk.settled[:_LEARNED_FROM]:
            self._ask.token_bounds.answered(arrival.entry.output_tokens)
        found = [(arrival.call, settled) for arrival, settled in chunk.settled if isinstance(settled, Outcome)]
        books.record_found(found)
        if len(found) < len(chunk.settled):
            for _, settled in chunk.settled:
                if isinstance(settled, Repair):
                    self._backlog.repair((settled,))
                elif not isinstance(settled, Outcome):
                    self._run_tools(settled)
        for call, outcome in chunk.rejected:
            books.record(call, outcome)
        if chunk.failed:
            first = min(books.ledger.own_failures)
            self._failed(first, books.ledger.own_failures[first])
        if self._only_look:
            for call in chunk.missing:
                self._not_cached(call)
        else:
            self._backlog.extend(chunk.missing)
        self._tender.send()

    @watched
    def _ended(self, work: asyncio.Future[None]) -> None:
        self._books.planned = True
        if not work.cancelled() and (error := work.exception()) is not None:
            self._owner.stop("failed", as_error(error))
        self._tender.complete()
        self._owner.go_on()

    def _not_cached(self, call: int) -> None:
        failure = Failure(FailureKind.NOT_CACHED, "Not in the cache, and cache='only' sends nothing.")
        self._books.record(call, Outcome(None, failure, self._books.ledger.keys[call], (), False))
