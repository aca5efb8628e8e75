"""The course of an ensemble: every row is asked of each member, and what differs is decided.

Composed of runs' own courses, so that samples, judgements and escalations have the plan, the store,
the limits, the retries and the budget of any other call. The members go side by side; a row is
decided when the last of them has ended it. Rows that must be asked further go in waves: the next
gathers while one is out. Everything here runs on the engine's loop, except what says otherwise.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from pllm_notebook.engine import Engine
from pllm_notebook.ensemble.courses import Courses
from pllm_notebook.ensemble.deciding import Decided, Deciding
from pllm_notebook.ensemble.decisions import Decision, Plan, decide
from pllm_notebook.ensemble.further import Further
from pllm_notebook.ensemble.members import Members
from pllm_notebook.exceptions import PllmError
from pllm_notebook.protocols import Store
from pllm_notebook.records import Failure, FailureKind
from pllm_notebook.run import Chunk, Ledger, Means, Outcome, Pace, Purse, Rows, State
from pllm_notebook.run.ending import Ending, Reason, row_error

__all__ = ["EnsembleCourse"]

logger = logging.getLogger("pllm_notebook")


class EnsembleCourse:
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
        broken: Whether a fault of ours ended it.
        pace: Counts of rows, by what was decided.
    """

    def __init__(
        self,
        plan: Plan,
        rows: Rows,
        engine: Engine,
        store: Store | None,
        ended: Callable[[], None],
        means: Means,
    ) -> None:
        options = plan.members[0].ask.options
        self.plan = plan
        self.total = rows.total
        self.model = ", ".join(dict.fromkeys(member.model for member in plan.members))
        self.simulated = any(member.ask.target.simulated for member in plan.members)
        self.broken = False
        self.pace = Pace(time.monotonic())
        self.decisions: dict[int, Decision] = {}
        self._ended = ended
        self._raises = options.mode == "sync" or options.errors == "raise"
        self._ending = Ending()
        self._courses = Courses(
            engine, store, means, Purse(options.max_cost_usd), self._course_ended, serial=options.mode == "sync"
        )
        self._members = Members(plan, rows, self._courses, self._planned, self._hear)
        self.ledger: Ledger = self._members.ledger
        self._deciding = Deciding(engine, self._decide, self._decided, self._go_on, self._undecidable)
        self._further = Further(plan, self._courses, self._deciding, self._ending, self._members)

    @property
    def state(self) -> State:
        """Running until it has ended."""
        return self._ending.state

    @property
    def error(self) -> BaseException | None:
        """What ended it, for the caller to raise; None for nothing."""
        return self._ending.error

    @property
    def judged(self) -> int:
        """Calls that were put to the judge or the strong model, whether or not the store answered."""
        return self._further.judged

    @property
    def in_flight(self) -> int:
        """Calls on the wire."""
        return self._courses.in_flight

    @property
    def submitted(self) -> bool:
        """Whether everything that it asks now is on its way."""
        return self.state != "running" or self._courses.submitted

    @property
    def kept(self) -> int:
        """Rows that have an answer."""
        return self.pace.done + self.pace.cached

    @property
    def unsaved(self) -> int:
        """Paid answers that the cache could not keep."""
        return self._courses.unsaved

    @property
    def input_tokens(self) -> int:
        """Of all calls of this run."""
        return self._courses.input_tokens

    @property
    def output_tokens(self) -> int:
        """Of all calls of this run."""
        return self._courses.output_tokens

    @property
    def cached_tokens(self) -> int:
        """Input tokens that providers read from their prompt caches."""
        return self._courses.cached_tokens

    @property
    def cost_usd(self) -> float | None:
        """Spent by calls of this run, None once one of unknown price is among them."""
        return self._courses.cost_usd

    @property
    def note(self) -> str:
        """One line of news, "" for none."""
        told = dict.fromkeys(course.note for course in self._courses if course.note)
        further = self.plan.further
        if self.judged and further is not None:
            who = "judge" if self.plan.decide == "judge" else further.target.label
            told = {f"{who} called on {self.judged:,} of {len(self.ledger.keys):,}{self._saved()}": None} | told
        return "; ".join(told)

    def _saved(self) -> str:
        """Say, when a cascade is over, what it cost beside the strong model alone; "" where nobody knows."""
        cost = self.cost_usd
        alone = self._further.alone_usd(len(self.ledger.keys)) if self.plan.decide == "escalate" else None
        # Answers that were in the cache would make the comparison unfair.
        cached = any(course.pace.cached for course in self._courses)
        if alone is None or cost is None or cached or self.state == "running":
            return ""
        return f": ${cost:.4f} in place of about ${alone:.4f} for it alone"

    @property
    def warnings(self) -> list[str]:
        """What a person should hear of at the end, besides rows that failed."""
        troubles = [decision.trouble for decision in self.decisions.values() if decision.trouble]
        if not troubles:
            return []
        failed = f"The {self._further.who} failed on {len(troubles):,} of {self.judged:,} calls"
        return [f"{failed}, which have the majority's answer instead. The first: {troubles[0]}"]

    def begin(self) -> None:
        """Start the members: all at once, or in mode "sync" one after the other."""
        self._members.line_up()
        self._begin_next()

    def stop(self, state: State, error: Reason) -> None:
        """Admit nothing more and cancel what is on the wire, once; the first reason stands."""
        if self._ending.stop(state, error):
            self._courses.stop(state)
            self._finish_if_over()

    def fail(self, error: Exception) -> None:
        """End at once by a fault of ours (see `run.Conductor.fail`)."""
        logger.error("The run is ended by a fault of this package", exc_info=error)
        if self.state != "running":
            return
        self.broken = True
        if not self._ending.stop("failed", error):
            self._ending.blame(error)
        self._courses.stop("failed")
        self._finish()

    def look(self) -> None:
        """Bring the courses' notes up to date. For the display's clock."""
        self._courses.look()

    def again(self, kinds: set[FailureKind] | None) -> None:
        """Ask once more for the rows that have no answer (see `Run.retry`)."""
        calls = set(self.retryable(kinds))
        for call in calls:
            if self.ledger.outcomes[call] is not None:
                self.pace.failed -= self.ledger.weight[call]
                self.ledger.outcomes[call] = None
                del self.decisions[call]
        self._ending.resume()
        self.pace.resume(time.monotonic())
        self._deciding.forget()
        self._further.forget()
        self._members.line_up_again(kinds, calls)
        self._begin_next()

    def retryable(self, kinds: set[FailureKind] | None) -> list[int]:
        """Give the calls that `again` would decide: not yet decided, or failed in a way that can pass."""
        return self.ledger.retryable(kinds)

    def outcomes(self, call: int) -> list[Outcome | None]:
        """Give what each member has made of *call*, None for what has not ended."""
        return self._members.outcomes(call)

    # The courses it is made of.

    def _begin_next(self) -> None:
        self._courses.begin_next()
        self._finish_if_over()

    def _course_ended(self) -> None:
        for course, error in self._courses.troubled():
            if self.plan.tolerant and isinstance(error, PllmError) and not course.broken:
                self._courses.do_without(course, error)
            else:
                # A key or a model that is refused, or a fault of ours: every row would meet it.
                self.stop("failed", error)
        self._begin_next()
        self._go_on()

    def _go_on(self) -> None:
        self._further.send()
        self._finish_if_over()

    # Hearing of answers, and deciding.

    def _planned(self, chunk: Chunk, first: bool) -> None:
        if chunk.missing and not self.plan.tolerant and self.plan.members[0].ask.options.cache != "only":
            # Before the first call is sent and not when the judge's turn has come.
            for ask in (*(member.ask for member in self.plan.members), self.plan.further):
                if ask is not None and ask.target.keyless is not None:
                    self.stop("failed", ask.target.keyless)
        if not first:
            return
        self.pace.skipped += chunk.skipped
        self.pace.failed += chunk.failed
        for call, rows in chunk.weights.items():
            outcome = self.ledger.outcomes[call]
            if outcome is not None:
                self.pace.count(outcome, rows)
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
        self.ledger.outcomes[call] = outcome
        self.decisions[call] = decision
        self.pace.count(outcome, self.ledger.weight[call])
        if outcome.failure is not None:
            self._raise_at(self.ledger.first_row[call], outcome.failure)

    def _raise_at(self, row: int, failure: Failure) -> None:
        """End the run at a failed row, where the caller asked for that."""
        if self._raises:
            self.stop("failed", row_error(row, failure))

    # The end.

    def _finish_if_over(self) -> None:
        if self.state != "running" or self._courses.going or self._deciding.busy:
            return
        if self._ending.stopping is None and (self._courses.waiting or self._further):
            return
        self._finish()

    def _finish(self) -> None:
        if self.state != "running":
            return
        # Being out of money is no error, but a run that ended so is not done either.
        self._ending.end("failed" if self._courses.short else "done", kept=self.kept, total=self.total)
        self.pace.finish(time.monotonic())
        self._ended()
