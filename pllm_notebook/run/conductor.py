"""The course of one run: what is pending, on the wire, being stored and being read.

The engine's lane asks for one call at a time (`_next_job`); a reply goes through the intake, and
only then counts as done. Everything here runs on the engine's loop, except what says otherwise,
so nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Container, Hashable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from pllm_notebook import prompts
from pllm_notebook.engine import Engine, Feed, Job, Landing
from pllm_notebook.exceptions import BudgetError, PllmError, ProviderRejectedError, RowError, StoppedError
from pllm_notebook.protocols import Store
from pllm_notebook.records import Entry, Failure, FailureKind, Reply
from pllm_notebook.redaction import redacted
from pllm_notebook.run.ask import BYTES_PER_TOKEN, GUESSED_OUTPUT_TOKENS, Ask
from pllm_notebook.run.backlog import Backlog, Offer
from pllm_notebook.run.budget import Budget, Purse
from pllm_notebook.run.course import Listener, Sender, State
from pllm_notebook.run.failed import KeptFailures, in_full
from pllm_notebook.run.intake import Intake
from pllm_notebook.run.lanes import lane_of
from pllm_notebook.run.limits import KeptLimits
from pllm_notebook.run.outcomes import Ledger, Outcome
from pllm_notebook.run.pace import Pace
from pllm_notebook.run.packing import Pack, Packing, falls_apart
from pllm_notebook.run.planner import Chunk, Planner, Prompts
from pllm_notebook.run.settle import Alone, Arrival, NextTurn, Repair
from pllm_notebook.run.shared_store import SharedStore
from pllm_notebook.run.warmup import PATIENCE_S, Warmup
from pllm_notebook.run.watched import watched

__all__ = ["Conductor"]

logger = logging.getLogger("pllm_notebook")

# A writer that falls this far behind stops admission; what is on the wire still fits in memory.
_MOST_BACKLOG_BYTES = 64 * 2**20
_LOOK_AGAIN_S = 0.1


class Conductor:
    """Conduct one run on the engine's loop.

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
        listener: Who decides what becomes of the outcomes, where they are samples; a failure then ends nothing.

    Attributes:
        state: "running" until it has ended.
        error: What ended it, for the caller to raise; None for nothing.
        broken: Whether a fault of ours ended it: what is still on its way can then not be counted on.
        unsaved: Rows whose paid answer the cache could not keep.
        note: One line of news for the display, "" for none.
        cost_usd: Spent by calls of this run; None once one of unknown price is among them, so that no
            sum looks whole that is not.
    """

    def __init__(
        self,
        ask: Ask,
        rows: Prompts,
        total: int,
        engine: Engine,
        store: Store | None,
        ended: Callable[[], None],
        limits: KeptLimits | None = None,
        sender: Callable[[], Sender] | None = None,
        purse: Purse | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.ask = ask
        self.total = total
        self.ledger = Ledger(total)
        self.pace = Pace(time.monotonic())
        self.state: State = "running"
        self.error: BaseException | None = None
        self.broken = False
        self.model = ask.target.label
        self.simulated = ask.target.simulated
        self.unsaved = 0
        self.note = ""
        self.warnings: tuple[str, ...] = ()
        self.input_tokens = 0
        self.output_tokens = 0
        self.cached_tokens = 0
        self.cost_usd: float | None = 0.0
        self._batch = ask.options.mode == "batch"
        self._rate = ask.rate(batch=self._batch)
        self.budget = Budget(purse or Purse(ask.options.max_cost_usd), self._rate, ask.output_limit, ask.target.label)
        self._engine = engine
        self._loop = engine.loop
        self._store = store
        self._shared_store: SharedStore | None = store if isinstance(store, SharedStore) else None
        self._limits = limits
        self._planner = Planner(ask, rows, total, self.ledger, store)
        self._failures = KeptFailures(ask, store, self._planner.prompt, rows)
        self._packing = Packing(ask, rows, self.ledger, self._planner, store) if ask.packed else None
        if ask.packed is not None:
            # Packs are made only when they are sent; with an empty one, the first shows what all begin with.
            ask.packed.expect(prompts.packed(rows.source, ()))
        self._share(False)
        self._planned = False
        self._ended = ended
        self._serial = ask.options.mode == "sync"
        self._warmup = Warmup(self._shared_prefix)
        self._listener = listener
        self._raises = listener is None and (self._serial or ask.options.errors == "raise")
        self._feed = self._new_feed()
        self._attached = False
        self._backlog = Backlog(ask, self.ledger, self._planner.prompt, self._packing, self._answered_meanwhile)
        # Calls taken and not yet recorded: on the wire, waiting to be sent again, being stored or being read.
        self._open = 0
        # Made in `begin`, on the loop; it has no connection until something must be sent.
        self._sender = sender
        self._short_of_money = False
        self._lane: Sender
        self._landed_before = self._landings = self._written_before = 0
        self._behind = False
        # Calls of a retry whose replies may be in the store already, and those whose stored reply is not wanted.
        self._look_again: set[int] = set()
        self._afresh: set[int] = set()
        self._stopping: State | None = None
        self._reason: BaseException | Callable[..., StoppedError] | None = None
        self._intake = Intake(ask, engine, store, self._planner.prompt, self._take_settled, self._take_unsaved)

    @property
    def in_flight(self) -> int:
        """Calls on the wire."""
        return self._feed.in_flight

    @property
    def submitted(self) -> bool:
        """Whether everything that it asks is on its way."""
        if self.state != "running":
            return True
        return self._planned and not self._backlog and (not self._attached or self._lane.submitted(self._feed))

    @property
    def kept(self) -> int:
        """Rows that have an answer."""
        return self.pace.done + self.pace.cached

    def begin(self) -> None:
        """Start planning; calls leave as soon as the first chunk is planned."""
        self._planned = False
        make = self._sender or partial(lane_of, self._engine, self.ask.target, self._limits)
        self._lane = make()
        self._lane.expect(self._feed)
        self._landed_before, self._landings = self._lane.landed, 0
        self._written_before = self._written_by_others()
        # What other runs have in hand and not yet on disk, the plan cannot see.
        self._behind = self._store is not None and self._store.backlog_bytes > 0
        work = self._loop.loop.run_in_executor(
            self._engine.workers, self._planner.walk, self._hand_over, lambda: self._stopping is not None
        )
        work.add_done_callback(self._plan_ended)

    def stop(self, state: State, error: BaseException | Callable[..., StoppedError] | None) -> None:
        """Admit nothing more and cancel what is on the wire, once; the first reason stands.

        What is not yet an error is made one at the end: until then answers may be on their way to the store.
        """
        if self._stopping is not None or self.state != "running":
            return
        self._stopping, self._reason = state, error
        self._detach()
        self._finish_if_over()

    def look(self) -> None:
        """Say in `note` what keeps calls back at this moment, "" for nothing. For the display's clock."""
        # A call that was refused waits in the feed, and is no longer of the backlog.
        if self._stopping is not None or not (self._backlog or self._open > self._feed.in_flight):
            self.note = ""
        elif self._store_is_behind():
            self.note = "waiting for the cache to be written"
        else:
            self.note = self._lane.holds(self._loop.loop.time())

    def fail(self, error: Exception) -> None:
        """End at once by a fault of ours, unless it has ended: waiting for what is still out could be for ever.

        What has arrived goes to the store all the same, and into the outcomes when it has been read.
        """
        logger.error("The run is ended by a fault of this package", exc_info=error)
        if self.state != "running":
            return
        self.broken = True
        if self._stopping is None:
            self._stopping, self._reason = "failed", error
        try:
            self._detach()
        finally:
            self._finish()

    def again(self, kinds: set[FailureKind] | None, among: Container[int] | None = None) -> None:
        """Send what failed once more (see `Run.retry`).

        Args:
            kinds: Of failures; None for those that can pass.
            among: The calls to look at, None for all.
        """
        self._stopping, self._reason, self.error, self.state = None, None, None, "running"
        calls = [call for call in self.retryable(kinds) if among is None or call in among]
        # A call that never ended, or whose repair turn failed, may have a paid reply in the store: it goes on
        # from there. One whose own paid failure was named is what the caller wants to pay for again.
        passing = set(self.retryable(None))
        self._look_again = {call for call in calls if call in passing}
        self._afresh = {call for call in calls if call not in passing}
        self._backlog.restart(calls)
        for call in calls:
            if self.ledger.outcomes[call] is not None:
                self.pace.failed -= self.ledger.weight[call]
                self.ledger.outcomes[call] = None
        self._feed = self._new_feed()
        self.pace.resume(time.monotonic())
        self.begin()  # a run that was stopped may not have seen all its rows
        if self.ask.options.cache == "only":
            self._look_for(calls)
        self._send()

    def _look_for(self, calls: Sequence[int]) -> None:
        """Take what has come into the cache since, and send nothing."""
        self._backlog.restart(())
        for call in calls:
            if not self._answered_meanwhile(call, lambda call=call: [self.ledger.keys[call]], None):  # type: ignore[misc]
                self._record(call, _not_cached(self.ledger.keys[call]))

    def retryable(self, kinds: set[FailureKind] | None) -> list[int]:
        """Give the calls that `again` would send: never ended, or failed in a way that can pass."""
        return self.ledger.retryable(kinds)

    # Planning.

    def _hand_over(self, chunk: Chunk) -> None:
        """In the planner's thread: bring a chunk to the loop."""
        if chunk.missing and self.ask.options.cache != "only":
            self.ask.target.load()
        self._loop.call(self._take_chunk, chunk)

    @watched
    def _take_chunk(self, chunk: Chunk) -> None:
        ledger = self.ledger
        self.pace.skipped += chunk.skipped
        self.pace.failed += chunk.failed
        for call, rows in chunk.weights.items():
            # Weights are counted here, on the loop, so that a call which ends meanwhile counts each row once.
            ledger.weight[call] += rows
            outcome = ledger.outcomes[call]
            if outcome is not None:
                self.pace.count(outcome, rows)
        if self._listener is not None:
            self._listener.planned(ledger, chunk)
        for arrival, settled in chunk.settled:
            if isinstance(settled, Outcome):
                self._record(arrival.call, settled)
            else:
                self._backlog.repair((settled,))
        for call, outcome in chunk.rejected:
            self._record(call, outcome)
        if chunk.failed:
            first = min(ledger.own_failures)
            self._raise_at(first, ledger.own_failures[first])
        if self.ask.options.cache == "only":
            for call in chunk.missing:
                self._record(call, _not_cached(ledger.keys[call]))
        else:
            self._backlog.extend(chunk.missing)
        self._send()

    @watched
    def _plan_ended(self, work: asyncio.Future[None]) -> None:
        self._planned = True
        if not work.cancelled() and work.exception() is not None:
            self.stop("failed", work.exception())
        self._lane.poke()  # a last pack need not be full, and a batch is whole now
        self._send()
        self._finish_if_over()

    # Sending.

    def _new_feed(self) -> Feed:
        options = self.ask.options
        feed = Feed(
            source=self._next_job,
            max_retries=options.max_retries,
            timeout_s=options.timeout_s,
            concurrency=1 if self._serial else options.concurrency,
            fault=self.fail,
            cover=self._cover,
            answered=self._answered_between,
            spare=self._spare if options.hedge and not self._batch else None,
            whole=self._whole,
        )
        feed.ceilings(self._loop.loop.time(), options.requests_per_min, options.tokens_per_min)
        return feed

    def _whole(self) -> bool:
        """Tell whether no more calls will come until some have landed: all are out, or there is no money for more."""
        return self._planned and (not self._backlog or self._short_of_money)

    def _send(self) -> None:
        """Let the lane ask for calls, opening it only now: a run that finds everything needs no key."""
        if self._stopping is not None or not self._backlog:
            return
        label = self.ask.target.label
        try:
            if self._attached:
                self._lane.poke()
            else:
                self._lane.attach(self._feed)
                self._attached = True
        except PllmError as error:
            self.stop("failed", error)
        except Exception as error:
            logger.debug("The client for %s could not be opened", label, exc_info=True)
            told = f"The client for {label} could not be opened: {type(error).__name__}: {error}. Nothing was sent."
            self.stop("failed", PllmError(redacted(told)))

    def _detach(self) -> None:
        if self._attached:
            self._attached = False
            self._lane.detach(self._feed)

    @watched
    def _next_job(self) -> Job | None:
        """Give the lane the next call, or None when there is none to send now."""
        if self._stopping is not None or (self._serial and self._open):
            return None
        if self._store_is_behind():
            self._loop.loop.call_later(_LOOK_AGAIN_S, self._send)
            return None
        if self._warmup.holds(self._loop.loop.time(), self._backlog.requests):
            return None
        if not self.ask.shared and self._backlog.requests > 1:
            self._share(True)
        offer = self._backlog.offer(planned=self._planned)
        job = None if offer is None else self._job(offer)
        if offer is not None and job is not None:
            self._backlog.take(offer)
        return job

    def _share(self, shared: bool) -> None:
        """Say whether more than one call will begin with what the rows share, so that it is worth a cache mark."""
        for asked in (self.ask, self.ask.packed):
            if asked is not None:
                asked.shared = shared

    def _store_is_behind(self) -> bool:
        if self._shared_store is not None and self._shared_store.delayed:
            return True
        return self._store is not None and self._store.backlog_bytes > _MOST_BACKLOG_BYTES

    def _written_by_others(self) -> int:
        return 0 if self._shared_store is None else self._shared_store.written_by_others

    def _shared_prefix(self) -> Hashable | None:
        """Tell what all calls of this run begin with, None where the provider's cache is of no use to it."""
        prefix = None if self._serial or self._batch else (self.ask.packed or self.ask).prefix()
        return None if prefix is None else (*self.ask.target.lane, prefix)

    def _answered_meanwhile(
        self, call: int, keys: Callable[[], list[str]], found: Callable[[Entry], Arrival] | None
    ) -> bool:
        """Take the answer that another run has brought since this one was planned; False when there is none.

        Args:
            call: Index in the ledger.
            keys: Gives the keys that would answer it.
            found: Gives what comes of an answer; None for the row's own call.
        """
        if not (self._others_landed() or call in self._look_again) or call in self._afresh:
            return False
        if self._store is None or self.ask.options.cache == "refresh":
            return False
        for key in keys():
            entry = self._store.queued(key) or self._store.get_many([key]).get(key)
            if entry is not None and entry.serves(self.ask.output_limit):
                self._open += 1
                row = self.ledger.first_row[call]
                # Stored once more, which changes nothing, so that its row too is reported after its commit.
                self._intake.take(key, Arrival(call, key, entry, row) if found is None else found(entry))
                return True
        return False

    def _others_landed(self) -> bool:
        """Tell whether the store may have answers that it had not when this run was planned.

        Nothing can have come where no reply has landed that this run was not aboard, none was on its way to the
        store, and nobody else has written.
        """
        return (
            self._behind
            or self._lane.landed - self._landed_before > self._landings
            or self._written_by_others() != self._written_before
        )

    def _answered_between(self, job: Job) -> bool:
        """End *job*, which failed and is to be sent again, with the answer that another run has brought since."""
        tag, bound, _ = job.tag
        if isinstance(tag, Pack):
            return False
        call, found = (tag, None) if isinstance(tag, int) else (tag.call, tag.found)
        if not self._answered_meanwhile(call, lambda: [job.key], found):
            return False
        self._open -= 1
        self.budget.settle(bound, job.covered, 0.0, job.maybe_paid)
        self._warmup.ended(self._loop.loop.time(), replied=False)
        return True

    def _job(self, offer: Offer) -> Job | None:
        size, tag = offer.size, offer.tag
        if isinstance(tag, Pack):
            assert self._packing is not None
            bound, tokens = self._packing.bound_usd(tag), self._packing.tokens(tag)
        else:
            bound = self.budget.bound_usd(size)
            tokens = size / BYTES_PER_TOKEN + (self.ask.options.max_output_tokens or GUESSED_OUTPUT_TOKENS)
        self._short_of_money = not self.budget.admit(bound)
        if self._short_of_money:
            if not self._open:
                self._loop.loop.call_soon(self._out_of_money)
            return None
        self._open += 1
        if self._warmup.took(self._loop.loop.time()):
            self._loop.loop.call_later(PATIENCE_S, self._send)
        return Job(offer.key, offer.content, tokens, self._landed, (tag, bound, self.ask.target.quirks.rung))

    def _cover(self, job: Job) -> bool:
        """Put by the money to send *job* again, whose requests so far may all have been paid."""
        return self.budget.admit(job.tag[1])

    def _spare(self, job: Job) -> bool:
        """Put by the money to send *job* a second time; False while anything else is to be sent, or for want of it."""
        return self._planned and not self._backlog and self.budget.admit(job.tag[1])

    @watched
    def _out_of_money(self) -> None:
        """Nothing is on the wire and the next call could pass the ceiling."""
        if self._open or self._stopping is not None:
            return
        if self.budget.purse.requests:  # of another course, which may cost less than was put by
            self.budget.purse.when_freed(self._send)
            return
        message = (
            f"Not sent: with ${self.budget.purse.spent_usd:.4f} spent, one more call could have passed "
            f"max_cost_usd={self.ask.options.max_cost_usd:g}. Raise it, or give a smaller max_output_tokens."
        )
        self._stopping, self._reason = "failed", partial(BudgetError, message) if self._raises else None
        failure = Failure(FailureKind.BUDGET, message)
        for call, outcome in self._backlog.drain(failure):
            self._record(call, outcome)
        self._finish_if_over()

    # Landing.

    @watched
    def _landed(self, job: Job, landing: Landing) -> None:
        """Take what a call ended with."""
        tag, bound, rung = job.tag
        result = landing.result
        self._landings += isinstance(result, Reply)
        self._warmup.ended(self._loop.loop.time(), replied=isinstance(result, Reply))
        if isinstance(result, Failure):
            self._open -= 1
            self.budget.settle(bound, job.covered, 0.0, landing.maybe_paid)
            told = redacted(in_full(result)) + (self._no_money_left() if landing.short else "")
            paid = None if landing.maybe_paid else result.cost_usd
            self._fail(tag, replace(result, message=told, attempts=landing.attempts, cost_usd=paid))
            self._send()
            self._finish_if_over()
            return
        cost = None if self._rate is None or result.usage is None else self._rate.cost_usd(result.usage)
        self.budget.settle(bound, job.covered, cost, landing.maybe_paid)
        self._add(result, cost)
        assert landing.raw is not None
        asked = self._packing.asked if self._packing is not None and isinstance(tag, Pack) else self.ask
        entry = Entry.of(
            result,
            landing.raw.body,
            asked=self.ask.target.label,
            output_limit=asked.output_limit,
            cost_usd=cost,
            latency_s=landing.latency_s,
            attempts=landing.attempts,
        )
        if isinstance(tag, Pack):
            self._take_pack(tag, entry, rung)
        elif isinstance(tag, int):
            row = self.ledger.first_row[tag]
            self._intake.take(job.key, Arrival(tag, job.key, entry, row, cached=False, rung=rung))
        else:
            self._intake.take(job.key, tag.arrived(entry, rung))
            if self._packing is not None and isinstance(tag, Alone):
                self._packing.supersede(tag, entry)

    def _take_pack(self, pack: Pack, entry: Entry, rung: int) -> None:
        assert self._packing is not None
        arrivals, alone = self._packing.land(pack, entry, rung)
        self._backlog.repair(alone)
        self._open += len(arrivals) - 1
        self._keep_first(arrivals)
        for arrival in arrivals:
            self._intake.take(arrival.key, arrival)
        self._send()
        self._finish_if_over()

    def _keep_first(self, arrivals: Sequence[Arrival]) -> None:
        """Let answers that are there already stand: another run's other pack may have brought, and reported, them."""
        if self._store is None or self.ask.options.cache == "refresh" or not self._others_landed():
            return
        there = self._store.get_many([arrival.key for arrival in arrivals])
        for arrival in arrivals:
            entry = self._store.queued(arrival.key) or there.get(arrival.key)
            if entry is not None and arrival.call not in self._afresh and entry.serves(self.ask.output_limit):
                arrival.entry = entry

    def _no_money_left(self) -> str:
        return (
            " It was not tried again: with what may have been paid for it already, one more request could have passed "
            f"max_cost_usd={self.ask.options.max_cost_usd:g}."
        )

    def _add(self, reply: Reply, cost_usd: float | None) -> None:
        if reply.usage is not None:
            self.input_tokens += reply.usage.input_tokens
            self.output_tokens += reply.usage.output_tokens
            self.cached_tokens += reply.usage.cache_read_tokens
        if cost_usd is None or self.cost_usd is None:
            self.cost_usd = None
        else:
            self.cost_usd += cost_usd

    def _fail(self, tag: int | Repair | Pack, failure: Failure) -> None:
        if failure.kind is FailureKind.CANCELLED:
            return  # the row stays pending: nobody knows its answer
        label = self.ask.target.label
        if isinstance(tag, Repair):
            row = self.ledger.first_row[tag.call]
            self._failures.note(tag.key, row, failure, tag.turns if isinstance(tag, NextTurn) else ())
            self._record(tag.call, tag.failed(failure))
        elif isinstance(tag, Pack) and self._packing is not None and falls_apart(failure):
            self._backlog.repair(map(self._packing.alone, tag.calls))
        else:
            for call in tag.calls if isinstance(tag, Pack) else (tag,):
                self._failures.note(self.ledger.keys[call], self.ledger.first_row[call], failure)
                self._record(call, Outcome(None, failure, self.ledger.keys[call], (), False))
        if failure.kind.fatal and self._stopping is None:
            message = f"{label} refused ({failure.kind.replace('_', ' ')}): {failure.message}"
            logger.error("%s", message)
            self.stop("failed", partial(ProviderRejectedError, message, kind=failure.kind, status=failure.status))

    @watched
    def _take_settled(self, settled: list[tuple[Arrival, Outcome | Repair]]) -> None:
        """Take what has been stored and read."""
        for arrival, outcome in settled:
            self._open -= 1
            if isinstance(outcome, Outcome):
                if outcome.failure is not None and not outcome.cached:
                    self._failures.note(outcome.key, arrival.row, outcome.failure, arrival.turns)
                self._record(arrival.call, outcome)
            else:
                self._backlog.repair((outcome,))
        self._send()
        self._finish_if_over()

    @watched
    def _take_unsaved(self, arrival: Arrival) -> None:
        self.unsaved += self.ledger.weight[arrival.call]
        if self._backlog or not self._planned:
            # What is paid for from here on could not be kept either.
            self.stop("failed", self._incomplete)

    def _incomplete(self, *, kept: int, total: int) -> StoppedError:
        message = (
            f"incomplete: {self.unsaved:,} unsaved. The cache cannot be written, so no more calls were sent; the "
            f"answers that it lacks are in this run alone."
        )
        return StoppedError(message, kept=kept, total=total)

    # The end.

    def _record(self, call: int, outcome: Outcome) -> None:
        """Note how a call ended: from here on its rows are reported as done."""
        self.ledger.outcomes[call] = outcome
        self.pace.count(outcome, self.ledger.weight[call])
        if self._listener is not None:
            self._listener.recorded(call, outcome)
        failure = outcome.failure
        if failure is None:
            return
        row = self.ledger.first_row[call]
        # No more than the kind: what a row says, and what a provider quotes of it, is no business of a log's.
        logger.info("%s: row %d failed: %s (status %s)", self.model, row, failure.kind, failure.status)
        if not failure.kind.fatal:
            self._raise_at(row, failure)

    def _raise_at(self, row: int, failure: Failure) -> None:
        """End the run at a failed row, where the caller asked for that."""
        if self._raises and self._stopping is None:
            message = f"Row {row:,} failed ({failure.kind}): {failure.message}"
            self.stop("failed", partial(RowError, message, position=row, kind=failure.kind))

    def _finish_if_over(self) -> None:
        if self.state != "running" or self._open or not self._planned:
            return
        if self._stopping is None and self._backlog:
            return
        self._detach()
        self._finish()

    def _finish(self) -> None:
        if self.state != "running":
            return
        reason = self._reason
        if reason is not None and not isinstance(reason, BaseException):
            reason = reason(kept=self.kept, total=self.total)
        self.error = reason
        self.state = self._stopping or "done"
        self.pace.finish(time.monotonic())
        self.note = f"incomplete: {self.unsaved:,} unsaved" if self.unsaved else ""
        try:
            self._keep_limits()
        finally:  # whoever waits is told, whatever can be kept
            self._ended()

    def _keep_limits(self) -> None:
        if self._limits is None or self.broken or self._lane.landed == self._landed_before:
            return  # nothing came back, so nothing was learned
        # At the end of the process there are no workers any more.
        with suppress(RuntimeError):
            known = lane_of(self._engine, self.ask.target, self._limits).limiter.know()
            self._engine.workers.submit(self._limits.keep, self.ask.target.lane, known)


def _not_cached(key: str) -> Outcome:
    failure = Failure(FailureKind.NOT_CACHED, "Not in the cache, and cache='only' sends nothing.")
    return Outcome(None, failure, key, (), False)
