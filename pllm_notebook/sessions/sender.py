"""Start runs over the calls of a session, which may differ in model, prompt and type."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from pllm_notebook.engine import Engine, block_until, engine
from pllm_notebook.exceptions import StoreError
from pllm_notebook.execution import (
    CallSpec,
    Estimate,
    LiveRun,
    Part,
    RunBudget,
    WholePrompts,
    estimate_list,
    options_for,
    parts_of,
    start_list,
)
from pllm_notebook.messages_types import Prompt
from pllm_notebook.sessions.call import Call, spec_of
from pllm_notebook.sessions.session_call import STOPPED_LINE, SessionCall
from pllm_notebook.sessions.session_store import SessionStore
from pllm_notebook.settings import current

__all__ = ["SessionSender"]

# Polling interval for conditions without an event.
_POLL_S = 0.05


class SessionSender:
    """The sender of a session's calls, which also waits for them and stops them.

    Args:
        session_store: The store of the answers.
        options: Options of every run of the session.

    Attributes:
        runs: All started runs, oldest first.
    """

    def __init__(self, session_store: SessionStore, options: dict[str, Any]) -> None:
        self.runs: list[LiveRun] = []
        self._session_store = session_store
        self._options = options
        # One budget for all runs: max_cost_usd limits the program, not each group of its calls.
        self._run_budget = RunBudget(options_for(options).max_cost_usd)
        self._waiting: list[Callable[[], None]] = []

    @property
    def engine(self) -> Engine:
        """The engine that the session's calls run on."""
        return engine(current().loop)

    @property
    def cost_usd(self) -> float | None:
        """Cost of the session's calls so far, in US dollars. None as soon as the price of one is unknown."""
        costs = [run.cost for run in self.runs]
        return None if None in costs else sum((cost for cost in costs if cost is not None), 0.0)

    def send(self, session_calls: Sequence[SessionCall], mode: str = "async", *, keep: bool = True) -> list[LiveRun]:
        """Start sending calls and return their runs at once: one for new answers, one to replace outdated answers.

        Args:
            session_calls: Calls that are not done, each once.
            mode: "async" for the live API, "batch" for jobs.
            keep: Whether answers are stored.

        Raises:
            UsageError: If a call is invalid. No call of its run was sent.
            StoreError: If the directory cannot be opened. Nothing was sent.
        """
        started = []
        for refresh_cache in (False, True):
            some = [session_call for session_call in session_calls if session_call.refresh_cache is refresh_cache]
            if some:
                cache = "off" if not keep else "refresh" if refresh_cache else "use"
                started.append(self._start(some, {"mode": mode, "cache": cache, "wait": mode != "batch"}))
        return started

    def estimate(self, session_calls: Sequence[SessionCall], mode: str) -> Estimate | None:
        """Estimate the calls in *mode* (see `send`). None if there are no calls. Sends nothing."""
        parts = []
        for refresh_cache in (False, True):
            some = [session_call for session_call in session_calls if session_call.refresh_cache is refresh_cache]
            parts += self._parts(some, {"mode": mode, "cache": "refresh" if refresh_cache else "use"})
        return estimate_list(parts, cache_dir=self._session_store.directory) if parts else None

    def wait(self, ended: threading.Event, timeout_s: float | None = None) -> None:
        """Block until *ended* is set, or for *timeout_s*. An interrupt stops everything that the session has in flight.

        Raises:
            KeyboardInterrupt: After an interrupt.
        """
        if not ended.is_set():
            block_until(ended, self.stop, loop=self.engine.loop, message=self._stopped, timeout_s=timeout_s)

    def _stopped(self) -> str:
        self.stop()  # runs that were started after the interrupt
        return STOPPED_LINE

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Block until *condition* holds; it is polled on this thread."""
        while not condition():
            self.rest(_POLL_S)

    def rest(self, seconds: float) -> None:
        """Sleep; interruptible."""
        self.wait(threading.Event(), seconds)

    def stop_first(self, stop: Callable[[], None]) -> None:
        """Register a callback that `stop` runs first, for calls that are queued elsewhere."""
        self._waiting.append(stop)

    def stop(self) -> None:
        """Send nothing more and cancel live calls in flight. Callable from any thread. Batch jobs keep running."""
        for stop in self._waiting:
            stop()
        for run in self.runs:
            if not run.done():
                run.cancel()

    def _start(self, session_calls: list[SessionCall], options: dict[str, Any]) -> LiveRun:
        if options["cache"] != "off" and not self._session_store.is_writable:
            raise StoreError(
                f"{self._session_store.directory} is read-only: its answers can be used, but new ones cannot be stored "
                f"there. Use a copy of it, or make it writable. Nothing was sent."
            )
        parts = self._parts(session_calls, options)
        relay = _ResultRelay(session_calls)
        for session_call in session_calls:
            session_call.sent(relay, "pending" if options["mode"] == "batch" else "sent")
        try:
            rows, session_store = _Rows(session_calls), self._session_store.directory
            run = start_list(
                parts,
                rows,
                relay.on_result,
                cache_dir=session_store,
                run_budget=self._run_budget,
                # A job's answer may arrive between the lookup in the store and this run.
                refresh_since=max((call.since for call in session_calls if call.since is not None), default=None),
            )
        except BaseException:
            for session_call in session_calls:
                session_call.sent(None, "asked")
            raise
        self.runs.append(run)
        relay.begin(run)
        watching = asyncio.run_coroutine_threadsafe(run.until_ended(), self.engine.loop.loop)
        watching.add_done_callback(lambda _: relay.over())
        return run

    def _parts(self, session_calls: Sequence[SessionCall], options: dict[str, Any]) -> list[Part]:
        calls: dict[Hashable, Call] = {session_call.call.how: session_call.call for session_call in session_calls}
        asked = [(session_call.call.how, session_call.call.prompt) for session_call in session_calls]

        def spec(how: Hashable) -> CallSpec:
            # Each run gets a new spec, because a run stores in its spec what it learns about its prompts. The common
            # prefix of the program's earlier calls, such as a document in all of them, is passed on.
            made = spec_of(calls[how], **{**self._options, **options})
            begun = self._session_store.spec(calls[how]).lead
            if begun:
                made.expect(begun)
            return made

        return parts_of(asked, spec)


class _Rows(WholePrompts):
    """The calls of one run as its rows, in the order in which they were made."""

    def __init__(self, session_calls: Sequence[SessionCall]) -> None:
        self._session_calls = session_calls
        self.total = len(session_calls)
        agents = dict.fromkeys(session_call.call.agent for session_call in session_calls)
        self.label = ", ".join(agents)

    def prompts(self, rows: range) -> Sequence[Prompt]:
        """Return the prompts of some rows."""
        return [session_call.call.prompt for session_call in self._session_calls[rows.start : rows.stop]]

    def name_of(self, row: int) -> str:
        """Return the name of a row: the agent, and the number of the call."""
        call = self._session_calls[row].call
        return f"{call.agent} {call.number}{f' {call.tag}' if call.tag else ''}".strip()

    def assemble(self, run: LiveRun) -> list[Any]:
        """Return the values, None for a call without one."""
        outcomes = [run.table.outcome(row) for row in range(self.total)]
        return [None if outcome is None else outcome.value for outcome in outcomes]

    def errors(self, run: LiveRun) -> list[dict[str, Any]]:
        """Return the failures."""
        failures = [run.table.failure(row) for row in range(self.total)]
        return [
            {"position": row, "label": self.name_of(row), "kind": str(failure.kind), "message": failure.message}
            for row, failure in enumerate(failures)
            if failure is not None
        ]


class _ResultRelay:
    """The connection from a run's results to its calls. A row may finish before `start_list` returns the run."""

    def __init__(self, session_calls: Sequence[SessionCall]) -> None:
        self._session_calls = session_calls
        self._run: LiveRun | None = None
        self._early: list[int] = []
        self._lock = threading.Lock()

    def begin(self, run: LiveRun) -> None:
        """Set the run, and report the rows that finished before."""
        with self._lock:
            self._run, early = run, self._early
        for row in early:
            self._report(run, row)

    def on_result(self, row: int) -> None:
        """Report a finished row. Called on the engine's loop."""
        with self._lock:
            run = self._run
            if run is None:
                self._early.append(row)
                return
        self._report(run, row)

    def over(self) -> None:
        """Fail the calls that the run ended without answering."""
        run = self._run
        assert run is not None
        for session_call in self._session_calls:
            session_call.on_abort(self, run.execution.error)

    def _report(self, run: LiveRun, row: int) -> None:
        self._session_calls[row].on_result(self, run.table.outcome(row), run.table.failure(row))
