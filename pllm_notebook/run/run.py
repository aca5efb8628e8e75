"""A run: plan the rows, look up what is known, send what is missing, report.

The only composer of the rooms below. A planner in a worker thread walks the rows in chunks,
makes keys, removes duplicates and looks them up; the engine's lane asks for one call at a time
through `_next_job`; a reply goes to the store, then through validation in a worker, and only
then counts as done. Everything that changes the run's state happens on the engine's loop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import threading
import time
import warnings
from array import array
from collections import deque
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

from pllm_notebook.engine import Engine, Feed, Job, Landing
from pllm_notebook.exceptions import (
    BudgetError,
    PllmError,
    ProviderRejectedError,
    RowError,
    RunInterrupted,
)
from pllm_notebook.protocols import Sink, Store
from pllm_notebook.records import Entry, Failure, FailureKind, Progress, Reply, Turn
from pllm_notebook.run.ask import BYTES_PER_TOKEN, GUESSED_OUTPUT_TOKENS, Ask
from pllm_notebook.run.budget import Budget
from pllm_notebook.run.explain import Explanation, explain
from pllm_notebook.run.lanes import lane_of
from pllm_notebook.run.outcomes import Ledger, Outcome
from pllm_notebook.run.pace import Pace
from pllm_notebook.run.settle import Arrival, Repair, settle
from pllm_notebook.run.sinks import Display

__all__ = ["Rows", "Run"]

logger = logging.getLogger("pllm_notebook")

# The first chunk is small, so that the first calls leave at once; the rest are as large as one look-up.
_FIRST_CHUNK = 256
_CHUNK = 5_000
# A writer that falls this far behind stops admission; what is on the wire still fits in memory.
_MOST_BACKLOG_BYTES = 64 * 2**20
_REDRAW_S = 0.1

State = Literal["running", "done", "cancelled", "failed"]


class Rows(Protocol):
    """What a run asks about, and the shape its answers take."""

    @property
    def label(self) -> str:
        """A few words for the display."""

    @property
    def total(self) -> int:
        """Number of rows."""

    def prompts(self, rows: range) -> Sequence[str | Failure | None]:
        """Give the prompts of some rows; None for one to skip, a failure for one that cannot be sent."""

    def assemble(self, run: Run) -> Any:
        """Give the answers in the caller's own shape, with nothing where there is no answer yet."""

    def errors(self, run: Run) -> Any:
        """Give the failures as a table."""


class _Chunk(NamedTuple):
    """What the planner found out about some rows."""

    weights: dict[int, int]
    settled: list[tuple[Arrival, Outcome | Repair]]
    missing: list[int]
    skipped: int
    failed: int


