"""The run of one request file: its chunks, results, display and end."""

from __future__ import annotations

import logging
import threading
import time
from typing import Literal

from pllm_notebook.callers import Caller, caller
from pllm_notebook.display_registry import SafeDisplay, new_display
from pllm_notebook.engine import EndEvent, await_end, block_until, engine
from pllm_notebook.exceptions import RunInterrupted
from pllm_notebook.execution import LiveRun, RunProgress
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.formatting import counted
from pllm_notebook.protocols import Store
from pllm_notebook.request_files.chunks import ChunkMaker, ChunkScheduler
from pllm_notebook.request_files.file_status import FileStatus
from pllm_notebook.request_files.output_limit_waves import split_into_waves
from pllm_notebook.request_files.request_index import LineGroup, RequestIndex
from pllm_notebook.request_files.result_writer import ResultWriter, offsets_of
from pllm_notebook.request_files.results_file import ResultsFile
from pllm_notebook.request_files.totals import RunTotals
from pllm_notebook.settings import current
from pllm_notebook.types import Progress

__all__ = ["FileRun"]

logger = logging.getLogger("pllm_notebook")

_POLL_S = 0.05


class FileRun:
    """Process one request file, in a thread of its own. Made by `open_file_run.open_run`."""

    def __init__(
        self, index: RequestIndex, file: ResultsFile, store: Store, maker: ChunkMaker, *, progress: bool
    ) -> None:
        self._index = index
        self._file = file
        self._label = maker.label
        self._budget_usd = maker.max_cost_usd
        self._loop = engine(current().loop).loop
        by_dispatcher: dict[tuple[str, str, str], list[LineGroup]] = {}
        for group in index.groups:
            by_dispatcher.setdefault(group.target.dispatcher_key, []).append(group)
        self._schedulers = [
            ChunkScheduler(split_into_waves(groups, index.line), maker, index.size) for groups in by_dispatcher.values()
        ]
        self._model = ", ".join(dict.fromkeys(scheduler.target.label for scheduler in self._schedulers)) or "no model"
        self._simulated = any(scheduler.target.simulated for scheduler in self._schedulers)
        self._writer = ResultWriter(index, file, store, self._wake)
        self._invalid_written = 0  # number of invalid lines that were passed to the writer
        self._totals = RunTotals()
        self._pace = RunProgress(time.monotonic())
        self._state: Literal["running", "done", "cancelled", "failed"] = "running"
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._woken = threading.Event()
        self._ended = EndEvent()
        self._display = SafeDisplay(new_display() if progress and len(index) else None)
        self._thread = threading.Thread(target=self._main, name="pllm-file", daemon=True)

    def begin(self) -> None:
        """Open the display and start. On the caller's thread, so that a kernel shows output in the running cell."""
        try:
            self._display.open(self._progress(), self.cancel)
        finally:
            self._writer.begin()
            self._thread.start()

    def abandon(self) -> None:
        """Close the files without starting."""
        self._file.close()
        self._index.close()

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._ended.is_set()

    def cancel(self) -> None:
        """Send nothing more, cancel calls in flight, and keep every result. From any thread."""
        self._stop.set()
        self._woken.set()

    def wait(self) -> None:
        """Block until it has ended. An interrupt cancels it and raises KeyboardInterrupt."""
        block_until(
            self._ended,
            self.cancel,
            loop=self._loop,
            message=self._stopped,
        )

    async def until_ended(self) -> None:
        """Wait for its end on the caller's own loop. Cancelling the task cancels it, and keeps every result."""
        await await_end(self._ended, self.cancel, message=self._stopped)

    def _stopped(self) -> str:
        return f"Stopped. {self.status()}. Run it again to continue."

    def result(self, called_by: Caller | None = None) -> FileStatus:
        """Return the final status, or raise the error that ended it; warn of lines that were not sent."""
        status = self.status()
        if self._error is not None:
            raise self._error
        if self._state == "cancelled":
            kept = status.done_before + status.succeeded + status.failed
            raise RunInterrupted("The request file was stopped.", kept=kept, total=status.total)
        if status.not_sent:
            why = "max_cost_usd reached" if self._budget_usd is not None else "cache='only' sends nothing"
            line = called_by or caller()
            line.warn(f"{counted(status.not_sent, 'line', 'was')} not sent: {why}. Run again to continue.")
        return status

    def status(self) -> FileStatus:
        """Return the current counts."""
        counts, index = self._writer.counts, self._index
        begun = sum(scheduler.begun for scheduler in self._schedulers) + self._invalid_written
        ended = counts.succeeded + counts.failed + counts.not_sent
        over = self.done
        left = len(index) - index.done - counts.succeeded - counts.failed
        totals = self._totals.including(self._runs())
        return FileStatus(
            save_filepath=self._file.path,
            total=len(index),
            done_before=index.done,
            started=begun,
            in_progress=0 if over else max(begun - ended, 0),
            succeeded=counts.succeeded,
            failed=counts.failed,
            rate_limit_errors=counts.rate_limit_errors,
            api_errors=counts.api_errors,
            other_errors=counts.other_errors,
            not_sent=left if over else counts.not_sent,
            cached=totals.cached,
            cost_usd=totals.cost_usd,
        )

    # In its own thread.

    def _main(self) -> None:
        try:
            self._run_all()
            if self._state == "running":
                self._state = "cancelled" if self._stop.is_set() else "done"
        except BaseException as error:
            self._fail(error)
        finally:
            self._end()

    def _run_all(self) -> None:
        stopping = False
        while True:
            self._woken.clear()
            if not stopping and (self._stop.is_set() or self._error is not None or self._writer.error is not None):
                stopping = True
                self._halt()
            if not stopping:
                self._write_invalid()
                for scheduler in self._schedulers:
                    scheduler.start_next(self._writer.on_done, self._writer.failed)
            for scheduler in self._schedulers:
                for run in scheduler.ended():
                    self._totals = self._totals.including([run])
                    if run.execution.error is not None:
                        self._fail(run.execution.error)
            if all(scheduler.over for scheduler in self._schedulers) and (
                stopping or self._invalid_written == len(self._index.invalid_lines)
            ):
                return
            if not self._loop.alive:
                raise self._loop.ended()
            self._show()
            self._woken.wait(_POLL_S)

    def _halt(self) -> None:
        for scheduler in self._schedulers:
            scheduler.stopped = True
            for chunk in scheduler.chunks:
                if chunk.run is not None and self._loop.alive:
                    chunk.run.cancel()

    def _fail(self, error: BaseException) -> None:
        self._state = "failed"
        if self._error is None:
            self._error = error

    def _end(self) -> None:
        try:
            self._halt()
            self._writer.end()
            if self._writer.error is not None:
                self._fail(self._writer.error)
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

    def _write_invalid(self) -> None:
        while self._invalid_written < len(self._index.invalid_lines):
            row = self._index.invalid_lines[self._invalid_written]
            if not self._writer.failed([row], Failure(FailureKind.INPUT, self._index.fault(row))):
                return
            self._invalid_written += 1

    def _wake(self) -> None:
        self._woken.set()

    def _runs(self) -> list[LiveRun]:
        return [
            chunk.run for scheduler in self._schedulers for chunk in list(scheduler.chunks) if chunk.run is not None
        ]

    # Display.

    def _show(self) -> None:
        progress = self._progress()
        self._pace.sample(time.monotonic())
        self._display.update(progress)

    def _progress(self) -> Progress:
        totals = self._totals.including(self._runs())
        throughput, now = self._pace, time.monotonic()
        throughput.done, throughput.cached = totals.done, totals.cached + self._index.done
        throughput.failed = self._writer.counts.failed
        total = len(self._index)
        return Progress(
            label=self._label,
            model=self._model,
            simulated=self._simulated,
            total=total,
            done=throughput.done,
            cached=throughput.cached,
            failed=throughput.failed,
            skipped=0,
            in_flight=totals.in_flight,
            elapsed_s=throughput.elapsed_s(now),
            rows_per_s=throughput.rows_per_s,
            eta_s=throughput.eta_s(total) if self._state == "running" else None,
            input_tokens=totals.input_tokens,
            output_tokens=totals.output_tokens,
            cached_tokens=totals.cached_tokens,
            cost_usd=totals.cost_usd,
            budget_usd=self._budget_usd,
            note=totals.note,
            state=self._state,
        )
