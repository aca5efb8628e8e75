"""The outcome of every row, held once per distinct call."""

from __future__ import annotations

import copy
import time
from array import array
from collections.abc import Iterable, Sequence

from pllm_notebook.execution.outcome import Outcome, ResultObserver
from pllm_notebook.execution.progress import MOST_ARRIVALS, Arrivals, FailedRows, RunProgress
from pllm_notebook.failures import Failure, FailureKind

__all__ = ["NEVER_SENT", "SKIPPED", "UNPLANNED", "ResultTable", "is_retryable"]

# A growing dictionary moves all its keys at once while no other thread runs: 0.1 s for a million keys.
# Many small dictionaries, selected by the key's hash, grow one at a time. A power of two.
_SHARDS = 128
# Maximum number of simultaneous cache hits kept for a display.
_MOST_HITS = 256

UNPLANNED = -1
SKIPPED = -2
NEVER_SENT = -3


class ResultTable:
    """The call of each row, and the outcome of each call.

    To plan a million rows, a row needs only an index and a call only its key. Texts are built
    again from the frame when they are sent.

    Attributes:
        call_of_row: Index of the row's call, or one of `UNPLANNED`, `SKIPPED` and `NEVER_SENT`.
        keys: Key of each call, in order of first appearance.
        first_row: The row whose prompt the call sends.
        spec_of_call: Index of the call's spec among the run's specs.
        weight: Number of rows that the call answers.
        context_of_call: Id of the call's validation context, for calls that have one.
        repeated: Calls whose request equals that of another call with a different validation context.
        outcomes: The outcome of each call, None until the call has ended.
        own_failures: The failures of rows without a call, by row.
        progress: Counts of rows.
        planned: Whether all rows have been planned, so that only follow-up calls may come.
        unsaved: Number of rows whose paid answer the cache could not keep.
        observer: Observes planned rows and recorded outcomes, in order; None for none.
        failed: Failed rows by kind. Their counts add up to `progress.failed`.
        arrivals: Calls that ended recently, for displays; None before `watch`.
        before_retry: The earlier outcome of each call that a retry sends again, if it has paid replies.
    """

    def __init__(self, rows: int) -> None:
        self.call_of_row = array("q", [UNPLANNED]) * rows
        self.keys: list[str] = []
        self.first_row = array("q")
        self.spec_of_call = array("I")
        self.weight = array("q")
        self.context_of_call: dict[int, str] = {}
        self.repeated: set[int] = set()
        self.outcomes: list[Outcome | None] = []
        self.own_failures: dict[int, Failure] = {}
        self.planned = False
        self.unsaved = 0
        self.observer: ResultObserver | None = None
        self.failed: dict[FailureKind, FailedRows] = {}
        self.arrivals: Arrivals | None = None
        self.before_retry: dict[int, Outcome] = {}
        self._twins: list[ResultTable] = []
        self._index: tuple[dict[str, int], ...] = tuple({} for _ in range(_SHARDS))
        self.progress = RunProgress(time.monotonic())

    def add(self, row: int, key: str, spec: int = 0, context: str = "") -> int:
        """Assign *row* the call of *spec* with *key* and return the call's index; its weight is counted later.

        Rows with different validation contexts have separate calls, whose equal request is sent once.
        """
        new = len(self.keys)
        shard = self._index[hash(key) & (_SHARDS - 1)]
        name = f"{key} {context}" if context else key
        call = shard.setdefault(name, new)
        if call != new and self.spec_of_call[call] != spec:
            call = shard.setdefault(f"{spec} {name}", new)
        if call == new:
            if context:
                self.context_of_call[call] = context
                if shard.setdefault(f"{spec} {key} of any context", new) != new:
                    self.repeated.add(call)
            self.keys.append(key)
            self.first_row.append(row)
            self.spec_of_call.append(spec)
            self.weight.append(0)
            self.outcomes.append(None)
            for twin in self._twins:
                twin.outcomes.append(None)
        self.call_of_row[row] = call
        return call

    def append(self, row: int, key: str) -> int:
        """Assign *row* a separate call, even if another row has one with *key*, and return the call's index."""
        call = len(self.keys)
        self.keys.append(key)
        self.first_row.append(row)
        self.spec_of_call.append(0)
        self.weight.append(0)
        self.outcomes.append(None)
        self.call_of_row[row] = call
        return call

    def forget(self, row: int) -> None:
        """Undo the planning of *row*."""
        self.call_of_row[row] = UNPLANNED
        self.own_failures.pop(row, None)

    def clear(self) -> None:
        """Release all calls and outcomes after they have been taken."""
        self.keys, self.outcomes = [], []
        self.first_row, self.weight, self.call_of_row = array("q"), array("q"), array("q")
        self.spec_of_call = array("I")
        self._index = ()
        self.own_failures.clear()
        self.before_retry.clear()

    def twin(self) -> ResultTable:
        """Return a table of the same rows and calls, including later ones, with separate outcomes."""
        twin = copy.copy(self)
        twin.outcomes = [None] * len(self.outcomes)
        twin.progress = RunProgress(time.monotonic())
        twin.failed, twin.arrivals, twin.before_retry = {}, None, {}
        twin._twins = []
        self._twins.append(twin)
        return twin

    def watch(self) -> Arrivals:
        """Record from now on which calls end, starting with an even sample of the calls that have ended."""
        ended = [call for call, outcome in enumerate(self.outcomes) if outcome is not None]
        self.arrivals = Arrivals(ended[:: len(ended) // MOST_ARRIVALS + 1])
        return self.arrivals

    @property
    def answered(self) -> int:
        """Number of rows with an answer."""
        return self.progress.done + self.progress.cached

    def record(self, call: int, outcome: Outcome) -> None:
        """Record the outcome of a call. Called on the engine's loop."""
        if call in self.before_retry:
            outcome.follow(self.before_retry[call])
        self.outcomes[call] = outcome
        self.count(outcome, self.weight[call])
        if self.arrivals is not None:
            self.arrivals.append(call)
        if self.observer is not None:
            self.observer.recorded(call, outcome)

    def record_cached(self, found: Sequence[tuple[int, Outcome]]) -> None:
        """Record valid answers that the plan found in the store."""
        outcomes, weight, cached = self.outcomes, self.weight, 0
        if self.observer is None:
            for call, outcome in found:
                # Inline, since there may be a million.
                outcomes[call] = outcome
                cached += weight[call]
            self.progress.cached += cached
            if self.arrivals is not None:
                for call, _ in found[:: len(found) // _MOST_HITS + 1]:
                    self.arrivals.append(call)
        else:
            for call, outcome in found:
                self.record(call, outcome)

    def count(self, outcome: Outcome, rows: int) -> None:
        """Count a number of *rows* that have ended with *outcome*."""
        progress = self.progress
        if outcome.failure is None:
            if outcome.cached:
                progress.cached += rows
            else:
                progress.done += rows
        elif outcome.not_sent:
            progress.not_sent += rows
        else:
            self.count_failed(outcome.failure, rows)

    def count_planned(self, rows: Sequence[int], weights: dict[int, int], *, skipped: int, failed: int) -> None:
        """Count planned rows, before their stored answers are recorded.

        Args:
            rows: The rows.
            weights: Number of these rows that each call answers. Counted here, on the loop, so that a call that ends
                meanwhile counts each row once.
            skipped: Number of rows that are not sent.
            failed: Number of rows that cannot be sent.
        """
        self.progress.skipped += skipped
        if failed:
            for own in filter(None, map(self.own_failures.get, rows)):
                self.count_failed(own, 1)
        for call, count in weights.items():
            self.weight[call] += count
            outcome = self.outcomes[call]
            if outcome is not None:
                self.count(outcome, count)
        if self.observer is not None:
            self.observer.planned(rows)

    def reopen(self, calls: Iterable[int]) -> None:
        """Forget the outcomes of *calls*, which failed or never ended, because they are sent again.

        Their cost so far stays part of their rows' cost.
        """
        for call in calls:
            outcome = self.outcomes[call]
            if outcome is not None:
                if outcome.metas or outcome.earlier:
                    self.before_retry[call] = outcome
                if outcome.not_sent:
                    self.progress.not_sent -= self.weight[call]
                elif outcome.failure is not None:
                    self.count_failed(outcome.failure, -self.weight[call])
                self.outcomes[call] = None
        self.progress.resume(time.monotonic())

    def retryable(self, kinds: set[FailureKind] | None) -> list[int]:
        """Return the calls that a retry would send: never ended, or failed with one of *kinds*.

        Args:
            kinds: The failure kinds, None for those that may succeed now.
        """

        def wanted(outcome: Outcome | None) -> bool:
            if outcome is None:
                return True
            return outcome.failure is not None and is_retryable(outcome.failure.kind, kinds)

        return [call for call, outcome in enumerate(self.outcomes) if wanted(outcome)]

    def calls_of(self, spec: int) -> list[int]:
        """Return the calls of one spec that have counted rows."""
        return [call for call, each in enumerate(self.spec_of_call) if each == spec and self.weight[call]]

    def counts_of(self, spec: int) -> tuple[int, int]:
        """Return the number of rows of one spec with an answer, and their total number."""
        outcomes = [(self.weight[call], self.outcomes[call]) for call in self.calls_of(spec)]
        kept = sum(rows for rows, outcome in outcomes if outcome is not None and outcome.failure is None)
        return kept, sum(rows for rows, _ in outcomes)

    def count_failed(self, failure: Failure, rows: int) -> None:
        """Add *rows* to the number of failed rows. It may be negative."""
        self.progress.failed += rows
        group = self.failed.get(failure.kind)
        if group is None or not group.count:
            group = self.failed[failure.kind] = FailedRows(failure.message)
        group.count += rows

    def skip(self, row: int) -> None:
        """Mark a row whose prompt has a missing value."""
        self.call_of_row[row] = SKIPPED

    def fail(self, row: int, failure: Failure) -> None:
        """Mark a row that cannot be sent."""
        self.call_of_row[row] = NEVER_SENT
        self.own_failures[row] = failure

    def outcome(self, row: int) -> Outcome | None:
        """Return the outcome of a row's call, or None if there is none yet."""
        call = self.call_of_row[row]
        return self.outcomes[call] if call >= 0 else None

    def paid(self, row: int) -> Outcome | None:
        """Return the outcome with a row's paid replies: the current one or, during a retry, the one before."""
        call = self.call_of_row[row]
        return self.before_retry.get(call) if (outcome := self.outcome(row)) is None else outcome

    def failure(self, row: int) -> Failure | None:
        """Return a row's failure, or None."""
        outcome = self.outcome(row)
        return self.own_failures.get(row) if outcome is None else outcome.failure

    def status(self, row: int) -> str:
        """Return a row's state in one word: ok, cached, failed, not_sent, skipped or pending."""
        call = self.call_of_row[row]
        if call == SKIPPED:
            return "skipped"
        if call == NEVER_SENT:
            return "failed"
        outcome = self.outcome(row)
        if outcome is None:
            return "pending"
        if outcome.failure is not None:
            return "not_sent" if outcome.not_sent else "failed"
        return "cached" if outcome.cached else "ok"


def is_retryable(kind: FailureKind, kinds: set[FailureKind] | None) -> bool:
    """Return whether a retry of *kinds* includes a failure. None means those that may succeed now."""
    if kinds is not None:
        return kind in kinds
    return kind.retried or kind.fatal or kind in (FailureKind.BUDGET, FailureKind.NOT_CACHED)