class Run:
    """A live handle on one run. Made by `df.llm.submit`; every other call makes one inside.

    `await run` and `run.result()` give the frame; `run.to_frame()` gives what there is at any moment.

    Attributes:
        id: A short word, also in `df.attrs` of the result.
        state: "running", "done", "cancelled" or "failed".
        unsaved: Rows whose paid answer the cache could not keep.
    """

    def __init__(self, ask: Ask, rows: Rows, engine: Engine, store: Store, sink: Sink | None) -> None:
        self.id = secrets.token_hex(4)
        self.state: State = "running"
        self.unsaved = 0
        self.ask = ask
        self.rows = rows
        self._engine = engine
        self._loop = engine.loop
        self._store: Store | None = None if ask.options.cache == "off" else store
        self._display = Display(sink)
        self._ledger = Ledger(rows.total)
        rate = ask.rate()
        self._rate = rate
        self.budget = Budget(ask.options.max_cost_usd, rate, ask.output_limit, ask.target.label)
        serial = ask.options.mode == "sync"
        self._serial = serial
        self._raises = serial or ask.options.errors == "raise"
        self._feed = self._new_feed()
        self._attached = False
        # Calls that must be sent: rows of the plan, then repairs. An array, since there may be a million.
        self._pending = array("q")
        self._head = 0
        self._repairs: deque[Repair] = deque()
        self._open = 0
        self._planned = False
        self._plan_at = 0
        self._stopping: State | None = None
        self._error: BaseException | None = None
        self._arrivals: list[Arrival] = []
        self._settling = False
        self._commits: deque[tuple[Arrival, BaseException | None]] = deque()
        self._commits_told = False
        self._pace = Pace(time.monotonic())
        self._note = ""
        self._warned: set[str] = set()
        self._ended = threading.Event()
        self._waiters: set[asyncio.Future[None]] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost_usd: float | None = 0.0

    def __repr__(self) -> str:
        p = self.progress()
        money = "cost unknown" if p.cost_usd is None else f"${p.cost_usd:.4f}"
        return (
            f"<Run {self.id} {self.state}: {p.done + p.cached:,} of {p.total:,} rows answered "
            f"({p.cached:,} from cache, {p.failed:,} failed), {money}, {p.model}>"
        )

    # What a person asks of it.

    def done(self) -> bool:
        """Tell whether the run has ended, however it did."""
        return self._ended.is_set()

    def cancel(self) -> None:
        """Stop: admit nothing more, cancel what is on the wire, keep everything finished.

        From any thread; returns at once. A cancelled request may have been paid for.
        """
        self._loop.call(self._stop, "cancelled", None)

    def wait(self) -> None:
        """Block until the run has ended. An interrupt cancels it and raises KeyboardInterrupt."""
        try:
            self._loop.wait(self._ended, self.cancel)
        except KeyboardInterrupt:
            p = self.progress()
            raise KeyboardInterrupt(
                f"Stopped. {p.done + p.cached:,} of {p.total:,} rows are answered and kept; run the cell again to go on."
            ) from None

    def result(self) -> Any:
        """Wait, and give the answers in the caller's shape.

        Raises:
            KeyboardInterrupt: After an interrupt, which also cancels the run.
            RunInterrupted: When the run was cancelled.
            ProviderRejectedError: When key, model or quota were refused.
            RowError: At a failed row, with `errors="raise"` or `mode="sync"`.
        """
        self.wait()
        return self._outcome()

    def to_frame(self) -> Any:
        """Give the answers as they are now; rows without one have NA."""
        return self.rows.assemble(self)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._wait_here().__await__()

    @property
    def errors(self) -> Any:
        """The failed rows: position, label, kind, message, attempts, raw text, cost."""
        return self.rows.errors(self)

    @property
    def cost(self) -> float | None:
        """US dollars that this run's calls cost, None where the price is unknown. Cached answers add nothing."""
        return self.cost_usd

    def explain(self, row: int) -> Explanation:
        """Show everything about one row's call.

        Args:
            row: Position, counted from 0; negative from the end.
        """
        return explain(self, self._ledger, self._store, row)

    def retry(self, kinds: Sequence[str] | None = None) -> Run:
        """Send failed rows again, in this run, and return at once.

        Args:
            kinds: Kinds of failure to try again; None for those that can succeed unchanged. A paid
                failure (refusal, truncated, schema) that is named here is paid for again.

        Raises:
            PllmError: While the run is still going.
        """
        if not self.done():
            raise PllmError("The run is still going; wait for it, or cancel it, before retrying.")
        self._ended.clear()
        self._loop.call(self._again, None if kinds is None else {FailureKind(kind) for kind in kinds})
        return self

    def progress(self) -> Progress:
        """Give the counts of this moment."""
        pace, options = self._pace, self.ask.options
        return Progress(
            label=self.rows.label,
            model=self.ask.target.label,
            simulated=self.ask.target.simulated,
            total=self.rows.total,
            done=pace.done,
            cached=pace.cached,
            failed=pace.failed,
            skipped=pace.skipped,
            in_flight=self._feed.in_flight,
            elapsed_s=pace.elapsed_s(time.monotonic()),
            rows_per_s=pace.rows_per_s,
            eta_s=pace.eta_s(self.rows.total) if self.state == "running" else None,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cost_usd=self.cost_usd,
            budget_usd=options.max_cost_usd,
            note=self._note,
            state=self.state,
        )

    @property
    def ledger(self) -> Ledger:
        """The outcomes, for those who assemble them."""
        return self._ledger

    @property
    def ended(self) -> threading.Event:
        """Set when the run has ended."""
        return self._ended

    # Start and end. From here on everything runs on the engine's loop.

    def start(self) -> None:
        """Begin, from any thread."""
        self._loop.call(self._begin)

    def _begin(self) -> None:
        self._display.open(self.progress(), self.cancel)
        self._tick()
        self._plan_on()

    def _plan_on(self) -> None:
        self._planned = False
        work = self._loop.loop.run_in_executor(self._engine.workers, self._plan)
        work.add_done_callback(self._plan_ended)

    def _new_feed(self) -> Feed:
        options = self.ask.options
        feed = Feed(
            source=self._next_job,
            max_retries=options.max_retries,
            timeout_s=options.timeout_s,
            concurrency=1 if self._serial else options.concurrency,
        )
        feed.ceilings(self._loop.loop.time(), options.requests_per_min, options.tokens_per_min)
        return feed

    def _tick(self) -> None:
        self._pace.sample(time.monotonic())
        self._display.update(self.progress())
        self._ticker = self._loop.loop.call_later(_REDRAW_S, self._tick)

    def _stop(self, state: State, error: BaseException | None) -> None:
        """Admit nothing more, once; the first reason stands."""
        if self._stopping is not None or self._ended.is_set():
            return
        self._stopping, self._error = state, error
        self._detach()
        self._finish_if_over()

    def _detach(self) -> None:
        if self._attached:
            self._attached = False
            lane_of(self._engine, self.ask.target).detach(self._feed)

    def _finish_if_over(self) -> None:
        stopped = self._stopping is not None
        nothing_left = self._head == len(self._pending) and not self._repairs
        if self._ended.is_set() or self._open or not self._planned or not (stopped or nothing_left):
            return
        self._detach()
        self.state = self._stopping or "done"
        if self._ticker is not None:
            self._ticker.cancel()
        self._pace.finish(time.monotonic())
        self._note = "" if not self.unsaved else f"{self.unsaved:,} answers could not be saved to the cache"
        self._display.close(self.progress(), self.retry if self._retryable(None) else None)
        self._ended.set()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    # Planning.

    def _plan(self) -> None:
        """Walk the rows in a worker thread: keys, duplicates, look-ups, and reading what is known."""
        size = _FIRST_CHUNK
        while self._plan_at < self.rows.total and self._stopping is None:
            rows = range(self._plan_at, min(self._plan_at + size, self.rows.total))
            self._plan_chunk(rows)
            self._plan_at, size = rows.stop, _CHUNK

    def _plan_chunk(self, rows: range) -> None:
        ledger, ask = self._ledger, self.ask
        first_new = len(ledger.keys)
        weights: dict[int, int] = {}
        skipped = failed = 0
        for row, prompt in zip(rows, self.rows.prompts(rows), strict=True):
            if prompt is None:
                ledger.skip(row)
                skipped += 1
                continue
            text = ask.text_json(prompt) if type(prompt) is str else prompt
            if isinstance(text, Failure):
                ledger.fail(row, text)
                failed += 1
                continue
            call = ledger.add(row, ask.key(text))
            weights[call] = weights.get(call, 0) + 1
        new = range(first_new, len(ledger.keys))
        found: dict[str, Entry] = {}
        if self._store is not None and ask.options.cache != "refresh" and new:
            found = self._store.get_many(ledger.keys[first_new:])
        arrivals, missing = [], []
        for call in new:
            key = ledger.keys[call]
            entry = found.get(key)
            if entry is not None and entry.serves(ask.output_limit):
                arrivals.append(Arrival(call, key, entry, ledger.first_row[call]))
            else:
                missing.append(call)
        settled = settle(ask, self._store, self.prompt, arrivals)
        chunk = _Chunk(weights, list(zip(arrivals, settled, strict=True)), missing, skipped, failed)
        self._loop.call(self._take_chunk, chunk)

    def prompt(self, row: int) -> str:
        """Make one row's prompt."""
        (prompt,) = self.rows.prompts(range(row, row + 1))
        assert isinstance(prompt, str)
        return prompt

    def _take_chunk(self, chunk: _Chunk) -> None:
        ledger = self._ledger
        self._pace.skipped += chunk.skipped
        self._pace.failed += chunk.failed
        for call, rows in chunk.weights.items():
            # Weights are counted here, on the loop, so that a call which ends meanwhile counts each row once.
            ledger.weight[call] += rows
            outcome = ledger.outcomes[call]
            if outcome is not None:
                self._count(outcome, rows)
        for arrival, settled in chunk.settled:
            if isinstance(settled, Repair):
                self._repairs.append(settled)
            else:
                self._record(arrival.call, settled)
        if self.ask.options.cache == "only":
            for call in chunk.missing:
                failure = Failure(FailureKind.NOT_CACHED, "Not in the cache, and cache='only' sends nothing.")
                self._record(call, Outcome(None, failure, self._ledger.keys[call], (), False))
        else:
            self._pending.extend(chunk.missing)
        self._send()

    def _plan_ended(self, work: asyncio.Future[None]) -> None:
        self._planned = True
        if not work.cancelled() and work.exception() is not None:
            self._stop("failed", work.exception())
        self._finish_if_over()

    # Sending.

    def _send(self) -> None:
        """Let the lane ask for calls, opening it only now: a run that finds everything needs no key."""
        if self._stopping is not None or (self._head == len(self._pending) and not self._repairs):
            return
        try:
            lane = lane_of(self._engine, self.ask.target)
            if self._attached:
                lane.poke()
            else:
                lane.attach(self._feed)
                self._attached = True
        except PllmError as error:
            self._stop("failed", error)
        except Exception as error:
            logger.debug("The provider's client could not be opened", exc_info=True)
            self._stop("failed", PllmError(f"{self.ask.target.label}: {type(error).__name__}: {error}. Nothing was sent."))

    def _next_job(self) -> Job | None:
        """Give the lane the next call, or None when there is none to send now."""
        if self._stopping is not None or (self._serial and self._open):
            return None
        if self._store is not None and self._store.backlog_bytes > _MOST_BACKLOG_BYTES:
            self._note = "waiting for the cache to be written"
            self._loop.loop.call_later(_REDRAW_S, self._send)
            return None
        if self._repairs:
            repair = self._repairs[0]
            size = len(self.ask.content_of(repair.turns))
            job = self._job(repair.key, partial(self.ask.content_of, repair.turns), size, repair)
            if job is not None:
                self._repairs.popleft()
            return job
        while self._head < len(self._pending):
            call = self._pending[self._head]
            text = self.ask.text_json(self.prompt(self._ledger.first_row[call]))
            assert isinstance(text, bytes)  # the plan has read it before
            size = self.ask.size(text)
            job = self._job(self._ledger.keys[call], partial(self.ask.content, text), size, call)
            if job is not None:
                self._head += 1
            return job
        return None

    def _job(self, key: str, content: Callable[[], bytes], size: int, tag: int | Repair) -> Job | None:
        bound = self.budget.bound_usd(size)
        if not self.budget.admit(bound):
            if not self._open:
                self._loop.loop.call_soon(self._out_of_money)
            return None
        self._open += 1
        tokens = size / BYTES_PER_TOKEN + (self.ask.options.max_output_tokens or GUESSED_OUTPUT_TOKENS)
        rung = self.ask.target.quirks.rung
        return Job(key, content, tokens, self._landed, (tag, bound, rung))

    def _out_of_money(self) -> None:
        """Nothing is on the wire and the next call could pass the ceiling."""
        if self._open or self._stopping is not None:
            return
        ceiling = self.ask.options.max_cost_usd
        message = (
            f"Not sent: with ${self.budget.spent_usd:.4f} spent, one more call could have passed "
            f"max_cost_usd={ceiling:g}. Raise it, or give a smaller max_output_tokens."
        )
        for call in self._pending[self._head :]:
            outcome = Outcome(None, Failure(FailureKind.BUDGET, message), self._ledger.keys[call], (), False)
            self._record(call, outcome)
        for repair in self._repairs:
            arrival = repair.arrival
            metas = (*arrival.metas, arrival.entry.meta)
            failure = Failure(FailureKind.BUDGET, message, raw=arrival.entry.text.decode("utf-8", "replace"))
            self._record(arrival.call, Outcome(None, failure, arrival.key, metas, False, arrival.entry))
        self._head = len(self._pending)
        self._repairs.clear()
        error = BudgetError(message, kept=self._kept(), total=self.rows.total) if self._raises else None
        self._stop("failed", error)

    def _landed(self, job: Job, landing: Landing) -> None:
        """Take what a call ended with."""
        tag, bound, rung = job.tag
        result = landing.result
        call = tag.arrival.call if isinstance(tag, Repair) else tag
        if isinstance(result, Failure):
            self._open -= 1
            paid = None if result.kind is FailureKind.CANCELLED and landing.maybe_paid else 0.0
            # The last request is the reservation itself where it may have been paid.
            if landing.maybe_paid:
                self.budget.settle(bound, None, landing.maybe_paid - 1)
            else:
                self.budget.settle(bound, paid)
            self._failed(call, job.key, tag, landing)
            self._send()
            self._finish_if_over()
            return
        cost = None if self._rate is None or result.usage is None else self._rate.cost_usd(result.usage)
        self.budget.settle(bound, cost, landing.maybe_paid)
        self._add(result, cost)
        assert landing.raw is not None
        entry = Entry.of(
            result,
            landing.raw.body,
            asked=self.ask.target.label,
            output_limit=self.ask.output_limit,
            cost_usd=cost,
            latency_s=landing.latency_s,
            attempts=landing.attempts,
        )
        arrival = self._arrival(call, tag, entry, rung)
        if self._store is None:
            self._arrived(arrival)
        else:
            self._store.put(job.key, entry, partial(self._committed, arrival))

    def _arrival(self, call: int, tag: int | Repair, entry: Entry, rung: int) -> Arrival:
        row = self._ledger.first_row[call]
        if isinstance(tag, Repair):
            before = tag.arrival
            metas = (*before.metas, before.entry.meta)
            return Arrival(call, before.key, entry, row, tag.turns, metas, before.repairs + 1, False, rung)
        return Arrival(call, self._ledger.keys[call], entry, row, cached=False, rung=rung)

    def _add(self, reply: Reply, cost_usd: float | None) -> None:
        if reply.usage is not None:
            self.input_tokens += reply.usage.input_tokens
            self.output_tokens += reply.usage.output_tokens
        if cost_usd is None or self.cost_usd is None:
            self.cost_usd = None  # one unknown makes the sum unknown; never a sum that looks whole
        else:
            self.cost_usd += cost_usd

    def _failed(self, call: int, key: str, tag: int | Repair, landing: Landing) -> None:
        failure = landing.result
        assert isinstance(failure, Failure)
        if failure.kind is FailureKind.CANCELLED:
            return  # the row stays pending: nobody knows its answer
        failure = Failure(
            failure.kind, failure.message, failure.status, failure.raw, landing.attempts,
            failure.request_id, failure.retry_after_s, failure.field,
        )  # fmt: skip
        metas: tuple[bytes, ...] = ()
        entry = None
        if isinstance(tag, Repair):
            metas, entry = (*tag.arrival.metas, tag.arrival.entry.meta), tag.arrival.entry
        self._record(call, Outcome(None, failure, key, metas, False, entry))
        logger.debug("%s: row %d failed: %s", self.ask.target.label, self._ledger.first_row[call], failure.kind)
        if failure.kind.fatal and self._stopping is None:
            message = f"{self.ask.target.label} refused ({failure.kind.replace('_', ' ')}): {failure.message}"
            logger.error("%s", message)
            self._stop(
                "failed",
                ProviderRejectedError(
                    message, kind=failure.kind, status=failure.status, kept=self._kept(), total=self.rows.total
                ),
            )

    # Arrivals: stored first, then read.

    def _committed(self, arrival: Arrival, error: BaseException | None) -> None:
        """Hear from the writer's thread that a reply is on disk; one hop to the loop for a whole group."""
        self._commits.append((arrival, error))
        if not self._commits_told:
            self._commits_told = True
            self._loop.call(self._take_commits)

    def _take_commits(self) -> None:
        self._commits_told = False
        while self._commits:
            arrival, error = self._commits.popleft()
            if error is not None:
                # The answer is here and was paid for: it is kept in memory and the run says so.
                self.unsaved += self._ledger.weight[arrival.call]
                self._once("unsaved", f"Answers cannot be saved to the cache and are only in memory: {error}")
            self._arrived(arrival)

    def _arrived(self, arrival: Arrival) -> None:
        self._arrivals.append(arrival)
        if not self._settling:
            self._settle_next()

    def _settle_next(self) -> None:
        batch, self._arrivals = self._arrivals, []
        self._settling = bool(batch)
        if batch:
            work = self._loop.loop.run_in_executor(
                self._engine.workers, settle, self.ask, self._store, self.prompt, batch
            )
            work.add_done_callback(partial(self._settled, batch))

    def _settled(self, batch: list[Arrival], work: asyncio.Future[list[Outcome | Repair]]) -> None:
        try:
            outcomes = work.result()
        except BaseException as error:  # ours or the interpreter's: rows must not wait for ever
            logger.exception("Replies could not be read")
            failure = Failure(FailureKind.SCHEMA, f"{type(error).__name__}: {error}")
            outcomes = [Outcome(None, failure, a.key, (a.entry.meta,), False, a.entry) for a in batch]
        for arrival, outcome in zip(batch, outcomes, strict=True):
            self._open -= 1
            if isinstance(outcome, Repair):
                self._repairs.append(outcome)
                continue
            if self._store is None and outcome.failure is None:
                outcome.entry = arrival.entry
            self._record(arrival.call, outcome)
        self._settle_next()
        self._send()
        self._finish_if_over()

    def _record(self, call: int, outcome: Outcome) -> None:
        """Note how a call ended: from here on its rows are reported as done."""
        self._ledger.outcomes[call] = outcome
        self._count(outcome, self._ledger.weight[call])
        failure = outcome.failure
        if failure is not None and self._raises and self._stopping is None and not failure.kind.fatal:
            row = self._ledger.first_row[call]
            self._stop(
                "failed",
                RowError(
                    f"Row {row:,} failed ({failure.kind}): {failure.message}",
                    position=row, kind=failure.kind, kept=self._kept(), total=self.rows.total,
                ),
            )  # fmt: skip

    def _count(self, outcome: Outcome, rows: int) -> None:
        if outcome.failure is not None:
            self._pace.failed += rows
        elif outcome.cached:
            self._pace.cached += rows
        else:
            self._pace.done += rows

    # The rest.

    def _kept(self) -> int:
        return self._pace.done + self._pace.cached

    def _retryable(self, kinds: set[FailureKind] | None) -> list[int]:
        """Give the calls that `retry` would send: failed in a way that can pass, or never ended."""
        def wanted(outcome: Outcome | None) -> bool:
            if outcome is None:
                return True
            if outcome.failure is None:
                return False
            kind = outcome.failure.kind
            passing = kind.retried or kind.fatal or kind in (FailureKind.BUDGET, FailureKind.CANCELLED)
            return passing if kinds is None else kind in kinds

        return [call for call, outcome in enumerate(self._ledger.outcomes) if wanted(outcome)]

    def _again(self, kinds: set[FailureKind] | None) -> None:
        calls = self._retryable(kinds)
        for call in calls:
            if self._ledger.outcomes[call] is not None:
                self._pace.failed -= self._ledger.weight[call]
                self._ledger.outcomes[call] = None
        self._pending, self._head = array("q", calls), 0
        self._repairs.clear()
        self._stopping, self._error, self.state = None, None, "running"
        self._feed = self._new_feed()
        self._pace.resume(time.monotonic())
        self._display.open(self.progress(), self.cancel)
        self._tick()
        self._plan_on()  # a run that was stopped may not have seen all its rows
        self._send()

    def _once(self, what: str, message: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            logger.warning("%s", message)
            warnings.warn(message, stacklevel=2)

    def _outcome(self) -> Any:
        """Give the result of a run that has ended, or raise what ended it."""
        if self._error is not None:
            raise self._error
        if self.state == "cancelled":
            raise RunInterrupted("The run was stopped.", kept=self._kept(), total=self.rows.total)
        failed = self._pace.failed
        if failed:
            warnings.warn(
                f"{failed:,} of {self.rows.total:,} rows failed and have NA; .llm.errors of the result says why.",
                stacklevel=3,
            )
        return self.rows.assemble(self)

    async def _wait_here(self) -> Any:
        """Await the end on the caller's own loop, passing cancellation on."""
        here = asyncio.get_running_loop()
        ended: asyncio.Future[None] = here.create_future()

        def bridge() -> None:
            """On the engine's loop: pass the end on to the caller's."""
            if self._ended.is_set():
                _tell(here, ended)
                return
            waiter = self._loop.loop.create_future()
            waiter.add_done_callback(lambda _: _tell(here, ended))
            self._waiters.add(waiter)

        self._loop.call(bridge)
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            self.cancel()
            # What has arrived is put away before the cancellation goes on.
            await _patiently(ended)
            raise
        return self._outcome()


def _tell(loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    if not loop.is_closed():
        loop.call_soon_threadsafe(end)


async def _patiently(ended: asyncio.Future[None], grace_s: float = 10.0) -> None:
    """Wait through further cancellations for a short while."""
    deadline = asyncio.get_running_loop().time() + grace_s
    for _ in itertools.count():
        left = deadline - asyncio.get_running_loop().time()
        if ended.done() or left <= 0:
            return
        try:
            await asyncio.wait([ended], timeout=left)
        except asyncio.CancelledError:
            return
