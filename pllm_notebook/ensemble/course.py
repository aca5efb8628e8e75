"""The course of an ensemble: every row is asked of each member, and what differs is decided.

Composed of runs' own courses, so that samples, judgements and escalations have the plan, the store,
the limits, the retries and the budget of any other call. The members go side by side; a row is
decided when the last of them has ended it. Rows that must be asked further go in waves: the next
gathers while one is out. Everything here runs on the engine's loop, except what says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pllm_notebook.engine import Engine
from pllm_notebook.ensemble.deciding import Decided, Deciding
from pllm_notebook.ensemble.decisions import Decision, EnsembleSpec, decide
from pllm_notebook.ensemble.further import Further
from pllm_notebook.ensemble.members import Members
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import CallSpec, Chunk, ComposedCourse, Ledger, Outcome, Rows, ServiceFactory
from pllm_notebook.execution.execute import Execution
from pllm_notebook.formatting import format_usd
from pllm_notebook.protocols import Store
from pllm_notebook.records import FailureKind

__all__ = ["EnsembleCourse"]


class EnsembleCourse(ComposedCourse):
    """Conduct the members' courses, and what comes after them (see `run.Course`).

    Args:
        plan: Who answers, and how one of the answers is chosen.
        rows: The rows.
        engine: Where it runs.
        store: None to keep nothing.
        ended: Called when the run has ended, however it did.
        means: What the members' courses are given.

    Attributes:
        plan: As given.
        ledger: The decided outcomes; its rows and calls are those of the first member.
        decisions: How each call was decided, by its index; nothing for one that is not.
    """

    def __init__(
        self,
        plan: EnsembleSpec,
        rows: Rows,
        engine: Engine,
        store: Store | None,
        ended: Callable[[], None],
        services: ServiceFactory,
    ) -> None:
        super().__init__([member.ask for member in plan.members], rows.total, engine, store, ended, services)
        self.plan = plan
        self.decisions: dict[int, Decision] = {}
        self._members = Members(plan, rows, self._courses, self._planned, self._hear)
        self.ledger = self._members.ledger
        self._deciding = Deciding(engine, self._decide, self._decided, self._go_on, self._undecidable)
        self._further = Further(plan, self._courses, self._deciding, self._ending, self._members)

    @property
    def judged(self) -> int:
        """Calls that were put to the judge or the strong model, whether or not the store answered."""
        return self._further.judged

    @property
    def note(self) -> str:
        """One line of news, "" for none."""
        told = super().note
        further = self.plan.further
        if not self.judged or further is None:
            return told
        who = "judge" if self.plan.decide == "judge" else further.target.label
        called = f"{who} called on {self.judged:,} of {len(self.ledger.keys):,}{self._saved()}"
        return f"{called}; {told}" if told else called

    def _saved(self) -> str:
        """Say, when a cascade is over, what it cost beside the strong model alone; "" where nobody knows."""
        cost = self.spent.cost_usd
        alone = self._further.alone_usd(len(self.ledger.keys)) if self.plan.decide == "escalate" else None
        # Answers that were in the cache would make the comparison unfair.
        cached = any(course.throughput.cached for course in self._courses)
        if alone is None or cost is None or cached or self.state == "running":
            return ""
        return f": {format_usd(cost)} in place of about {format_usd(alone)} for it alone"

    @property
    def warnings(self) -> list[str]:
        """What a person should hear of at the end, besides rows that failed."""
        troubles = [decision.judge_error for decision in self.decisions.values() if decision.judge_error]
        waiting = list(super().warnings)
        if not troubles:
            return waiting
        failed = f"The {self._further.who} failed on {len(troubles):,} of {self.judged:,} calls"
        return [*waiting, f"{failed}, which have the majority's answer instead. The first: {troubles[0]}"]

    def begin(self) -> None:
        """Start the members: all at once, or in mode "sync" one after the other."""
        self._members.line_up()
        self._begin_next()

    def again(self, kinds: set[FailureKind] | None) -> None:
        """Ask once more for the rows that have no answer (see `Run.retry`)."""
        calls = set(self.retryable(kinds))
        for call in calls:
            self.decisions.pop(call, None)
        self._ending.resume()
        self.ledger.reopen(calls)
        self._deciding.forget()
        self._further.forget()
        self._members.line_up_again(kinds, calls)
        self._begin_next()

    def release(self) -> None:
        """Let go of what decides and of what hears (see `Endable.release`); the members' answers stay."""
        super().release()
        if not self.broken and self.state != "running":
            vars(self._deciding).clear()
            self._members.release()

    def outcomes(self, call: int) -> list[Outcome | None]:
        """Return what each member has made of *call*, None for what has not ended."""
        return self._members.outcomes(call)

    @property
    def member_ledgers(self) -> list[Ledger]:
        """What each member has made of the rows, in order; their calls are those of `ledger`, as far as planned."""
        return self._members.ledgers

    def ask_of(self, row: int) -> CallSpec:
        """Return the question that a row was asked: the first member's."""
        return self.plan.members[0].ask

    # What it is made of.

    def _tolerates(self, course: Execution, error: PllmError) -> bool:
        return self.plan.tolerant

    def _go_on(self) -> None:
        self._further.send()
        self._finish_if_over()

    def _busy(self) -> bool:
        return self._deciding.busy

    def _more(self) -> bool:
        return bool(self._further)

    # Hearing of answers, and deciding.

    def _planned(self, chunk: Chunk, first: bool) -> None:
        if chunk.missing and not self.plan.tolerant and self.plan.members[0].ask.options.cache != "only":
            # Before the first call is sent and not when the judge's turn has come.
            for ask in (*(member.ask for member in self.plan.members), self.plan.further):
                if ask is not None and ask.target.missing_key is not None:
                    self.stop("failed", ask.target.missing_key)
        if not first:
            return
        self.throughput.skipped += chunk.skipped
        self.throughput.failed += chunk.failed
        for call, rows in chunk.weights.items():
            outcome = self.ledger.outcomes[call]
            if outcome is not None:
                self.ledger.count(outcome, rows)
        if chunk.failed:
            row = min(self.ledger.own_failures)
            self._raise_at(row, self.ledger.own_failures[row])

    def _hear(self, call: int) -> None:
        self._deciding.take(call, None)

    def _decide(self, call: int, further: Outcome | None) -> Decided:
        """In a worker thread."""
        return decide(self.plan, self._members.answers(call), further, partial(self._members.question, call))

    def _decided(self, call: int, made: Decided) -> None:
        if made is None:
            self._further.take(call)
        else:
            self._record(call, *made)

    def _undecidable(self, error: BaseException) -> None:
        self.stop("failed", error)
        self._finish_if_over()

    def _record(self, call: int, outcome: Outcome, decision: Decision) -> None:
        self.decisions[call] = decision
        self.ledger.record(call, outcome)
        if outcome.failure is not None:
            self._raise_at(self.ledger.first_row[call], outcome.failure)
