"""The course of an ensemble: every row is asked of each member, and what differs is decided.

Composed of runs' own courses, so that samples, judgements and escalations have the plan, the store,
the limits, the retries and the budget of any other call. The members go side by side; a row is
decided when the last of them has ended it. Rows that must be asked further go in waves: the next
gathers while one is out. Everything here runs on the engine's loop, except what says otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from pllm_notebook.engine import Engine
from pllm_notebook.ensemble.decisions import Decision, Plan, decide
from pllm_notebook.ensemble.verdicts import ballot
from pllm_notebook.ensemble.votes import Tally
from pllm_notebook.ensemble.waves import Wave
from pllm_notebook.exceptions import MissingKeyError, PllmError, ProviderRejectedError, RowError, StoppedError
from pllm_notebook.protocols import Store
from pllm_notebook.records import Failure, FailureKind
from pllm_notebook.run import (
    Ask,
    Chunk,
    Conductor,
    Ledger,
    Listener,
    Means,
    Outcome,
    Pace,
    Prompts,
    Purse,
    Rows,
    State,
)

__all__ = ["EnsembleCourse"]

logger = logging.getLogger("pllm_notebook")

Decided = tuple[Outcome, Decision] | None


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
        judged: Calls that were put to the judge or the strong model, whether or not the store answered.
        state: "running" until it has ended.
        error: What ended it, for the caller to raise; None for nothing.
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
        self.state: State = "running"
        self.error: BaseException | None = None
        self.pace = Pace(time.monotonic())
        self.decisions: dict[int, Decision] = {}
        self.judged = 0
        self._rows = rows
        self._engine = engine
        self._store = store
        self._ended = ended
        self._means = means
        self._purse = Purse(options.max_cost_usd)
        self._serial = options.mode == "sync"
        self._batch = options.mode == "batch"
        self._raises = self._serial or options.errors == "raise"
        self._listeners: dict[Conductor, Listener] = {}
        self._members = [
            self._course(member.ask, rows, rows.total, _Member(self, first=at == 0))
            for at, member in enumerate(plan.members)
        ]
        self._waves: list[Conductor] = []
        self._refused: set[Conductor] = set()
        self.ledger: Ledger = self._members[0].ledger.twin()
        # Members that have not begun, and the number of courses that have and have not ended.
        self._waiting: deque[Callable[[], None]] = deque()
        self._going = 0
        # Of each call that is not decided: how many members have ended it.
        self._heard: Counter[int] = Counter()
        self._ready: list[tuple[int, Outcome | None]] = []
        self._deciding = False
        self._contested: list[int] = []
        self._stopping: State | None = None
        self._reason: BaseException | Callable[..., StoppedError] | None = None

    @property
    def in_flight(self) -> int:
        """Calls on the wire."""
        return sum(course.in_flight for course in self._courses())

    @property
    def submitted(self) -> bool:
        """Whether everything that it asks now is on its way."""
        return self.state != "running" or (not self._waiting and all(course.submitted for course in self._courses()))

    @property
    def kept(self) -> int:
        """Rows that have an answer."""
        return self.pace.done + self.pace.cached

    @property
    def unsaved(self) -> int:
        """Paid answers that the cache could not keep."""
        return sum(course.unsaved for course in self._courses())

    @property
    def input_tokens(self) -> int:
        """Of all calls of this run."""
        return sum(course.input_tokens for course in self._courses())

    @property
    def output_tokens(self) -> int:
        """Of all calls of this run."""
        return sum(course.output_tokens for course in self._courses())

    @property
    def cached_tokens(self) -> int:
        """Input tokens that providers read from their prompt caches."""
        return sum(course.cached_tokens for course in self._courses())

    @property
    def cost_usd(self) -> float | None:
        """Spent by calls of this run, None once one of unknown price is among them."""
        total = 0.0
        for course in self._courses():
            if course.cost_usd is None:
                return None
            total += course.cost_usd
        return total

    @property
    def note(self) -> str:
        """One line of news, "" for none."""
        told = dict.fromkeys(course.note for course in self._courses() if course.note)
        further = self.plan.further
        if self.judged and further is not None:
            who = "judge" if self.plan.decide == "judge" else further.target.label
            told = {f"{who} called on {self.judged:,} of {len(self.ledger.keys):,}": None} | told
        return "; ".join(told)

    @property
    def warnings(self) -> list[str]:
        """What a person should hear of at the end, besides rows that failed."""
        troubles = [decision.trouble for decision in self.decisions.values() if decision.trouble]
        if not troubles:
            return []
        who = "judge" if self.plan.decide == "judge" else "strong model"
        failed = f"The {who} failed on {len(troubles):,} of {self.judged:,} calls"
        return [f"{failed}, which have the majority's answer instead. The first: {troubles[0]}"]

    def begin(self) -> None:
        """Start the members: all at once, or in mode "sync" one after the other."""
        self._waiting.extend(member.begin for member in self._members)
        self._begin_next()

    def stop(self, state: State, error: BaseException | Callable[..., StoppedError] | None) -> None:
        """Admit nothing more and cancel what is on the wire, once; the first reason stands."""
        if self._stopping is not None or self.state != "running":
            return
        self._stopping, self._reason = state, error
        self._waiting.clear()
        for course in list(self._courses()):
            course.stop(state, None)
        self._finish_if_over()

    def fail(self, error: Exception) -> None:
        """End at once by a fault of ours (see `run.Conductor.fail`)."""
        logger.error("The run is ended by a fault of this package", exc_info=error)
        if self.state != "running":
            return
        self.broken = True
        self._stopping, self._reason = self._stopping or "failed", self._reason or error
        self._waiting.clear()
        for course in list(self._courses()):
            course.stop("failed", None)
        self._finish()

    def look(self) -> None:
        """Bring the courses' notes up to date. For the display's clock."""
        for course in self._courses():
            if course.state == "running":
                course.look()

    def again(self, kinds: set[FailureKind] | None) -> None:
        """Ask once more for the rows that have no answer (see `Run.retry`)."""
        calls = set(self.retryable(kinds))
        for call in calls:
            if self.ledger.outcomes[call] is not None:
                self.pace.failed -= self.ledger.weight[call]
                self.ledger.outcomes[call] = None
                del self.decisions[call]
        self._stopping, self._reason, self.error, self.state = None, None, None, "running"
        self.pace.resume(time.monotonic())
        self._heard.clear()
        self._ready, self._contested = [], []
        for member in self._members:
            # The ledger is the first member's; another may have planned calls that this one had not, at a stop.
            sent_again = {call for call in member.retryable(kinds) if call in calls or call >= len(self.ledger.keys)}
            self._waiting.append(partial(member.again, kinds, sent_again))
            for call, outcome in enumerate(member.ledger.outcomes):
                if outcome is not None and call not in sent_again and self._undecided(call):
                    self._hear(call)
        self._begin_next()

    def retryable(self, kinds: set[FailureKind] | None) -> list[int]:
        """Give the calls that `again` would decide: not yet decided, or failed in a way that can pass."""
        return self.ledger.retryable(kinds)

    # The courses it is made of.

    def _courses(self) -> Iterator[Conductor]:
        yield from self._members
        yield from self._waves

    def _course(self, ask: Ask, rows: Prompts, total: int, listener: Listener) -> Conductor:
        course = Conductor(
            ask,
            rows,
            total,
            self._engine,
            self._store,
            self._course_ended,
            self._means.limits(ask.target),
            self._means.sender(ask.target),
            purse=self._purse,
            listener=listener,
        )
        self._listeners[course] = listener
        return course

    def _begin_next(self) -> None:
        while self._waiting and not (self._serial and self._going):
            self._going += 1
            self._waiting.popleft()()
        self._finish_if_over()

    def _course_ended(self) -> None:
        self._going -= 1
        for course in list(self._courses()):
            if course.state != "failed" or course.error is None or course in self._refused:
                continue
            if self.plan.tolerant and isinstance(course.error, PllmError) and not course.broken:
                self._do_without(course, course.error)
            else:
                # A key or a model that is refused, or a fault of ours: every row would meet it.
                self.stop("failed", course.error)
        self._begin_next()
        self._send_wave()
        self._finish_if_over()

    def _do_without(self, course: Conductor, error: PllmError) -> None:
        """Let what *course* has not ended fail with what ended it."""
        self._refused.add(course)
        failure = _failure_of(error)
        for call, outcome in enumerate(course.ledger.outcomes):
            if outcome is None:
                course.ledger.outcomes[call] = missed = Outcome(None, failure, course.ledger.keys[call], (), False)
                self._listeners[course].recorded(call, missed)

    # Hearing of answers, and deciding.

    def _planned(self, chunk: Chunk, *, first: bool) -> None:
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

    def _undecided(self, call: int) -> bool:
        return call >= len(self.ledger.outcomes) or self.ledger.outcomes[call] is None

    def _hear(self, call: int) -> None:
        """Note that one more member has ended *call*."""
        self._heard[call] += 1
        if self._heard[call] == len(self._members):
            del self._heard[call]
            self._decide_soon(call, None)

    def _decide_soon(self, call: int, further: Outcome | None) -> None:
        self._ready.append((call, further))
        if not self._deciding:
            self._decide()

    def _decide(self) -> None:
        # Whatever has come while the last group was decided makes the next.
        group, self._ready = self._ready, []
        self._deciding = bool(group)
        if group:
            work = self._engine.loop.loop.run_in_executor(self._engine.workers, self._decided, group)
            work.add_done_callback(partial(self._take_decided, group))

    def _decided(self, group: Sequence[tuple[int, Outcome | None]]) -> list[Decided]:
        """In a worker thread, since types and callables are the user's code."""
        plan = self.plan
        return [decide(plan, self._outcomes(call), further, partial(self.question, call)) for call, further in group]

    def _take_decided(self, group: Sequence[tuple[int, Outcome | None]], work: asyncio.Future[list[Decided]]) -> None:
        try:
            decided = work.result()
        except BaseException as error:  # rows must not wait for ever
            logger.exception("Answers could not be decided")
            self._deciding = False
            self._ready.clear()
            self.stop("failed", error)
            self._finish_if_over()
            return
        for (call, _), made in zip(group, decided, strict=True):
            if made is None:
                self._contested.append(call)
            else:
                self._record(call, *made)
        self._decide()
        self._send_wave()
        self._finish_if_over()

    def _record(self, call: int, outcome: Outcome, decision: Decision) -> None:
        self.ledger.outcomes[call] = outcome
        self.decisions[call] = decision
        self.pace.count(outcome, self.ledger.weight[call])
        if outcome.failure is not None:
            self._raise_at(self.ledger.first_row[call], outcome.failure)

    def _raise_at(self, row: int, failure: Failure) -> None:
        """End the run at a failed row, where the caller asked for that."""
        if self._raises and self._stopping is None:
            message = f"Row {row:,} failed ({failure.kind}): {failure.message}"
            self.stop("failed", partial(RowError, message, position=row, kind=failure.kind))

    def outcomes(self, call: int) -> list[Outcome | None]:
        """Give what each member has made of *call*, None for what has not ended."""
        ledgers = [member.ledger.outcomes for member in self._members]
        return [outcomes[call] if call < len(outcomes) else None for outcomes in ledgers]

    def question(self, call: int) -> str:
        """Make the prompt of *call*."""
        row = self.ledger.first_row[call]
        (prompt,) = self._rows.prompts(range(row, row + 1))
        assert isinstance(prompt, str)  # it has been asked
        return prompt

    def _outcomes(self, call: int) -> list[Outcome]:
        return [outcome for outcome in self.outcomes(call) if outcome is not None]

    # Asking further.

    def _send_wave(self) -> None:
        busy = bool(self._waves) and self._waves[-1].state == "running"
        if not self._contested or busy or self._stopping is not None or (self._serial and self._going):
            return
        if self._batch and (self._going or self._deciding or self._ready):
            return  # all further calls in one job
        assert self.plan.further is not None  # else nothing is contested
        calls, self._contested = self._contested, []
        self.judged += len(calls)
        wave = Wave(calls, self._ballot if self.plan.decide == "judge" else self.question, self._decide_soon)
        self._waves.append(self._course(self.plan.further, wave, len(calls), wave))
        self._going += 1
        self._waves[-1].begin()

    def _ballot(self, call: int) -> str:
        plan, question = self.plan, self.question(call)
        values = [outcome.value for outcome in self._outcomes(call) if outcome.failure is None]
        tally = Tally(plan.output, [plan.answer(value) for value in values])
        asked = plan.members[0].ask
        *history, _ = asked.turns(question)
        return ballot(question, asked.system, tally, reasonings=plan.reasonings(values), history=history)

    # The end.

    def _finish_if_over(self) -> None:
        if self.state != "running" or self._going or self._deciding or self._ready:
            return
        if self._stopping is None and (self._waiting or self._contested):
            return
        self._finish()

    def _finish(self) -> None:
        if self.state != "running":
            return
        reason = self._reason
        if reason is not None and not isinstance(reason, BaseException):
            reason = reason(kept=self.kept, total=self.total)
        self.error = reason
        # Being out of money is no error, but a run that ended so is not done either.
        short = any(course.state == "failed" and course not in self._refused for course in self._courses())
        self.state = self._stopping or ("failed" if short else "done")
        self.pace.finish(time.monotonic())
        self._ended()


class _Member:
    """What the ensemble hears of one of its members."""

    def __init__(self, ensemble: EnsembleCourse, *, first: bool) -> None:
        self._ensemble = ensemble
        self._first = first

    def planned(self, ledger: Ledger, chunk: Chunk) -> None:
        self._ensemble._planned(chunk, first=self._first)

    def recorded(self, call: int, outcome: Outcome) -> None:
        self._ensemble._hear(call)


def _failure_of(error: PllmError) -> Failure:
    """Say of a call that was never sent why its model cannot be asked."""
    if isinstance(error, ProviderRejectedError):
        return Failure(FailureKind(error.kind), str(error), error.status)
    kind = FailureKind.AUTHENTICATION if isinstance(error, MissingKeyError) else FailureKind.INPUT
    return Failure(kind, str(error))
