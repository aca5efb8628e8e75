"""A run of this process: what is asked, what executes it, what shows it, and its end.

A person holds a `Run`, which is the handle of one of these.
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
# A result that has not been taken by then is recorded all the same: the process may be killed before it is.
_UNTAKEN_S = 1.0


class LiveRun:
    """One run of this process, which goes on or has ended.

    Attributes:
        id: A short word, also in `df.attrs` of the result.
        spec: The question.
        rows: The rows and the shape of their answers.
        execution: Its life on the engine's loop.
        table: The outcomes of its rows.
        displays: Those that show it.
        number: Counts the runs of this process.
        started_at: Seconds since 1970.
        endings: How often it has ended: once, and once more after each retry.
        ending: Which of them its result is of; 0 while it goes.
        is_taken: Whether its result, as it is now, was given to the caller.
        origin: The notebook and cell, or the script, that it comes from.
        recorder: Writes it into the registry on disk, None for a run that is not recorded.
        on_taken: Called when its result has been given to the caller.
        on_over: Called with the run each time it ends, on the engine's loop.
        handle: The `Run` that a person holds, weakly; None before there is one.
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
        # There is one run, whatever holds it: a copy of a result that knows its run has the same.
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
        """Whether the loop that it runs on is alive."""
        return self._loop.alive

    @property
    def errors(self) -> Any:
        """The failed rows: position, label, kind, message, attempts, raw text, cost."""
        return self.rows.errors(self)

    @property
    def cost(self) -> float | None:
        """US dollars that this run's calls cost, None where the price is unknown. Cached answers add nothing."""
        return self.execution.queues.spent.cost_usd

    def progress(self) -> Progress:
        """Return the counts of this moment."""
        return progress_of(self.execution, self.rows)

    def done(self) -> bool:
        """Return whether the run has ended, however it did."""
        return self._end.ended.is_set()

    def cancel(self) -> None:
        """Stop: admit nothing more, cancel what is on the wire, keep everything finished.

        From any thread; returns at once. A cancelled request may have been paid for.
        """
        self._end.cancel()

    def pause(self) -> None:
        """Send no new calls until `resume`; those on the wire end, and are kept. From any thread; returns at once."""
        self._loop.call(self.execution.pause, True)

    def resume(self) -> None:
        """Go on after `pause`. From any thread; returns at once."""
        self._loop.call(self.execution.pause, False)

    def abort(self) -> None:
        """End at once, because the engine ends, without waiting for what has not been stored. On its loop."""
        self.execution.fail(self._loop.ended())

    def fail(self, error: Exception) -> None:
        """End at once because of an internal error. On its loop."""
        self.execution.fail(error)

    def wait(self, timeout_s: float | None = None) -> None:
        """Block until the result can be had (see `Run.wait`)."""
        self._end.block(timeout_s)

    def result(self) -> Any:
        """Wait, and return the answers in the caller's shape, or raise what ended the run (see `Run.result`)."""
        self.wait()
        return self._conclude() if self.done() else self.to_frame()

    def to_frame(self) -> Any:
        """Return the answers as they are now, in the caller's shape."""
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
        """Write the run into the registry: before anything is sent, and when it has ended."""
        self.recorder = recorder
        if self.spec.options.cache != "use":
            recorder.begin(self)

    def note_rows(self) -> None:
        """Write what is known of each row into the registry on disk, where the run is recorded and has ended."""
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
        """Begin, from any thread. Called once, by what made the run."""
        try:
            try:
                # Here, on the caller's thread: a kernel puts output into the cell that is running there.
                self._open_displays()
            finally:
                self._loop.call(self._begin)
        except BaseException:
            hold_at_exit()
            # An interrupt that comes before anyone waits would otherwise leave the run going, and paying.
            self.cancel()
            raise

    def attach(self, display: Display) -> None:
        """Show the run in one more display, from any thread but the loop's: live while it goes, and what came of it."""
        self.displays.attach(display, self, self._engine)

    def _open_displays(self) -> None:
        if self.displays.all:
            self.displays.open(self)

    # From here on, on the engine's loop.

    def _register(self) -> None:
        """Let the engine hold the run while it goes, and what it executes call back to it."""
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
        finally:  # whatever can be shown, what waits is woken
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
            with suppress(RuntimeError):  # the loop ends, and the exit of the process writes what is left
                self._loop.loop.call_later(_UNTAKEN_S, _record_untaken, weakref.ref(self))

    def _conclude(self) -> Any:
        """Return the result of a run that has ended, or raise what ended it."""
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
        """Warn the caller of rows that have no answer or are not saved, and of what else the run has to say."""
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
        """Await what `wait` blocks for, on the caller's own loop, passing cancellation on."""
        await self._end.until_given()

    async def until_ended(self) -> None:
        """Await the end on the caller's own loop, passing cancellation on; the result is not looked at."""
        await self._end.until_ended()


def _record_untaken(run: weakref.ref[LiveRun]) -> None:
    """Record a run whose result has not been taken: the process may be killed before it is."""
    live = run()
    if live is not None and live.recorder is not None and live.done() and not live.is_taken:
        live.recorder.finish(live, may_wait=False)
