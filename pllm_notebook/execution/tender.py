"""What one run offers to its lane: the next call when it is asked for one, and the money for it.

Everything that holds a call back is here: the backlog's order, a store that is behind, the first call that
warms the provider's cache, the ceiling, and one call at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from functools import partial
from typing import Protocol

from pllm_notebook.engine import Ceiling, Feed, Job, Landing
from pllm_notebook.exceptions import MissingKeyError, PllmError
from pllm_notebook.execution.backlog import Backlog, Offer
from pllm_notebook.execution.books import Books
from pllm_notebook.execution.budget import Need, Reservation
from pllm_notebook.execution.call_spec import BYTES_PER_TOKEN, DEFAULT_OUTPUT_TOKENS, CallSpec
from pllm_notebook.execution.cost import CostTracker
from pllm_notebook.execution.course import Sender
from pllm_notebook.execution.ending import Ending, Owner
from pllm_notebook.execution.meanwhile import Meanwhile
from pllm_notebook.execution.packing.packer import Pack, Packer
from pllm_notebook.execution.prompt_cache_warmup import MAX_WAIT_S, Warmup
from pllm_notebook.execution.rejections import FIRST_CALLS, RejectionTracker
from pllm_notebook.execution.settle import Repair, Wider
from pllm_notebook.execution.shared_store import SharedStore
from pllm_notebook.execution.watched import watched
from pllm_notebook.formatting import counted, format_usd
from pllm_notebook.protocols import Store
from pllm_notebook.records import Failure, FailureKind, Finish, Reply
from pllm_notebook.redaction import redact

__all__ = ["Landed", "Tender"]

logger = logging.getLogger("pllm_notebook")

# A writer that falls this far behind stops admission; what is on the wire still fits in memory.
_MOST_BACKLOG_BYTES = 64 * 2**20
_LOOK_AGAIN_S = 0.1
# How often the store is looked into for answers to calls that another process asks.
_LOOK_ELSEWHERE_S = 0.25


class Landed(Protocol):
    """What becomes of a call that has landed."""

    def __call__(
        self, key: str, tag: int | Repair | Pack, schema_level: int, landing: Landing, cost_usd: float | None
    ) -> None:
        """Take what a call ended with.

        Args:
            key: Of the call.
            tag: What it was for, as in its `Offer`.
            schema_level: The level of structured output it was sent on.
            landing: How it came down.
            cost_usd: US dollars that the reply cost, None for unknown.
        """


class Tender:
    """Offer one run's calls. Used on the engine's loop alone.

    Args:
        ask: The question.
        loop: The engine's.
        sender: Gives what carries the calls; asked when the run begins.
        store: Admission waits for it, None for nothing to wait for.
        ending: Nothing is offered once something stops the run.
        books: The run's.
        backlog: What is to be sent.
        packing: None to send each row in a call of its own.
        spending: What it may cost.
        meanwhile: Asked before a call is sent again.
        refusals: Nothing new is offered while every row seems to be refused.
        landed: Called with each call that has come down.
        working: Tells whether tools are being run, of which further calls may come.
        ceilings: The caller's own limits, which its calls keep with those of the run's other courses.
        owner: The run, which ends when the lane cannot be opened, and when there is no money left.
    """

    def __init__(
        self,
        ask: CallSpec,
        loop: asyncio.AbstractEventLoop,
        sender: Callable[[], Sender],
        store: Store | None,
        *,
        ending: Ending,
        books: Books,
        backlog: Backlog,
        packing: Packer | None,
        cost_tracker: CostTracker,
        meanwhile: Meanwhile,
        rejections: RejectionTracker,
        landed: Landed,
        working: Callable[[], bool],
        owner: Owner,
        ceilings: tuple[Ceiling, ...],
    ) -> None:
        self._ask = ask
        self._loop = loop
        self._make_lane = sender
        self._store = store
        self._shared_store: SharedStore | None = store if isinstance(store, SharedStore) else None
        self._ending = ending
        self._books = books
        self._backlog = backlog
        self._packer = packing
        self._cost_tracker = cost_tracker
        self._budget = cost_tracker.budget
        self._meanwhile = meanwhile
        self._rejections = rejections
        self._give = landed
        self._working = working
        self._owner = owner
        self._serial = ask.options.mode == "sync"
        self._batch = ask.options.mode == "batch"
        self._warmup = Warmup(self._shared_prefix)
        self._short_of_money = False
        # What the money does not suffice for.
        self._wanting: int | Repair | Pack | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._ceilings = ceilings
        self._share(False)
        self._feed = self._new_feed()
        # Made in `begin`, on the loop; it has no connection until something must be sent.
        self._lane: Sender
        self._expected = self._attached = False

    @property
    def in_flight(self) -> int:
        """Calls on the wire."""
        return self._feed.in_flight

    @property
    def submitted(self) -> bool:
        """Whether everything that can be sent is on its way, and no more is to be planned.

        What there is no money for now is sent when answers have come, and a batch that nobody waits for has none soon.
        """
        return self._whole() and (not self._attached or self._lane.submitted(self._feed))

    @property
    def _all_out(self) -> bool:
        return self._books.planned and not self._backlog and not self._working()

    def begin(self) -> Sender:
        """Let the lane expect calls, and give the lane."""
        self._lane = self._make_lane()
        self._lane.expect(self._feed)
        self._expected = True
        return self._lane

    def renew(self) -> None:
        """Make a new feed, for a run that begins again: what was detached stays closed."""
        self._feed = self._new_feed()

    def send(self) -> None:
        """Let the lane ask for calls, opening it only now: a run that finds everything needs no key."""
        if self._ending.stopping is not None or not self._backlog:
            return
        label = self._ask.target.label
        try:
            if self._attached:
                self._lane.poke()
            else:
                self._lane.attach(self._feed)
                self._attached = True
        except MissingKeyError as error:
            # Made when all rows have been looked up: it says how many need no key.
            self._owner.stop("failed", partial(MissingKeyError, error.provider, error.variable))
        except PllmError as error:
            self._owner.stop("failed", error)
        except Exception as error:
            logger.debug("The client for %s could not be opened", label, exc_info=True)
            told = f"The client for {label} could not be opened: {type(error).__name__}: {error}. Nothing was sent."
            self._owner.stop("failed", PllmError(redact(told)))

    def complete(self) -> None:
        """Notify the lane that the plan is complete: a last pack need not be full, and a batch has all its lines."""
        self._lane.poke()

    def detach(self) -> None:
        """Offer nothing more; each call that has not landed comes down as cancelled."""
        # Also where nothing was ever handed over: a lane that gathers calls would wait for this run for ever.
        if self._expected:
            self._expected = self._attached = False
            self._lane.detach(self._feed)

    def held_by(self) -> str:
        """Say what keeps calls back at this moment, "" for nothing."""
        # A call that was refused waits in the feed, and is no longer of the backlog; one in a batch job is in flight.
        flying = 0 if self._ask.options.mode == "batch" else self._feed.in_flight
        if self._ending.stopping is not None or not (self._backlog or self._books.open > flying):
            return ""
        if self._store_is_behind():
            return "waiting for the cache to be written"
        if self._rejections.suspected is not None:
            return (
                f"every call is refused ({self._rejections.suspected.kind}): waiting for {self._books.open} in flight"
            )
        run_budget = self._budget.run_budget
        if self._short_of_money and run_budget.requests:
            reserved, calls = format_usd(run_budget.reserved_usd), counted(run_budget.requests, "call")
            return f"held by max_cost_usd: {reserved} reserved for {calls}"
        if self._backlog.elsewhere and not self._feed.in_flight:
            return f"{self._backlog.elsewhere:,} calls are being answered elsewhere"
        return self._lane.holds(self._loop.time())

    def fail(self, error: Exception) -> None:
        """End the run by a fault of ours (see `watched`)."""
        self._owner.fail(error)

    # What the lane asks.

    def _new_feed(self) -> Feed:
        options = self._ask.options
        feed = Feed(
            source=self._next_job,
            max_retries=options.max_retries,
            timeout_s=options.timeout_s,
            concurrency=1 if self._serial else None,
            fault=self.fail,
            cover=self._cover,
            answered=self._answered_between,
            spare=self._spare if options.hedge and not self._batch else None,
            whole=self._whole,
            patience=self._ask.patience,
        )
        feed.keep(*self._ceilings)
        return feed

    @watched
    def _next_job(self) -> Job | None:
        """Return the next call for the lane, None when there is none to send now."""
        if self._ending.stopping is not None or (self._serial and self._books.open):
            return None
        if self._store_is_behind():
            self._loop.call_later(_LOOK_AGAIN_S, self.send)
            return None
        if self._rejections.suspected is not None or self._is_first_wave_out():
            return None
        if self._warmup.holds(self._loop.time(), self._backlog.requests):
            return None
        if not self._ask.shared and self._backlog.requests > 1:
            self._share(True)
        offer = self._backlog.offer(planned=self._books.planned)
        if offer is None and self._backlog.unclaimed:
            self._loop.call_soon(self.send)
        if self._backlog.elsewhere and self._looking is None:
            self._looking = self._loop.call_later(_LOOK_ELSEWHERE_S, self._look_elsewhere)
        job = None if offer is None else self._job(offer)
        if offer is not None and job is not None:
            self._backlog.take(offer)
        return job

    def _job(self, offer: Offer) -> Job | None:
        size, tag = offer.size, offer.tag
        if isinstance(tag, Pack):
            assert self._packer is not None
            tokens = self._packer.tokens(tag)
        else:
            tokens = size / BYTES_PER_TOKEN + (self._ask.options.max_output_tokens or DEFAULT_OUTPUT_TOKENS)
        reserved = self._reserve(offer)
        self._wanting = tag
        self._short_of_money = reserved is None
        if reserved is None:
            if not self._books.open:
                self._loop.call_soon(self._out_of_money)
            return None
        self._wanting = None
        self._books.open += 1
        if self._warmup.call_taken(self._loop.time()):
            self._loop.call_later(MAX_WAIT_S, self.send)
        asked, quirks = self._asked(tag), self._ask.target.quirks
        sent = partial(offer.content, reserved.output_limit)
        job = Job(offer.key, sent, tokens, self._landed, (tag, reserved.usd, quirks.schema_level, quirks.version))
        if self._batch:  # for the price that its job is told with
            job.answer_tokens = self._ask.token_bounds.expected * (len(tag.calls) if isinstance(tag, Pack) else 1)
        job.output_limit, job.wire_limit = asked.output_limit, reserved.output_limit
        if job.wire_limit == job.output_limit:
            job.wire_limit = None
        return job

    def _asked(self, tag: int | Repair | Pack) -> CallSpec:
        return self._ask.packed if isinstance(tag, Pack) and self._ask.packed is not None else self._ask

    def _reserve(self, offer: Offer) -> Reservation | None:
        """Put by what a request can be charged, None for want of it."""
        if self._budget.run_budget.ceiling_usd is None:
            return Reservation(0.0, None)
        asked, dress = self._asked(offer.tag), self._ask.target.quirks.version
        if offer.whole or asked.output_limit is None:
            bound = self._budget.bound_usd(offer.size)
            return Reservation(bound, None) if self._budget.admit(bound) else None
        above = offer.tag.above if isinstance(offer.tag, Repair) else 0
        return self._budget.reserve(
            Need.of(asked.token_bounds, offer.size, asked.row_bytes(offer.size), dress, above=above)
        )

    @watched
    def _look_elsewhere(self) -> None:
        self._looking = None
        if self._ending.stopping is None:
            self._backlog.look_elsewhere()
            if self._backlog.elsewhere:
                self._looking = self._loop.call_later(_LOOK_ELSEWHERE_S, self._look_elsewhere)
            else:
                self.complete()
            self._owner.go_on()

    def _whole(self) -> bool:
        """Return whether no more calls will come until some have landed: all are out, or there is no money for more."""
        return self._books.planned and not self._working() and (not self._backlog or self._short_of_money)

    def _cover(self, job: Job) -> bool:
        """Put by the money to send *job* again, whose requests so far may all have been paid."""
        return self._budget.admit(job.tag[1])

    def _spare(self, job: Job) -> bool:
        """Put by the money to send *job* a second time; False while anything else is to be sent, or for want of it."""
        return self._all_out and self._budget.admit(job.tag[1])

    def _answered_between(self, job: Job) -> bool:
        """End *job*, which failed and is to be sent again, with the answer that another run has brought since."""
        tag, bound, *_ = job.tag
        if isinstance(tag, Pack):
            return False
        call, found = (tag, None) if isinstance(tag, int) else (tag.call, tag.found)
        if not self._meanwhile.answered(call, lambda: [job.key], found):
            return False
        self._books.open -= 1
        self._budget.settle(bound, job.covered, 0.0, job.maybe_paid)
        self._warmup.ended(self._loop.time(), replied=False)
        return True

    @watched
    def _landed(self, job: Job, landing: Landing) -> None:
        tag, bound, schema_level, dress = job.tag
        self._warmup.ended(self._loop.time(), replied=not isinstance(landing.result, Failure))
        cost_usd = self._cost_tracker.settle(job, bound, landing)
        if isinstance(landing.result, Reply) and self._budget.run_budget.ceiling_usd is not None:
            self._learn(self._asked(tag), landing.result, landing.output_limit, dress)
        self._give(job.key, tag, schema_level, landing, cost_usd)

    def _learn(self, asked: CallSpec, reply: Reply, limit: int | None, dress: int) -> None:
        """Learn from an answer what others will take."""
        if reply.usage is not None:
            asked.token_bounds.answered(reply.usage.output_tokens)
            asked.token_bounds.counted(reply.usage.input_tokens, dress)
        elif reply.finish is Finish.TRUNCATED and limit is not None:
            asked.token_bounds.answered(limit)

    # What holds calls back.

    def _is_first_wave_out(self) -> bool:
        """Return whether as many calls are out as may meet a refusal that all share; a batch goes out whole."""
        return not self._rejections.answered and self._books.open >= FIRST_CALLS and not self._batch

    def _store_is_behind(self) -> bool:
        if self._shared_store is not None and self._shared_store.delayed:
            return True
        return self._store is not None and self._store.backlog_bytes > _MOST_BACKLOG_BYTES

    def _shared_prefix(self) -> Hashable | None:
        """Return what all calls of this run begin with, None where the provider's cache is of no use to it."""
        prefix = None if self._serial or self._batch else (self._ask.packed or self._ask).prefix()
        return None if prefix is None else (*self._ask.target.lane, prefix)

    def _share(self, shared: bool) -> None:
        """Say whether more than one call will begin with what the rows share, so that it is worth a cache mark."""
        for asked in (self._ask, self._ask.packed):
            if asked is not None:
                asked.shared = shared and not asked.alone

    @watched
    def _out_of_money(self) -> None:
        """Nothing is on the wire and the next call could pass the ceiling."""
        wanting, self._wanting = self._wanting, None
        if self._books.open or self._ending.stopping is not None or wanting is None:
            return
        if self._budget.run_budget.requests:  # of another course, which may cost less than was put by
            self._budget.run_budget.when_freed(self.send)
            return
        told, most = self._paid(), f"max_cost_usd={self._ask.options.max_cost_usd:g}"
        if isinstance(wanting, Wider):
            # A longer answer than the others: they may still fit.
            message = (
                f"Not sent again: the answer was cut off at {wanting.above:,} tokens, and with {told} asking for a "
                f"longer one could have passed {most}. Raise it."
            )
            self._backlog.give_up(wanting)
            self._books.record(wanting.call, wanting.failed(Failure(FailureKind.BUDGET, message)))
            self._owner.go_on()
            return
        message = f"Not sent: with {told}, one more call could have passed {most}. Raise it."
        self._owner.out_of_money(Failure(FailureKind.BUDGET, message))

    def _paid(self) -> str:
        run_budget = self._budget.run_budget
        perhaps = f" and {format_usd(run_budget.perhaps_usd)} perhaps paid" if run_budget.perhaps_usd else ""
        return f"{format_usd(run_budget.paid_usd)} paid{perhaps}"
