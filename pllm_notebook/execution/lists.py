"""A run over prompts that differ in more than their text: each has a question of its own.

Prompts of one question go together, as the rows of a course of its own: they share its prefix, and its model's
limits. All courses are one run, with one budget, one display, and outcomes in the order of the list.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from pllm_notebook.engine import Engine
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution.budget import RunBudget
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.composed import ComposedCourse
from pllm_notebook.execution.courses import failure_of
from pllm_notebook.execution.execute import Execution
from pllm_notebook.execution.launch import ServiceFactory, start
from pllm_notebook.execution.outcomes import NEVER_SENT, SKIPPED, Ledger, Outcome
from pllm_notebook.execution.plan import Chunk
from pllm_notebook.execution.row_source import Rows, WholePrompts
from pllm_notebook.execution.run import Run
from pllm_notebook.messages_types import Prompt
from pllm_notebook.protocols import Store
from pllm_notebook.records import Failure, FailureKind

__all__ = ["Part", "parts_of", "start_list"]


class Part(NamedTuple):
    """Prompts that one question is put with.

    Attributes:
        ask: The question.
        rows: Where they stand in the list, in order.
        prompts: As many.
    """

    ask: CallSpec
    rows: Sequence[int]
    prompts: Sequence[Prompt]


def parts_of(asked: Iterable[tuple[Hashable, Prompt]], make: Callable[[Hashable], CallSpec]) -> list[Part]:
    """Put together what is asked in the same way.

    Args:
        asked: Of each prompt of the list: what determines its question, and the prompt.
        make: Makes a question of that; called once for each.
    """
    rows: dict[Hashable, list[int]] = {}
    prompts: dict[Hashable, list[Prompt]] = {}
    for row, (how, prompt) in enumerate(asked):
        rows.setdefault(how, []).append(row)
        prompts.setdefault(how, []).append(prompt)
    return [Part(make(how), rows[how], prompts[how]) for how in rows]


def start_list(
    parts: Sequence[Part],
    rows: Rows,
    heard: Callable[[int], None] | None = None,
    *,
    cache_dir: str | None = None,
    run_budget: RunBudget | None = None,
) -> Run:
    """Start a run over a list in the background, and give its handle at once.

    Args:
        parts: All that is asked, at least one part; together they have each row of the list once. Their options
            are those of one run: the first part's mode, cache, budget, errors and progress are all parts'.
        rows: The list, and the shape that its answers take.
        heard: Called on the engine's loop with each row that has ended, once its answer is stored.
        cache_dir: Where the answers are kept, None for the configured place.
        run_budget: Money that it shares with other runs; None for one of its own, from the options.

    Raises:
        UsageError: See `start`.
        StoreError: When the cache cannot be opened. Nothing was sent.
    """
    first, *further = [part.ask for part in parts]
    make_execution = partial(ListCourse, parts, heard, run_budget=run_budget)
    return start(first, rows, further=further, make_execution=make_execution, cache_dir=cache_dir)


class ListCourse(ComposedCourse):
    """Conduct the parts' courses side by side (see `ComposedCourse`).

    A key or a model that is refused fails the prompts of its part; the others go on.

    Args:
        parts: All that is asked.
        heard: Called with each row that has ended, None for nobody.
        rows: The list.
        engine: Where it runs.
        store: None to keep nothing.
        ended: Called when the run has ended, however it did.
        means: What the courses are given.
        purse: See `start_list`.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        heard: Callable[[int], None] | None,
        rows: Rows,
        engine: Engine,
        store: Store | None,
        ended: Callable[[], None],
        services: ServiceFactory,
        run_budget: RunBudget | None = None,
    ) -> None:
        super().__init__([part.ask for part in parts], rows.total, engine, store, ended, services, run_budget)
        self.ledger = Ledger(rows.total)
        self._heard = heard
        self._asks = {row: part.ask for part in parts for row in part.rows}
        self._parts = []
        for part in parts:
            own = _Part(part, self)
            own.course = self._courses.make(part.ask, PromptList(part.prompts), own)
            self._parts.append(own)

    def ask_of(self, row: int) -> CallSpec:
        """Return the question that a row was asked: its part's."""
        return self._asks[row]

    def begin(self) -> None:
        """Begin the parts: all at once, or in mode "sync" one after the other."""
        for part in self._parts:
            self._courses.line_up(part.course.begin)
        self._begin_next()

    def again(self, kinds: set[FailureKind] | None) -> None:
        """Send what failed once more (see `Run.retry`)."""
        self._ending.resume()
        self.ledger.reopen(self.retryable(kinds))
        for part in self._parts:
            if part.left or part.course.retryable(kinds):
                self.throughput.failed -= part.plan_again()
                self._courses.line_up_again(part.course, kinds)
        self._begin_next()

    def release(self) -> None:
        """Let go of the parts (see `Endable.release`)."""
        super().release()
        if not self.broken and self.state != "running":
            self._parts.clear()

    def let_go(self) -> None:
        """Forget how each row ended, once it has: for a run that was only a piece, and whose results are elsewhere.

        What a run is made of is tied in circles, which Python finds late; what it holds by the row is let go of here.
        """
        self.ledger.clear()
        self._asks.clear()
        for part in self._parts:
            part.let_go()

    # What it is made of.

    def _tolerates(self, course: Execution, error: PllmError) -> bool:
        if self._raises:
            return False
        # What was not even planned fails too; the rest does when its calls are done without.
        part = next(part for part in self._parts if part.course is course)
        for row in part.give_up():
            self.end(row, failure_of(error))
        return True

    def end(self, row: int, failure: Failure) -> None:
        """Note that a row has failed without a call."""
        self.ledger.fail(row, failure)
        self.throughput.failed += 1
        self.tell(row)
        self._raise_at(row, failure)

    def skip(self, row: int) -> None:
        """Note that a row is not asked at all."""
        self.ledger.skip(row)
        self.throughput.skipped += 1
        self.tell(row)

    def record(self, call: int, outcome: Outcome, rows: Sequence[int]) -> None:
        """Note how a call of this ledger ended, and for which rows."""
        self.ledger.outcomes[call] = outcome
        self.ledger.count(outcome, len(rows))
        for row in rows:
            self.tell(row)
        if outcome.failure is not None and not outcome.failure.kind.fatal:
            self._raise_at(rows[0], outcome.failure)

    def tell(self, row: int) -> None:
        """Say that a row has ended."""
        if self._heard is not None:
            self._heard(row)


