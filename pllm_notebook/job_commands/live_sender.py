"""The sending of a job's pending lines, live, and where their answers go: first come, first kept."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import orjson

from pllm_notebook.batch import Job as BatchJob
from pllm_notebook.batch import JobLine
from pllm_notebook.engine import Dispatcher, RunQueue, SendPolicy
from pllm_notebook.execution.budget import ModelBudget
from pllm_notebook.execution.call_spec import BYTES_PER_TOKEN, DEFAULT_OUTPUT_TOKENS
from pllm_notebook.execution.dispatchers import dispatcher_for
from pllm_notebook.execution.learned_limits import LimitCache
from pllm_notebook.execution.rejections import RejectionStreak
from pllm_notebook.execution.user_limits import user_rate_limit
from pllm_notebook.formatting import counted, format_usd
from pllm_notebook.job_commands.commands import BatchCommands
from pllm_notebook.pending_call import CallResult, PendingCall
from pllm_notebook.prices import Rate, rate_of
from pllm_notebook.protocols import CallSource
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.records import Failure, RawReply, Reply
from pllm_notebook.settings import Options
from pllm_notebook.store import DiskStore
from pllm_notebook.stored_reply import StoredReply

__all__ = ["LiveSender", "SentLive", "live_rate"]

# Requests held ready to be sent; the rest stays in the file.
_MAX_READY = 500


@dataclass(frozen=True, slots=True)
class SentLive:
    """What became of the lines of a job that were sent live.

    Attributes:
        answered: Answered live.
        batch_first: Answered by the job before they were sent.
        failed: Kind of failure to number; they stay with the job, which may yet answer them.
        left: Not sent: budget exhausted, or after an interrupt or a refused key.
        cost_usd: Of the live answers; None where one is of unknown price.
    """

    answered: int
    batch_first: int
    failed: dict[str, int] = field(hash=False)
    left: int
    cost_usd: float | None

    def __repr__(self) -> str:
        parts = [f"{counted(self.answered, 'line', 'was')} answered live ({format_usd(self.cost_usd)})"]
        parts += [f"{self.batch_first:,} by the batch before they were sent"] if self.batch_first else []
        parts += [f"{count:,} failed ({kind}) and stay with the batch" for kind, count in self.failed.items()]
        parts += [f"{self.left:,} {'was' if self.left == 1 else 'were'} not sent"] if self.left else []
        return "; ".join(parts) + "."


class LiveSender(CallSource):
    """Send the pending lines of one job. Used on the engine's loop.

    Args:
        errands: Of the job's directory.
        job: The job.
        target: Its model.
        options: As resolved; the ceilings and retries of a run.
        budget: What may be spent.
        wanted: Keys to be sent.
        bodies: The lines and their requests' bodies, these and others.
    """

    def __init__(
        self,
        commands: BatchCommands,
        job: BatchJob,
        target: ResolvedModel,
        options: Options,
        budget: ModelBudget,
        wanted: set[str],
        bodies: Iterator[tuple[JobLine, bytes]],
    ) -> None:
        self._commands = commands
        self._batch_service = commands.batch_service
        self._loop = commands.engine.loop.loop
        self._job = job
        self._target = target
        self._budget = budget
        self._rate = live_rate(target)
        self._dispatcher: Dispatcher | None = None
        self._run_queue = RunQueue(self, SendPolicy(options.max_retries, options.timeout_s), user_rate_limit(options))
        self._quirks = target.quirks.version
        self._all = wanted
        self._queue: deque[tuple[JobLine, bytes]] = deque()
        self._source = ((line, body) for line, body in bodies if line.key in wanted)
        self._reading = False
        self._read_all = False
        self._stopped = False
        self._streak = RejectionStreak()
        self._out = 0
        self._answers: dict[str, tuple[JobLine, StoredReply, Reply, RawReply]] = {}
        self._store_tasks: set[asyncio.Task[None]] = set()
        self._error: Exception | None = None
        self._answered = 0
        self._failed: dict[str, str] = {}
        self._cost_usd: float | None = 0.0
        self._finished = asyncio.Event()

    async def run(self) -> SentLive:
        """Send everything, and say what became of it."""
        self._batch_service.being_sent_live |= self._all
        store = self._commands.store
        limits = LimitCache(store.directory) if isinstance(store, DiskStore) else None
        dispatcher = self._dispatcher = dispatcher_for(self._commands.engine, self._target, limits)
        try:
            if not self._stopped:
                dispatcher.attach(self._run_queue)
                await self._finished.wait()
            # What neither way has answered: it failed live, or was not sent.
            open_ = self._all & self._batch_service.being_sent_live
        finally:
            dispatcher.detach(self._run_queue)
            self._batch_service.being_sent_live -= self._all
            self._batch_service.answered_live_first -= self._all
        if self._error is not None:
            raise self._error
        failed = Counter(kind for key, kind in self._failed.items() if key in open_)
        batch_first = len(self._all) - self._answered - len(open_)
        return SentLive(self._answered, batch_first, dict(failed), len(open_) - failed.total(), self._cost_usd)

    def stop(self) -> None:
        """Send no more."""
        self._stopped = True
        if self._dispatcher is not None:
            self._dispatcher.detach(self._run_queue)
        self._check_over()

    def fail(self, error: Exception) -> None:
        """End with an error, which `run` raises."""
        self._error = error
        self.stop()

    def next(self) -> PendingCall | None:
        """Return the next line's call, None if there is nothing to send now, or the budget is exhausted."""
        while self._queue and not self._stopped:
            line, body = self._queue[0]
            if line.key not in self._batch_service.being_sent_live:
                self._queue.popleft()
                continue
            bound = self._budget.bound_usd(len(body))
            if not self._budget.admit(bound):
                # Freed with the next answer; where none is out, there is not enough for one more.
                if not self._out:
                    self._stopped = True
                    self._loop.call_soon(self._check_over)
                return None
            self._queue.popleft()
            self._out += 1
            tokens = len(body) / BYTES_PER_TOKEN + DEFAULT_OUTPUT_TOKENS
            return PendingCall(line.key, partial(self._current_body, body), tokens, (line, bound))
        self._fill()
        return None

    def _current_body(self, body: bytes) -> bytes:
        """Return the kept bytes, or what they are with all that was learned of the server since."""
        quirks = self._target.quirks
        if quirks.version == self._quirks:
            return body
        return orjson.dumps(quirks.to_wire(orjson.loads(body), self._target.wire))

    def _fill(self) -> None:
        if self._reading or self._read_all or self._stopped:
            self._loop.call_soon(self._check_over)
            return
        self._reading = True
        work = self._loop.run_in_executor(self._commands.engine.workers, _take_ready, self._source)
        work.add_done_callback(self._filled)

    def _filled(self, work: asyncio.Future[list[tuple[JobLine, bytes]]]) -> None:
        self._reading = False
        try:
            some = work.result()
        except Exception as error:
            self.fail(error)
            return
        self._read_all = len(some) < _MAX_READY
        self._queue.extend(some)
        if self._dispatcher is not None:
            self._dispatcher.wake()

    def may_retry(self, call: PendingCall) -> bool:
        """Reserve the money to send a line once more."""
        return self._budget.admit(call.tag[1])

    def done(self, call: PendingCall, result: CallResult) -> None:
        """Settle what a line cost, and store its answer soon."""
        line, bound = call.tag
        self._out -= 1
        reply = result.result
        if isinstance(reply, Failure):
            self._budget.settle(bound, call.funded, 0.0, result.maybe_paid)
            if not self._stopped:
                self._failed[line.key] = reply.kind
            if self._streak.refused(reply):
                self.stop()
        else:
            assert result.raw is not None
            self._streak.success()
            cost = None if self._rate is None or reply.usage is None else self._rate.cost_usd(reply.usage)
            self._budget.settle(bound, call.funded, cost, result.maybe_paid)
            self._cost_usd = None if cost is None or self._cost_usd is None else self._cost_usd + cost
            self._answered += 1
            entry = StoredReply.of(
                reply,
                result.raw.body,
                asked=self._target.label,
                output_limit=line.output_limit,
                cost_usd=cost,
                latency_s=result.latency_s,
                attempts=result.attempts,
                host=self._target.host,
            )
            self._answers[line.key] = line, entry, reply, result.raw
            self._schedule_store()
        self._check_over()

    def _schedule_store(self) -> None:
        """Store what has come; what comes meanwhile makes the next group."""
        if not self._store_tasks:
            task = self._loop.create_task(self._store_answers())
            self._store_tasks.add(task)
            task.add_done_callback(self._stored)

    def _stored(self, task: asyncio.Task[None]) -> None:
        self._store_tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            error = task.exception()
            assert isinstance(error, Exception)
            self.fail(error)
        elif self._answers:
            self._schedule_store()
        self._check_over()

    async def _store_answers(self) -> None:
        group, self._answers = self._answers, {}
        first = {key: each for key, each in group.items() if key in self._batch_service.being_sent_live}
        second = {key: each[3].body for key, each in group.items() if key not in first}
        self._batch_service.being_sent_live -= first.keys()
        self._batch_service.answered_live_first |= first.keys()
        if second:
            spool = self._batch_service.journal.spool
            work: Callable[[], Any] = partial(spool.keep_duplicates, self._job.id, "live", second)
            await self._loop.run_in_executor(self._commands.engine.workers, work)
        await self._batch_service.keep({key: entry for key, (_, entry, _, _) in first.items()})
        await self._batch_service.answered({key: each[1:] for key, each in first.items()})

    def _check_over(self) -> None:
        """End when nothing is out and nothing more will be sent."""
        spent = self._stopped or (self._read_all and not self._queue and not self._run_queue.waiting)
        if spent and not self._out and not self._reading and not self._store_tasks and not self._answers:
            self._finished.set()


def _take_ready(source: Iterator[tuple[JobLine, bytes]]) -> list[tuple[JobLine, bytes]]:
    return list(islice(source, _MAX_READY))


def live_rate(target: ResolvedModel) -> Rate | None:
    """Return a model's price live, None for unknown."""
    return None if target.price_provider is None else rate_of(target.price_provider, target.price_model)
