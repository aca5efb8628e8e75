"""Strategies that collect calls: nothing is sent before a missing value is needed."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pllm_notebook.execution import confirm
from pllm_notebook.sessions.paused import Paused, Summary
from pllm_notebook.sessions.session_call import SessionCall
from pllm_notebook.sessions.strategies.barrier import StrategyContext, advance, await_jobs, jobs_of
from pllm_notebook.sessions.strategies.live import Strategy
from pllm_notebook.sessions.strategies.microbatch import MicroBatcher

__all__ = ["BatchStrategy", "DryRunStrategy", "HybridStrategy"]


class BatchStrategy(Strategy):
    """A strategy that collects calls until a missing value is needed, then submits them as batch jobs.

    That ends the block, unless the session waits for its jobs. The program continues past a waiting point only when all
    calls collected there are done, so that every run of the program takes the same path.
    """

    def __init__(self, context: StrategyContext) -> None:
        super().__init__(context)
        # Threads that need values at the same time share one submission and one confirmation.
        self._lock = threading.RLock()

    @property
    def gathers(self) -> bool:
        return True

    def wait_for(self, session_call: SessionCall) -> None:
        with self._lock:
            if not session_call.done.is_set() or any(each.stage == "pending" for each in self._unanswered()):
                self.submit(session_call)
                self.barrier()

    def barrier(self) -> None:
        with self._lock:
            session_calls = self._undone()
            if session_calls:
                # Not cleared afterwards: calls that other threads make meanwhile wait for the next submission.
                self._answer(session_calls)

    def drain(self) -> None:
        """Do nothing: live calls are waited for when they are sent."""

    def _undone(self) -> list[SessionCall]:
        """Return the open calls, refreshed from the store, the journal and the failures."""
        session_store = self._context.session_store
        session_calls = self._unanswered()
        keys = [session_call.key for session_call in session_calls]
        there, jobs = session_store.store.get_many(keys), session_store.jobs(keys)
        for session_call in session_calls:
            # Looked up one by one, and only if something has changed since the call was made.
            if (
                session_call.stage == "pending"
                or session_call.key in jobs
                or (session_call.key in there and not session_call.refresh_cache)
            ):
                session_call.refresh()
        return [session_call for session_call in session_calls if not session_call.done.is_set()]

    def _answer(self, session_calls: Sequence[SessionCall]) -> None:
        new = [session_call for session_call in session_calls if session_call.stage == "asked"]
        if new and self._context.confirm:
            estimate = self._context.sender.estimate(new, "batch")
            if estimate is not None:
                confirm(estimate)
        advance(self._context, session_calls, new)


class HybridStrategy(BatchStrategy):
    """A strategy that submits a large group of calls as batch jobs and sends a small group live.

    Args:
        context: Shared by the session's strategies.
        batch_from: Minimum size of a group that is submitted as a batch.
    """

    def __init__(self, context: StrategyContext, batch_from: int) -> None:
        super().__init__(context)
        self._batch_from = batch_from
        self._batcher = MicroBatcher(
            context.sender, context.throttler, keep=context.keep, max_in_flight=context.max_in_flight
        )

    def _answer(self, session_calls: Sequence[SessionCall]) -> None:
        new = [session_call for session_call in session_calls if session_call.stage == "asked"]
        if len(new) >= self._batch_from:
            super()._answer(session_calls)
            return
        for session_call in new:
            self._batcher.add(session_call)
        self._batcher.flush()
        for session_call in new:
            self._context.sender.wait(session_call.done)
        await_jobs(self._context, session_calls)


class DryRunStrategy(BatchStrategy):
    """A strategy that sends nothing and ends the block at the first missing value, with an estimate of its calls.

    Args:
        context: Shared by the session's strategies.
        mode: The mode that is estimated, "async" or "batch".
    """

    def __init__(self, context: StrategyContext, mode: str) -> None:
        super().__init__(context)
        self._mode = mode

    def _answer(self, session_calls: Sequence[SessionCall]) -> None:
        new = [session_call for session_call in session_calls if session_call.stage == "asked"]
        waiting = [session_call for session_call in session_calls if session_call.stage == "pending"]
        estimate = self._context.sender.estimate(new, self._mode)
        raise Paused(
            Summary(
                self._context.session_store.directory,
                awaited=len(waiting),
                awaited_jobs=len(jobs_of(self._context, waiting)),
                estimate=estimate,
                simulated=estimate is not None and estimate.simulated,
            )
        )
