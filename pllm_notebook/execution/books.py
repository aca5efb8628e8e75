"""Where one run stands: how each call ended, how many rows that makes, and what is still open."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from pllm_notebook.execution.course import Listener
from pllm_notebook.execution.outcomes import Ledger, Outcome
from pllm_notebook.execution.planner import Chunk
from pllm_notebook.execution.throughput import Throughput
from pllm_notebook.records import Failure

__all__ = ["Books"]

logger = logging.getLogger("pllm_notebook")


class Books:
    """Keep the books of one run. Changed on the engine's loop alone; read from any thread.

    Args:
        ledger: The run's.
        model: Who is asked, for the log.
        listener: Who else hears of what is planned and recorded, None for nobody.
        failed: Called with a row that failed, alone or as the first of its call, and why.
        ended: Called with each call whose outcome is known.

    Attributes:
        ledger: As given.
        pace: Counts of rows.
        planned: Whether all rows have been planned: no more calls will come but repairs.
        open: Calls taken and not yet recorded: on the wire, waiting to be sent again, being stored or being read.
        unsaved: Rows whose paid answer the cache could not keep.
    """

    def __init__(
        self,
        ledger: Ledger,
        model: str,
        listener: Listener | None,
        failed: Callable[[int, Failure], None],
        ended: Callable[[int], None] | None = None,
    ) -> None:
        self.ledger = ledger
        self.throughput = Throughput(time.monotonic())
        self.planned = False
        self.open = 0
        self.unsaved = 0
        self._model = model
        self._listener = listener
        self._failed = failed
        self._ended = ended

    def __repr__(self) -> str:
        return f"Books(calls={len(self.ledger.keys)}, open={self.open}, planned={self.planned}, kept={self.kept})"

    @property
    def kept(self) -> int:
        """Rows that have an answer."""
        return self.throughput.done + self.throughput.cached

    def release(self) -> None:
        """Let go of whoever hears of what is recorded (see `Endable.release`)."""
        self._listener, self._failed, self._ended = None, _nothing, None

    def plan(self, chunk: Chunk) -> None:
        """Count the rows of a chunk, before what the store had for them is recorded."""
        ledger, throughput = self.ledger, self.throughput
        throughput.skipped += chunk.skipped
        throughput.failed += chunk.failed
        for call, rows in chunk.weights.items():
            # Weights are counted here, on the loop, so that a call which ends meanwhile counts each row once.
            ledger.weight[call] += rows
            outcome = ledger.outcomes[call]
            if outcome is not None:
                throughput.count(outcome, rows)
        if self._listener is not None:
            self._listener.planned(ledger, chunk)

    def record(self, call: int, outcome: Outcome, *, raises: bool = True) -> None:
        """Note how a call ended: from here on its rows are reported as done.

        Args:
            call: Index in the ledger.
            outcome: How it ended.
            raises: Whether a failure ends a run that ends at its first one; False where something else ends it.
        """
        self.ledger.outcomes[call] = outcome
        self.throughput.count(outcome, self.ledger.weight[call])
        if self._listener is not None:
            self._listener.recorded(call, outcome)
        if self._ended is not None:
            self._ended(call)
        failure = outcome.failure
        if failure is None:
            return
        row = self.ledger.first_row[call]
        # No more than the kind: what a row says, and what a provider quotes of it, is no business of a log's.
        logger.info("%s: row %d failed: %s (status %s)", self._model, row, failure.kind, failure.status)
        if raises:
            self._failed(row, failure)

    def record_found(self, found: Iterable[tuple[int, Outcome]]) -> None:
        """Note how calls ended that the plan found in the store: nobody has claimed them.

        Args:
            found: Index in the ledger, and how the call ended.
        """
        ledger, cached = self.ledger, 0
        for call, outcome in found:
            # Inline, since there may be a million.
            if outcome.cached and outcome.failure is None and self._listener is None:
                ledger.outcomes[call] = outcome
                cached += ledger.weight[call]
            else:
                self.record(call, outcome)
        self.throughput.cached += cached

    def reopen(self, calls: Iterable[int]) -> None:
        """Forget how *calls* ended, all of which failed or never did; they are to be asked again."""
        for call in calls:
            outcome = self.ledger.outcomes[call]
            if outcome is not None:
                self.throughput.forget(outcome, self.ledger.weight[call])
                self.ledger.outcomes[call] = None
        self.throughput.resume(time.monotonic())


def _nothing(row: int, failure: Failure) -> None:
    """Do nothing: nothing is recorded any more."""
