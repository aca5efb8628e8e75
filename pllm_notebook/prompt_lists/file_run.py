"""One request file on its way: its windows, its results, its display, its end."""

from __future__ import annotations

import logging
import threading
import time
from typing import Literal

from pllm_notebook.callers import Caller, caller
from pllm_notebook.engine import engine
from pllm_notebook.exceptions import RunInterrupted, interrupted
from pllm_notebook.prompt_lists.file_status import FileStatus
from pllm_notebook.prompt_lists.groups import Group
from pllm_notebook.prompt_lists.index import Index
from pllm_notebook.prompt_lists.landing import Landing, offsets_of
from pllm_notebook.prompt_lists.results_file import ResultsFile
from pllm_notebook.prompt_lists.sums import Sums
from pllm_notebook.prompt_lists.waves import in_waves
from pllm_notebook.prompt_lists.windows import Feeder, WindowMaker
from pllm_notebook.protocols import Store
from pllm_notebook.records import Failure, FailureKind, Progress
from pllm_notebook.run import Pace, Run
from pllm_notebook.settings import current
from pllm_notebook.sinks import Display, sink_for
from pllm_notebook.wording import counted

__all__ = ["FileRun"]

logger = logging.getLogger("pllm_notebook")

_LOOK_S = 0.05


class FileRun:
    """Process one request file, in a thread of its own. Made by `file_opening.file_run`.

    Args:
        index: The requests.
        file: Where results go.
        store: Where responses are kept.
        maker: Makes the windows.
        label: A few words for the display.
        budget_usd: The ceiling, None for none.
        progress: Whether it is shown.
    """

    def __init__(
        self,
        index: Index,
        file: ResultsFile,
        store: Store,
        maker: WindowMaker,
        label: str,
        budget_usd: float | None,
        *,
        progress: bool,
    ) -> None:
        self._index = index
        self._file = file
        self._label = label
        self._budget_usd = budget_usd
        self._loop = engine(current().loop).loop
        lanes: dict[tuple[str, str, str], list[Group]] = {}
        for group in index.groups:
            lanes.setdefault(group.target.lane, []).append(group)
        self._feeders = [Feeder(in_waves(groups, index.line), maker, index.size) for groups in lanes.values()]
        self._model = ", ".join(dict.fromkeys(feeder.target.label for feeder in self._feeders)) or "nobody"
        self._simulated = any(feeder.target.simulated for feeder in self._feeders)
        self._landing = Landing(index, file, store, self._wake)
        self._faulty = 0  # of the lines that cannot be sent, those that were handed over to be written
        self._sums = Sums()
        self._pace = Pace(time.monotonic())
        self._state: Literal["running", "done", "cancelled", "failed"] = "running"
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._woken = threading.Event()
        self._ended = threading.Event()
        self._display = Display(sink_for(progress and len(index) > 0))
        self._thread = threading.Thread(target=self._main, name="pllm-file", daemon=True)

    def begin(self) -> None:
        """Show it, and begin. On the caller's thread: a kernel puts output into the cell that is running there."""
        try:
            self._display.open(self._progress(), self.cancel)
        finally:
            self._landing.begin()
            self._thread.start()

    def abandon(self) -> None:
        """Close what was opened, in place of beginning."""
        self._file.close()
        self._index.close()

    @property
    def done(self) -> bool:
        """Whether it has ended, however it did."""
        return self._ended.is_set()

    def cancel(self) -> None:
        """Stop: admit nothing more, cancel what is on the wire, keep everything finished. From any thread."""
        self._stop.set()
        self._woken.set()

    def wait(self) -> None:
        """Block until it has ended. An interrupt cancels it and raises KeyboardInterrupt."""
        try:
            self._loop.wait(self._ended, self.cancel)
        except KeyboardInterrupt:
            raise interrupted(f"Stopped. {self.status()}. Run it again to continue.") from None

    def result(self, called_by: Caller | None = None) -> FileStatus:
        """Return how it ended, or raise what ended it; a warning, at that or this line, counts lines not sent."""
        status = self.status()
        if self._error is not None:
            raise self._error
        if self._state == "cancelled":
            kept = status.done_before + status.succeeded + status.failed
            raise RunInterrupted("The request file was stopped.", kept=kept, total=status.total)
        if status.put_off:
            why = "max_cost_usd reached" if self._budget_usd is not None else "cache='only' sends nothing"
            line = called_by or caller()
            line.warn(f"{counted(status.put_off, 'line', 'was')} not sent: {why}. Run again to continue.")
        return status

    def status(self) -> FileStatus:
        """Return the counts of this moment."""
        tally, index = self._landing.tally, self._index
        begun = sum(feeder.begun for feeder in self._feeders) + self._faulty
        ended = tally.succeeded + tally.failed + tally.put_off
        over = self.done
        left = len(index) - index.done - tally.succeeded - tally.failed
        sums = self._sums.with_all(self._runs())
        return FileStatus(
            save_filepath=self._file.path,
            total=len(index),
            done_before=index.done,
            started=begun,
            in_progress=0 if over else max(begun - ended, 0),
            succeeded=tally.succeeded,
            failed=tally.failed,
            rate_limit_errors=tally.rate_limit_errors,
            api_errors=tally.api_errors,
            other_errors=tally.other_errors,
            put_off=left if over else tally.put_off,
            cached=sums.cached,
            cost_usd=sums.cost_usd,
        )

    # In its own thread.

    def _main(self) -> None:
        try:
            self._feed_all()
            if self._state == "running":
                self._state = "cancelled" if self._stop.is_set() else "done"
        except BaseException as error:
            self._fail(error)
        finally:
            self._end()

    def _feed_all(self) -> None:
        stopping = False
        while True:
            self._woken.clear()
            if not stopping and (self._stop.is_set() or self._error is not None or self._landing.error is not None):
                stopping = True
                self._halt()
            if not stopping:
                self._write_faulty()
                for feeder in self._feeders:
                    feeder.feed(self._landing.heard, self._landing.failed)
            for feeder in self._feeders:
                for run in feeder.ended():
                    self._sums = self._sums.with_all([run])
                    if run.course.error is not None:
                        self._fail(run.course.error)
            if all(feeder.over for feeder in self._feeders) and (stopping or self._faulty == len(self._index.faulty)):
                return
            if not self._loop.alive:
                raise self._loop.ended()
            self._show()
            self._woken.wait(_LOOK_S)

    def _halt(self) -> None:
        for feeder in self._feeders:
            feeder.stopped = True
            for window in feeder.windows:
                if window.run is not None and self._loop.alive:
                    window.run.cancel()

    def _fail(self, error: BaseException) -> None:
        self._state = "failed"
        if self._error is None:
            self._error = error

    def _end(self) -> None:
        try:
            self._halt()
            self._landing.end()
            if self._landing.error is not None:
                self._fail(self._landing.error)
            offsets = offsets_of(self._index)
            if self._state == "done" and len(offsets) == len(self._index):
                self._file.put_in_order(offsets)
        except BaseException as error:
            self._fail(error)
        finally:
            self._file.close()
            self._index.close()
            self._pace.finish(time.monotonic())
            self._ended.set()
            self._display.close(self._progress(), None)
            logger.info("%s", self.status())

    def _write_faulty(self) -> None:
        while self._faulty < len(self._index.faulty):
            row = self._index.faulty[self._faulty]
            if not self._landing.failed([row], Failure(FailureKind.INPUT, self._index.fault(row))):
                return
            self._faulty += 1

    def _wake(self) -> None:
        self._woken.set()

    def _runs(self) -> list[Run]:
        return [window.run for feeder in self._feeders for window in list(feeder.windows) if window.run is not None]

    # What is shown.

    def _show(self) -> None:
        progress = self._progress()
        self._pace.sample(time.monotonic())
        self._display.update(progress)

    def _progress(self) -> Progress:
        sums = self._sums.with_all(self._runs())
        pace, now = self._pace, time.monotonic()
        pace.done, pace.cached = sums.done, sums.cached + self._index.done
        pace.failed = self._landing.tally.failed
        total = len(self._index)
        return Progress(
            label=self._label,
            model=self._model,
            simulated=self._simulated,
            total=total,
            done=pace.done,
            cached=pace.cached,
            failed=pace.failed,
            skipped=0,
            in_flight=sums.in_flight,
            elapsed_s=pace.elapsed_s(now),
            rows_per_s=pace.rows_per_s,
            eta_s=pace.eta_s(total) if self._state == "running" else None,
            input_tokens=sums.input_tokens,
            output_tokens=sums.output_tokens,
            cached_tokens=sums.cached_tokens,
            cost_usd=sums.cost_usd,
            budget_usd=self._budget_usd,
            note=sums.note,
            state=self._state,
        )