class _Part:
    """One part of the list as it goes, and what is heard of its course (see `Listener`).

    Attributes:
        course: Set when it has been made.
    """

    course: Execution

    def __init__(self, part: Part, whole: ListCourse) -> None:
        self._rows = part.rows
        self._whole = whole
        self._at = 0
        self._given_up: list[int] = []
        # Of each call of the course: its index in the list's ledger, and the list's rows that it answers.
        self._calls: dict[int, tuple[int, list[int]]] = {}

    @property
    def left(self) -> int:
        """Rows that have not been planned."""
        return len(self._rows) - self._at

    def give_up(self) -> Sequence[int]:
        """Return the rows of the list that have not been planned; they are not counted on any more."""
        self._given_up = list(self._rows[self._at :])
        return self._given_up

    def plan_again(self) -> int:
        """Count on all rows again, and give how many had been given up."""
        rows, self._given_up = self._given_up, []
        for row in rows:
            self._whole.ledger.forget(row)
        return len(rows)

    def let_go(self) -> None:
        """Forget all rows and calls (see `ListCourse.let_go`)."""
        self._calls.clear()
        self.course.ledger.clear()

    def planned(self, ledger: Ledger, chunk: Chunk) -> None:
        whole = self._whole
        # Those of this chunk alone: the planner, in its own thread, may be at the next.
        count = sum(chunk.weights.values()) + chunk.skipped + chunk.failed
        here = range(self._at, self._at + count)
        self._at = here.stop
        for at in here:
            row, call = self._rows[at], ledger.call_of_row[at]
            if call == SKIPPED:
                whole.skip(row)
            elif call == NEVER_SENT:
                whole.end(row, ledger.own_failures[at])
            else:
                self._add(row, call, ledger)

    def recorded(self, call: int, outcome: Outcome) -> None:
        self._whole.record(self._calls[call][0], outcome, self._calls[call][1])

    def _add(self, row: int, call: int, ledger: Ledger) -> None:
        whole = self._whole
        if call not in self._calls:
            self._calls[call] = whole.ledger.append(row, ledger.keys[call]), []
        own, rows = self._calls[call]
        rows.append(row)
        whole.ledger.call_of_row[row] = own
        whole.ledger.weight[own] += 1
        outcome = whole.ledger.outcomes[own]
        if outcome is not None:
            whole.record(own, outcome, [row])


class PromptList(WholePrompts):
    """Prompts as they stand in a list (see `Prompts`)."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._prompts = prompts
        self.total = len(prompts)

    def prompts(self, rows: range) -> Sequence[Prompt]:
        """Return the prompts of some rows."""
        return self._prompts[rows.start : rows.stop]
