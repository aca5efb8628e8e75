"""When the engine itself cannot run: prompts one after another, each request on an event loop of its own.

Nothing of the engine takes part: no loop, no dispatchers, no workers. What is asked, what is known, how a reply is
read and what it costs are the same, so the answers are too; only the pace is that of one request at a time.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import replace
from functools import partial

from pllm_notebook.engine import EndEvent, await_end, block_until
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import CallSpec, Outcome, Part, ResultTable, Run, RunBudget
from pllm_notebook.execution.failure_recorder import earlier_rejections
from pllm_notebook.execution.follow_ups import FollowUp, ToolCalls, UnreadReply
from pllm_notebook.execution.rejections import RejectionStreak, row_rejection, shared_rejection
from pllm_notebook.execution.replies import Step, with_results
from pllm_notebook.execution.shared_store import SharedStore
from pllm_notebook.execution.tool_results import result_key, run_tool, timeout_result
from pllm_notebook.execution.user_code import USER_THREADS, read_with_timeout
from pllm_notebook.messages_types import Prompt
from pllm_notebook.prompt_lists.sequential_send import SendResult, send
from pllm_notebook.protocols import Store
from pllm_notebook.records import Failure, FailureKind
from pllm_notebook.redaction import redact
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.threads import DaemonThreads
from pllm_notebook.tools import ReadCall

__all__ = ["SequentialRun", "is_engine_failure"]

logger = logging.getLogger("pllm_notebook")

_STOPPED = "Stopped. What is answered is kept; run it again to continue."
# How often an answer is looked for that another process asks for.
_RECHECK_CACHE_S = 0.25


def is_engine_failure(error: Exception, run: Run | None) -> bool:
    """Return whether a list failed for a reason that is neither its caller's nor a provider's.

    Args:
        error: What it failed with.
        run: Its run, None where it did not come so far.
    """
    return not isinstance(error, PllmError) or (run is not None and (run.course.broken or not run.alive))


class SequentialRun:
    """Ask the prompts of a list in turn.

    Args:
        parts: As the engine was given them.
        total: Prompts.
        store: Where answers are kept, None for nowhere.
        run: The run that broke: what it has answered stands. None where it did not come so far.

    Attributes:
        ledger: How each prompt ended.
    """

    def __init__(self, parts: Sequence[Part], total: int, store: Store | None, run: Run | None) -> None:
        self.ledger = ResultTable(total)
        self._store = store
        shared_store: SharedStore | None = store if isinstance(store, SharedStore) else None
        self._claims = None if shared_store is None else shared_store.claims
        self._before = run
        self._asked: dict[int, tuple[CallSpec, Prompt]] = {
            row: (part.ask, prompt) for part in parts for row, prompt in zip(part.rows, part.prompts, strict=True)
        }
        self._purse = RunBudget(parts[0].ask.options.max_cost_usd)
        if run is not None:
            self._purse.paid_usd = run.cost or 0.0
        self._refused: dict[tuple[str, str, str], Failure] = {}
        self._streaks: defaultdict[tuple[str, str, str], RejectionStreak] = defaultdict(RejectionStreak)
        self._known: dict[tuple[int, str], Outcome] = {}
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._going: tuple[asyncio.AbstractEventLoop, asyncio.Task[object]] | None = None

    def ask_of(self, row: int) -> CallSpec:
        """Return the question that a prompt was asked."""
        return self._asked[row][0]

    def stop(self) -> None:
        """Ask nothing more, and cancel what is on the wire. From any thread."""
        self._stopped.set()
        with self._lock, suppress(RuntimeError):
            if self._going is not None:
                loop, task = self._going
                loop.call_soon_threadsafe(task.cancel)

    def wait(self) -> None:
        """Ask all of them, and block until they have ended; an interrupt stops it and raises KeyboardInterrupt."""
        work, ended = self._begin()
        block_until(ended, self.stop, loop=None, message=lambda: _STOPPED)
        work.result()

    async def until_ended(self) -> None:
        """Ask all of them, and wait for their end on the caller's own loop; a cancellation stops it."""
        work, ended = self._begin()
        await await_end(ended, self.stop)
        work.result()

    def _begin(self) -> tuple[Future[None], EndEvent]:
        """Ask in a daemon thread: the caller's own may run a loop already, and the interpreter waits for the others."""
        ended = EndEvent()
        work = DaemonThreads("pllm-sequence").submit(self.ask_all)
        work.add_done_callback(lambda _: ended.set())
        return work, ended

    def ask_all(self) -> None:
        """Ask all of them, in order, in a thread that runs no loop."""
        for row in range(len(self.ledger.call_of_row)):
            ask, prompt = self._asked[row]
            ended: Outcome | Failure | None = self._answered_before(row)
            if ended is None:
                try:
                    ended = self._ended(ask, prompt, row)
                except asyncio.CancelledError:
                    return
                except Exception as error:  # one prompt's trouble is no other's
                    logger.exception("A prompt could not be asked")
                    ended = Failure(FailureKind.INPUT, redact(f"{type(error).__name__}: {error}"))
            if self._stopped.is_set():
                return
            if isinstance(ended, Failure):
                self.ledger.fail(row, ended)
            else:
                self.ledger.outcomes[self.ledger.append(row, ended.key)] = ended

    def _answered_before(self, row: int) -> Outcome | None:
        outcome = None if self._before is None else self._before.ledger.outcome(row)
        return outcome if outcome is not None and outcome.failure is None else None

    def _ended(self, ask: CallSpec, prompt: Prompt, row: int) -> Outcome | Failure:
        encoded = ask.encoded(prompt)
        if isinstance(encoded, Failure):
            return encoded
        key = ask.key(encoded)
        outcome = self._known.get((id(ask), key))
        if outcome is None:
            outcome = self._known[id(ask), key] = self._outcome(ask, key, partial(ask.content, encoded), prompt, row)
        return outcome

    def _outcome(self, ask: CallSpec, key: str, content: Callable[[], bytes], prompt: Prompt, row: int) -> Outcome:
        entry = self._kept(ask, key)
        arrival: UnreadReply | None = None
        if entry is not None:
            arrival = UnreadReply(row, key, entry, row)
        elif ask.options.cache == "only":
            return _failed(key, Failure(FailureKind.NOT_CACHED, "Not in the cache, and cache='only' sends nothing."))
        else:
            found = earlier_rejections(ask, self._store, [key]).get(key)
            sent = found or self._entry(ask, key, content)
            if isinstance(sent, Failure):
                return _failed(key, sent)
            arrival = UnreadReply(row, key, sent, row, cached=False, schema_level=ask.target.quirks.schema_level)
        return self._settled(ask, arrival, prompt)

    def _settled(self, ask: CallSpec, arrival: UnreadReply, prompt: Prompt) -> Outcome:
        """Read a reply, and ask on where it needs that: repairs, and turns in which tools are run."""

        def again(row: int) -> Prompt:
            return prompt

        settled: Step = read_with_timeout(ask, self._store, again, [arrival])[0]
        while not isinstance(settled, Outcome):
            if isinstance(settled, ToolCalls):
                results = dict(settled.results)
                for at, read in enumerate(settled.read):
                    if at not in results:
                        results[at] = _run_in_time(read, ask.options.tool_timeout_s)
                        self._keep(result_key(settled.arrival, at, read.call), results[at])
                settled = with_results(ask, self._store, again, settled, results)
                continue
            schema_level = ask.target.quirks.schema_level
            sent = self._entry(ask, settled.key, _bytes_of(settled, ask, again))
            if isinstance(sent, Failure):
                return settled.failed(sent)
            arrival = settled.arrived(sent, schema_level)
            settled = read_with_timeout(ask, self._store, again, [arrival])[0]
        if self._store is None and settled.entry is None:
            settled.entry = arrival.entry
        return settled

    # The store.

    def _kept(self, ask: CallSpec, key: str) -> StoredReply | None:
        if self._store is None or ask.options.cache == "refresh":
            return None
        entry = self._store.get_many([key]).get(key)
        return entry if entry is not None and entry.satisfies(ask.output_limit, ask.takes_empty) else None

    def _keep(self, key: str, entry: StoredReply) -> None:
        if self._store is None:
            return
        kept = threading.Event()
        trouble: list[BaseException] = []

        def done(error: BaseException | None) -> None:
            trouble.extend(() if error is None else (error,))
            kept.set()

        try:
            self._store.put(key, entry, done)
            kept.wait()
        except Exception as error:  # a store that was closed under us; the answer is here
            trouble.append(error)
        if trouble:
            logger.error("An answer cannot be saved to the cache and is only in memory: %s", trouble[0])

    # The wire.

    def _entry(self, ask: CallSpec, key: str, content: Callable[[], bytes]) -> StoredReply | Failure:
        """Send a request and store its reply, or return the reply that another process has stored meanwhile."""
        claims = self._claims
        if claims is None or ask.options.cache == "refresh":
            return self._sent(ask, key, content)
        while key not in claims.take("live", [key]).granted:
            if self._stopped.wait(_RECHECK_CACHE_S):
                raise asyncio.CancelledError
            if (entry := self._kept(ask, key)) is not None:
                return entry
        try:
            # Whoever released it may have stored the answer first.
            return self._kept(ask, key) or self._sent(ask, key, content)
        finally:
            claims.release("live", [key])

    def _sent(self, ask: CallSpec, key: str, content: Callable[[], bytes]) -> StoredReply | Failure:
        model_key = ask.target.dispatcher_key
        if model_key in self._refused:
            return self._refused[model_key]
        sent = asyncio.run(self._send(ask, content))
        if isinstance(sent.result, Failure):
            failure = replace(sent.result, message=redact(sent.result.message), attempts=sent.attempts)
            if self._streaks[model_key].refused(failure):
                failure = self._refused[model_key] = shared_rejection(failure)
                return failure
            return row_rejection(failure) if self._streaks[model_key].answered else failure
        self._streaks[model_key].success()
        assert sent.raw is not None
        entry = StoredReply.of(
            sent.result,
            sent.raw.body,
            asked=ask.target.label,
            output_limit=ask.output_limit,
            cost_usd=sent.cost_usd,
            latency_s=sent.latency_s,
            attempts=sent.attempts,
            host=ask.target.host,
        )
        self._keep(key, entry)
        return entry

    async def _send(self, ask: CallSpec, content: Callable[[], bytes]) -> SendResult:
        task = asyncio.current_task()
        assert task is not None
        with self._lock:
            self._going = asyncio.get_running_loop(), task
        try:
            if self._stopped.is_set():
                raise asyncio.CancelledError
            return await send(ask, content, self._purse)
        finally:
            with self._lock:
                self._going = None


def _run_in_time(read: ReadCall, timeout_s: float) -> StoredReply:
    work = USER_THREADS.submit(run_tool, read)
    return work.result() if wait([work], timeout_s).done else timeout_result(read, timeout_s)


def _failed(key: str, failure: Failure) -> Outcome:
    return Outcome(None, failure, key, (), False)


def _bytes_of(repair: FollowUp, ask: CallSpec, prompt: Callable[[int], Prompt]) -> Callable[[], bytes]:
    made = repair.content(ask, prompt)
    assert not isinstance(made, Failure)  # its prompt is in hand
    return partial(made[0], None)
