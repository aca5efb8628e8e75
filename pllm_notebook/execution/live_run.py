"""A run of this process, with its question, execution, displays and end.

The user has a `Run`, which is a handle of a `LiveRun`.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
import warnings
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from pllm_notebook.callers import caller_stack_level
from pllm_notebook.display_registry import SafeDisplay
from pllm_notebook.engine import Engine, hold_at_exit
from pllm_notebook.exceptions import PllmError, StoppedError
from pllm_notebook.execution.asked_model import start_simulator
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.execute import Execution
from pllm_notebook.execution.explain import Explanation, explain, position_of, with_evidence
from pllm_notebook.execution.failure_recorder import FailureOrigin
from pllm_notebook.execution.gc_tuning import relaxed_gc
from pllm_notebook.execution.results import ResultTable
from pllm_notebook.execution.row_source import Rows
from pllm_notebook.execution.run_displays import RunDisplays
from pllm_notebook.execution.run_end import RunEnd
from pllm_notebook.execution.run_recorder import RunRecorder
from pllm_notebook.execution.run_summary import closing_lines, live_lines, progress_of
from pllm_notebook.execution.stop import State
from pllm_notebook.failures import FailureKind, kinds_named
from pllm_notebook.protocols import Display
from pllm_notebook.runtime import Slot
from pllm_notebook.types import Progress

__all__ = ["LiveRun", "Rows"]

_NUMBERS: Slot[itertools.count[int]] = Slot("run numbers", itertools.count)
_REDRAW_S = 0.1
# A result that was not taken after this time is recorded anyway, since the process may be killed before it is.
_UNTAKEN_S = 1.0


class LiveRun:
    """One run of this process, running or ended.

    Attributes:
        id: A short id, also in `df.attrs` of the result.
        spec: The spec of its calls; of several specs, the first.
        rows: The rows and the form of their answers.
        execution: Its execution on the engine's loop.
        table: The outcomes of its rows.
        displays: The displays that show it.
        number: Sequence number of the run in this process.
        started_at: Start time in seconds since 1970.
        endings: Number of times it has ended: once, and once more after each retry.
        ending: The number of the ending that its result belongs to; 0 while it is running.
        is_taken: Whether the caller has its current result.
        origin: The notebook and cell, or the script, in which it was started.
        recorder: Writes the run to the registry on disk, None for a run that is not recorded.
        on_taken: Called when the caller has received the result.
        on_over: Called with the run each time it ends, on the engine's loop.
        handle: Weak reference to the user's `Run`; None before there is one.
    """

    recorder: RunRecorder | None = None
    origin = ""
    on_taken: Callable[[], None] | None = None
    on_over: Callable[[LiveRun], None] | None = None
    handle: weakref.ref[Any] | None = None

    def __init__(self, spec: CallSpec, rows: Rows, execution: Execution, sink: Display | None) -> None:
        self.id = secrets.token_hex(4)
        self.number = next(_NUMBERS.value)
        self.started_at = time.time()
        self.endings = self.ending = 0
        self.is_taken = False
        self.spec, self.rows = spec, rows
        self._engine: Engine = execution.services.engine
        self._loop = self._engine.loop
        self.displays = RunDisplays(() if sink is None else (SafeDisplay(sink),))
        self.execution = execution
        for queue in execution.queues:
            queue.recorder.origin = FailureOrigin(self.id, rows.label, rows)
        self.table: ResultTable = execution.table
        self._end = RunEnd(self.id, execution, rows.total)
        self._ticker: asyncio.TimerHandle | None = None

    def __del__(self) -> None:
        if (execution := getattr(self, "execution", None)) is not None:
            execution.release()

    def __deepcopy__(self, memo: dict[int, Any]) -> LiveRun:
        # A run is not copied: a copy of a result that refers to its run refers to the same one.
        return self

    def __reduce__(self) -> NoReturn:
        raise PllmError(
            f"The run {self.id!r} cannot be pickled, nor what holds it: its calls are of this process. Pickle its "
            f"frame, run.to_frame(), or its id: pllm.run({self.id!r}) finds it in every process with this cache "
            f"directory."
        )

    def __repr__(self) -> str:
        p = self.progress()
        return f"<Run {self.id} {live_lines(self.id, p, '', '')[0]}{' SIMULATED' if p.simulated else ''}>"

    @property
    def state(self) -> State:
        """One of "running", "done", "cancelled" and "failed"."""
        return self.execution.state

    @property
    def alive(self) -> bool:
        """Whether its event loop is alive."""
        return self._loop.alive

    @property
    def errors(self) -> Any:
        """The failed rows: position, label, kind, message, attempts, raw text, cost."""
        return self.rows.errors(self)

    @property
    def cost(self) -> float | None:
        """Cost of this run's calls in US dollars, None if the price is unknown. Cached answers are free."""
        return self.execution.queues.spent.cost_usd

    def progress(self) -> Progress:
        """Return the current counts."""
        return progress_of(self.execution, self.rows)

    def done(self) -> bool:
        """Return whether the run has ended in any way."""
        return self._end.ended.is_set()

    def cancel(self) -> None:
        """Stop the run: send no more calls, cancel the requests on the wire, keep all finished answers.

        Callable from any thread; returns at once. A cancelled request may have been paid for.
        """
        self._end.cancel()

    def pause(self) -> None:
        """Send no new calls until `resume`. Those on the wire finish. Callable from any thread; returns at once."""
        self._loop.call(self.execution.pause, True)

    def resume(self) -> None:
        """Continue after `pause`. Callable from any thread; returns at once."""
        self._loop.call(self.execution.pause, False)

    def abort(self) -> None:
        """End at once, because the engine ends, without waiting for replies that are not stored. Called on its loop."""
        self.execution.fail(self._loop.ended())

    def fail(self, error: Exception) -> None:
        """End at once because of an internal error. Called on its loop."""
        self.execution.fail(error)

    def wait(self, timeout_s: float | None = None) -> None:
        """Block until the result is available (see `Run.wait`)."""
        self._end.block(timeout_s)

    def result(self) -> Any:
        """Wait, and return the answers in the caller's form, or raise the run's error (see `Run.result`)."""
        self.wait()
        return self._conclude() if self.done() else self.to_frame()

    def to_frame(self) -> Any:
        """Return the current answers in the caller's form."""
        ended = self.done()
        with relaxed_gc():
            frame = self.rows.assemble(self)
        if ended:
            self.note_rows()
            self.is_taken = True
            if self.on_taken is not None:
                self.on_taken()
        return frame

    def record(self, recorder: RunRecorder) -> None:
        """Write the run to the registry: before anything is sent, and when it has ended."""
        self.recorder = recorder
        if self.spec.options.cache != "use":
            recorder.begin(self)

    def note_rows(self) -> None:
        """Write the record of each row to the registry on disk, if the run is recorded and has ended."""
        if self.recorder is not None and self.done():
            self.recorder.finish(self)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._wait_here().__await__()

    def explain(self, row: int) -> Explanation:
        """Explain one row's call (see `Run.explain`)."""
        at = position_of(row, self.rows.total, "run")
        spec, key = self.execution.answer_of(at)
        return with_evidence(self, explain(spec, self.rows, self.table, self.execution.services.store, at, key))

    def retry(self, kinds: Sequence[str] | None = None) -> None:
        """Send failed rows again, and return at once (see `Run.retry`)."""
        if not self.done():
            raise PllmError("The run is still going; wait for it, or cancel it, before retrying.")
        if not self._loop.alive:
            raise self._loop.ended()
        if self.execution.broken:
            raise PllmError("An internal error ended the run. Run the cell again: what is answered is kept.")
        wanted = None if kinds is None else set(kinds_named(kinds))
        if self.execution.simulated:
            start_simulator()
        self.ending = 0
        self._end.clear()
        self._loop.call(self._begin_again, wanted)

    def start(self) -> None:
        """Start the run, from any thread. Called once by its creator."""
        try:
            try:
                # Here, on the caller's thread: a kernel puts output into the cell that is running there.
                self._open_displays()
            finally:
                self._loop.call(self._begin)
        except BaseException:
            hold_at_exit()
            # Otherwise an interrupt before the caller waits would leave the run going and spending.
            self.cancel()
            raise

    def attach(self, display: Display) -> None:
        """Show the run in another display, live and at its end. Callable from any thread except the loop's."""
        self.displays.attach(display, self, self._engine)

    def _open_displays(self) -> None:
        if self.displays.all:
            self.displays.open(self)

    # From here on, on the engine's loop.

    def _register(self) -> None:
        """Register the run with the engine, and set the callbacks of its execution."""
        relaxed_gc().begin()
        self._engine.register(self)
        self.execution.on_end = self._over
        if self.recorder is not None:
            self.execution.planner.on_miss = partial(self.recorder.begin, self)

    def _begin(self) -> None:
        self._register()
        try:
            self.execution.begin()
            self._ticker = self._loop.loop.call_later(_REDRAW_S, self._tick)
        except Exception as error:  # nothing else would end the run
            self.execution.fail(error)

    def _begin_again(self, kinds: set[FailureKind] | None) -> None:
        self._register()
        try:
            self.execution.again(kinds)
            if not self.done():
                self._open_displays()
                self._tick()
        except Exception as error:
            self.execution.fail(error)

    def _tick(self) -> None:
        self.execution.counts.sample(time.monotonic())
        self.execution.look()
        if self.execution.submitted:
            self._end.handed.set()
        if self.displays.all:
            self.displays.update(self.progress())
        if self.recorder is not None:
            self.recorder.look(self, self._engine.workers)
        self._ticker = self._loop.loop.call_later(_REDRAW_S, self._tick)

    def _over(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        if isinstance(self.execution.error, StoppedError):
            self.execution.error.name_run(self.id)
        try:
            if self.displays.all:
                self.displays.close(self)
        finally:  # wake the waiting callers even if displays fail
            relaxed_gc().end()
            self._engine.unregister(self)
            self._end.handed.set()
            self.endings += 1
            self.ending = self.endings
            self.is_taken = False
            if self.on_over is not None:
                self.on_over(self)
            self._end.ended.set()
        if self.recorder is not None:
            with suppress(RuntimeError):  # the loop is ending, and the process writes the rest at exit
                self._loop.loop.call_later(_UNTAKEN_S, _record_untaken, weakref.ref(self))

    def _conclude(self) -> Any:
        """Return the result of an ended run, or raise its error."""
        execution = self.execution
        error = execution.error
        if error is None and execution.state == "cancelled":
            error = self._end.interruption()
        if error is not None:
            hold_at_exit()
            self.note_rows()
            raise error
        self._warn()
        return self.to_frame()

    def _warn(self) -> None:
        """Warn the caller about rows without an answer or not saved, and show the run's other warnings."""
        execution, news = self.execution, list[str]()
        counts, unsaved = execution.counts, execution.results.unsaved
        if counts.failed or counts.not_sent or counts.skipped or unsaved:
            # In a notebook the last line of the display says it, in the same cell.
            news = closing_lines(self.progress(), counts.failed, unsaved, display_stays=self.displays.stays)
        for line in (*news, *execution.warnings):
            warnings.warn(line, stacklevel=caller_stack_level())

    async def _wait_here(self) -> Any:
        await self.until_given()
        return self._conclude() if self.done() else self.to_frame()

    async def until_given(self) -> None:
        """Await on the caller's own loop what `wait` blocks for. A cancellation is passed on."""
        await self._end.until_given()

    async def until_ended(self) -> None:
        """Await the end on the caller's own loop, ignoring the result. A cancellation is passed on."""
        await self._end.until_ended()


def _record_untaken(run: weakref.ref[LiveRun]) -> None:
    """Record a run whose result was not taken, since the process may be killed before it is."""
    live = run()
    if live is not None and live.recorder is not None and live.done() and not live.is_taken:
        live.recorder.finish(live, may_wait=False)
