"""The course of one run: its life from plan to end, and what it is made of.

Rows are planned and looked up in a worker thread; what the store lacks goes to the backlog, from where the
tender offers it to a lane; what comes down goes through the reception into the books. Answers that others have
brought meanwhile take the place of calls. Everything here runs on the engine's loop, except what says
otherwise, so nothing needs a lock.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Container
from contextlib import suppress
from functools import partial

from pllm_notebook import prompts
from pllm_notebook.engine import Ceiling, Engine
from pllm_notebook.exceptions import BudgetError
from pllm_notebook.execution.ahead import Ahead
from pllm_notebook.execution.backlog import Backlog
from pllm_notebook.execution.books import Books
from pllm_notebook.execution.budget import ModelBudget, RunBudget
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.cost import CostTracker
from pllm_notebook.execution.course import Listener, Sender, State
from pllm_notebook.execution.dispatchers import dispatcher_for
from pllm_notebook.execution.ending import Endable, Reason, tell_of_fault
from pllm_notebook.execution.failure_recorder import FailureRecorder
from pllm_notebook.execution.learned_limits import LimitCache
from pllm_notebook.execution.meanwhile import Meanwhile
from pllm_notebook.execution.outcomes import Ledger, Outcome
from pllm_notebook.execution.packing.packer import Packer
from pllm_notebook.execution.planner import Planner, Prompts
from pllm_notebook.execution.planning import Planning
from pllm_notebook.execution.reception import Reception
from pllm_notebook.execution.rejections import RejectionTracker
from pllm_notebook.execution.run_claims import JobLookup, RunClaims
from pllm_notebook.execution.settle import Arrival
from pllm_notebook.execution.shared_store import SharedStore
from pllm_notebook.execution.tender import Tender
from pllm_notebook.execution.user_code import ABANDON_AFTER_S
from pllm_notebook.execution.user_limits import UserRateLimits
from pllm_notebook.protocols import Store
from pllm_notebook.records import Failure, FailureKind, Spent

__all__ = ["Conductor"]

logger = logging.getLogger("pllm_notebook")

# Claims of calls that have ended are given back together, since each time costs a transaction; others look more rarely.
_RELEASED_TOGETHER_S = 0.05


class Conductor(Endable):
    """Conduct one run on the engine's loop (see `Course`, as for what has no words of its own here).

    Args:
        ask: The question.
        rows: The rows' prompts.
        total: Number of rows.
        engine: Where it runs.
        store: None to keep nothing.
        ended: Called when the run has ended, however it did.
        limits: Where what it learns of the provider's limits is kept, None for nowhere.
        sender: Gives what carries its calls; None for the live lane of its model.
        purse: Money that several courses share; None for one of its own, from the options.
        ceilings: The caller's own limits, which several courses keep together; None for those of the options.
        listener: Who decides what becomes of the outcomes, where they are samples; a failure then ends nothing.
        jobs: Knows which calls wait in batch jobs, None where there can be none.

    Attributes:
        ask: As given.
        total: As given.
        budget: What its calls may take from the purse.
        broken: Whether a fault of ours ended it: what is still on its way can then not be counted on.
        note: One line of news for the display, "" for none.
    """

    def __init__(
        self,
        ask: CallSpec,
        rows: Prompts,
        total: int,
        engine: Engine,
        store: Store | None,
        ended: Callable[[], None],
        limits: LimitCache | None = None,
        sender: Callable[[], Sender] | None = None,
        run_budget: RunBudget | None = None,
        ceilings: tuple[Ceiling, ...] | None = None,
        listener: Listener | None = None,
        jobs: JobLookup | None = None,
    ) -> None:
        options, target = ask.options, ask.target
        super().__init__(raises=listener is None and (options.mode == "sync" or options.errors == "raise"))
        self.ask = ask
        self.total = total
        self.model = target.label
        self.simulated = target.simulated
        self.note = ""
        self.warnings: tuple[str, ...] = ()
        self._engine = engine
        self._limits = limits
        self._ended = ended
        self._begun = False
        rate = ask.rate(batch=options.mode == "batch")
        self.budget = ModelBudget(run_budget or RunBudget(options.max_cost_usd), rate, ask.output_limit, target.label)
        self._cost_tracker = CostTracker(self.budget, rate)
        self.ledger = Ledger(total)
        shared: SharedStore | None = store if isinstance(store, SharedStore) else None
        self._claims = RunClaims(
            # Who refreshes wants an answer of their own.
            None if shared is None or options.cache == "refresh" else shared.claims,
            "batch" if options.mode == "batch" else "live",
            jobs,
            waits=bool(options.wait),
            soon=partial(engine.loop.loop.call_later, _RELEASED_TOGETHER_S),
            now=engine.loop.loop.time,
        )
        self._books = Books(
            self.ledger, self.model, listener, self._raise_at, ended=lambda call: self._backlog.ended(call)
        )
        self.throughput = self._books.throughput
        planner = self._planner = Planner(ask, rows, total, self.ledger, store)
        prompt = planner.prompt
        packing = Packer(ask, rows, self.ledger, planner, store) if ask.packed else None
        if ask.packed is not None:
            # Packs are made only when they are sent; with an empty one, the first shows what all begin with.
            ask.packed.expect(prompts.packed(rows.source, ()))
        self._meanwhile = Meanwhile(ask, store, self._books, self._take)
        self._rejections = RejectionTracker(at_once=self._raises)
        self._backlog = Backlog(ask, self.ledger, prompt, packing, self._meanwhile.answered, self._lose, self._claims)
        self._reception = Reception(
            ask,
            engine,
            store,
            prompt,
            ending=self._ending,
            books=self._books,
            backlog=self._backlog,
            packing=packing,
            failures=FailureRecorder(ask, store, prompt, rows),
            meanwhile=self._meanwhile,
            rejections=self._rejections,
            owner=self,
            worked=lambda: self._tender.complete(),
        )
        self._tender = Tender(
            ask,
            engine.loop.loop,
            sender or partial(dispatcher_for, engine, target, limits),
            store,
            ending=self._ending,
            books=self._books,
            backlog=self._backlog,
            packing=packing,
            cost_tracker=self._cost_tracker,
            meanwhile=self._meanwhile,
            rejections=self._rejections,
            landed=self._reception.landed,
            working=lambda: self._reception.working > 0,
            owner=self,
            ceilings=UserRateLimits().of(ask) if ceilings is None else ceilings,
        )
        if options.images:
            self._backlog.ahead = Ahead(
                self._backlog.encoded, engine.loop.loop, engine.workers, ready=self._tender.send
            )
        self._planning = Planning(
            ask,
            engine,
            planner,
            ending=self._ending,
            books=self._books,
            backlog=self._backlog,
            meanwhile=self._meanwhile,
            tender=self._tender,
            calling=self._reception.run_tools,
            failed=self._raise_at,
            owner=self,
        )

    # What displays and callers read.

    @property
    def in_flight(self) -> int:
        """Calls on the wire."""
        return self._tender.in_flight

    @property
    def submitted(self) -> bool:
        """Whether everything that it asks is on its way."""
        return self.state != "running" or self._tender.submitted

    @property
    def kept(self) -> int:
        """Rows that have an answer."""
        return self._books.kept

    @property
    def unsaved(self) -> int:
        """Rows whose paid answer the cache could not keep."""
        return self._books.unsaved

    @property
    def spent(self) -> Spent:
        """What calls of this run have used and cost."""
        return self._cost_tracker.spent

    @property
    def reserved_usd(self) -> float:
        """US dollars put by for requests that are out, under a ceiling."""
        return self.budget.run_budget.reserved_usd

    def look(self) -> None:
        """Say in `note` what keeps calls back at this moment, "" for nothing. For the display's clock."""
        self.note = self._tender.held_by()

    def ask_of(self, row: int) -> CallSpec:
        """Return the question that a row was asked: all have one."""
        return self.ask

    # Its life.

    def begin(self) -> None:
        """Start planning; calls leave as soon as the first chunk is planned."""
        self.budget.run_budget.expect(self, self._left)
        self._begun = True
        self._claims.begin()
        self._meanwhile.begin(self._tender.begin())
        self._planning.begin()

    def again(self, kinds: set[FailureKind] | None, among: Container[int] | None = None) -> None:
        """Send what failed once more (see `Run.retry`).

        Args:
            kinds: Of failures; None for those that can pass.
            among: The calls to look at, None for all.
        """
        self._ending.resume()
        self._rejections.reset()
        calls = [call for call in self.retryable(kinds) if among is None or call in among]
        self._meanwhile.retry(calls, passing=self.retryable(None))
        self._backlog.restart(calls)
        self._books.reopen(calls)
        self._tender.renew()
        self.begin()  # a run that was stopped may not have seen all its rows
        if self.ask.options.cache == "only":
            self._planning.look_again(calls)
        self._tender.send()

    def go_on(self) -> None:
        """Send what can be sent now, and end if that was all."""
        self._reception.judge()
        self._tender.send()
        self._finish_if_over()

    def stop(self, state: State, error: Reason) -> None:
        """Admit nothing more and cancel what is on the wire, once; the first reason stands."""
        if self._ending.stop(state, error):
            self._tender.detach()
            self._reception.let_go()
            self._finish_if_over()
            self._let_go_soon()

    def _let_go_soon(self) -> None:
        """Stop waiting for the caller's validators, which may never return, in a run that is being stopped."""
        # One that never began, as a judge's course that no row needed, waits for nothing and never ends.
        if self._begun and self.state == "running" and self._ending.stopping is not None:
            self._engine.loop.loop.call_later(ABANDON_AFTER_S, self._let_go)

    def _let_go(self) -> None:
        if self.state == "running" and self._ending.stopping is not None:
            self._reception.let_go_of_reading()
            self._finish_if_over()
            self._let_go_soon()

    def release(self) -> None:
        """Let go of the parts (see `Endable.release`)."""
        # Of a run that a fault ended, answers may still be on their way.
        if self.broken or self.state == "running":
            return
        self._ended = _nothing
        self._books.release()
        self._planner.release()
        for part in (self._planning, self._tender, self._reception, self._backlog, self._meanwhile):
            vars(part).clear()

    def fail(self, error: Exception) -> None:
        """End at once by a fault of ours, unless it has ended: waiting for what is still out could be for ever.

        What has arrived goes to the store all the same, and into the outcomes when it has been read.
        """
        tell_of_fault(error)
        if self.state != "running":
            return
        self.broken = True
        self._ending.stop("failed", error)
        self._reception.let_go()
        try:
            self._tender.detach()
        finally:
            self._finish()

    def out_of_money(self, failure: Failure) -> None:
        """End with *failure* for every call that is not sent. Nothing is on the wire."""
        self._ending.stop("failed", partial(BudgetError, failure.message) if self._raises else None)
        for call, outcome in self._backlog.drain(failure):
            self._books.record(call, outcome)
        self._finish_if_over()

    def _left(self) -> int:
        """Requests that the rows still take which have not ended."""
        return -(-self.throughput.left(self.total) // (self.ask.pack or 1))

    def _take(self, key: str, arrival: Arrival, stored: bool) -> None:
        """Take an answer that others have brought: it goes the way of a reply."""
        self._reception.take(key, arrival, stored=stored)

    def _lose(self, call: int, failure: Failure) -> None:
        """Note a call that can be sent no more, since its prompt cannot be made."""
        self._books.record(call, Outcome(None, failure, self.ledger.keys[call], (), False))
        self._engine.loop.loop.call_soon(self.go_on)  # this may have been the last, and nothing of it will land

    # The end.

    def _finish_if_over(self) -> None:
        if self.state != "running" or self._books.open or not self._books.planned:
            return
        if self._ending.stopping is None and self._backlog:
            return
        self._tender.detach()
        self._finish()

    def _finish(self) -> None:
        if self.state != "running":
            return
        self.budget.run_budget.forget(self)
        self._ending.end("done", kept=self.kept, total=self.total)
        self.throughput.finish(time.monotonic())
        self.note = f"incomplete: {self.unsaved:,} unsaved" if self.unsaved else ""
        self._claims.end()
        self.warnings = self._waiting()
        try:
            self._keep_limits()
        finally:  # whoever waits is told, whatever can be kept
            self._ended()

    def _waiting(self) -> tuple[str, ...]:
        """Say which rows were not sent because they wait in a batch job, and what can be done."""
        rows: Counter[str] = Counter()
        for call, job in self._backlog.in_jobs.items():
            rows[job] += self.ledger.weight[call]
        return tuple(
            f"{'1 row waits' if count == 1 else f'{count:,} rows wait'} in batch job {job[:8]}; nothing was sent for "
            f"{'it' if count == 1 else 'them'}. wait=True waits for the job, pllm.jobs().hurry({job[:8]!r}) sends now, "
            f"at the live price."
            for job, count in rows.items()
        )

    def _keep_limits(self) -> None:
        if self._limits is None or self.broken or not self._meanwhile.heard:
            return  # nothing came back, so nothing was learned
        # At the end of the process there are no workers any more.
        with suppress(RuntimeError):
            known = dispatcher_for(self._engine, self.ask.target, self._limits).limiter.know()
            self._engine.workers.submit(self._limits.keep, self.ask.target.lane, known)


def _nothing() -> None:
    """Do nothing: nobody waits for the end any more."""
