"""The run of one request file: its models' windows of chunks, its results, display and end."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from pllm_notebook.callers import Caller, caller
from pllm_notebook.display_registry import SafeDisplay, new_display
from pllm_notebook.engine import EndEvent, await_end, block_until, engine
from pllm_notebook.exceptions import RunInterrupted
from pllm_notebook.execution import RunProgress, RunSum
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.formatting import counted
from pllm_notebook.protocols import Store
from pllm_notebook.request_files.chunks import ChunkMaker
from pllm_notebook.request_files.file_status import FileStatus
from pllm_notebook.request_files.model_lines import ModelLines
from pllm_notebook.request_files.output_limit_waves import split_into_waves
from pllm_notebook.request_files.request_index import LineGroup, RequestIndex
from pllm_notebook.request_files.result_writer import ResultWriter, offsets_of
from pllm_notebook.request_files.results_file import ResultsFile
from pllm_notebook.settings import current
from pllm_notebook.types import Progress

__all__ = ["FileRun"]

logger = logging.getLogger("pllm_notebook")

_POLL_S = 0.05


class FileRun:
    """The processing of one request file in a separate thread. Created by `open_file_run.open_run`."""

    def __init__(
        self, index: RequestIndex, file: ResultsFile, store: Store, maker: ChunkMaker, *, progress: bool
    ) -> None:
        self._index = index
        self._file = file
        self._label = maker.label
        self._budget_usd = maker.max_cost_usd
        self._loop = engine(current().loop).loop
        self._writer = ResultWriter(index, file, store, self._wake)
        by_dispatcher: dict[tuple[str, str, str], list[LineGroup]] = {}
        for group in index.groups:
            by_dispatcher.setdefault(group.target.dispatcher_key, []).append(group)
        start = partial(maker.start, on_done=self._writer.on_done)
        self._models = [
            ModelLines(split_into_waves(groups, index.line), start, index.size) for groups in by_dispatcher.values()
        ]
        self._model = ", ".join(dict.fromkeys(model.target.label for model in self._models)) or "no model"
        # Lines that fail without being sent, as long as the writer has not taken them.
        self._unsent: deque[Iterator[tuple[Sequence[int], Failure]]] = deque([self._invalid_lines()])
        self._unsent_taken = 0
        self._sum = RunSum()
        self._sum.add(self._nothing_yet())
        self._pace = RunProgress(time.monotonic())
        self._state: Literal["running", "done", "cancelled", "failed"] = "running"
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._woken = threading.Event()
        self._ended = EndEvent()
        self._display = SafeDisplay(new_display() if progress and len(index) else None)
        self._thread = threading.Thread(target=self._main, name="pllm-file", daemon=True)

    def begin(self) -> None:
        """Open the display and start. Called on the caller's thread, so that output appears in the running cell."""
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
        """Whether the run has ended."""
        return self._ended.is_set()

    def cancel(self) -> None:
        """Send nothing more, cancel calls in flight, and keep every result. Callable from any thread."""
        self._stop.set()
        self._woken.set()

    def wait(self) -> None:
        """Block until the run has ended. An interrupt cancels it and raises KeyboardInterrupt."""
        block_until(
            self._ended,
            self.cancel,
            loop=self._loop,
            message=self._stopped,
        )

    async def until_ended(self) -> None:
        """Wait for the end on the caller's event loop. Cancelling the task cancels the run and keeps every result."""
        await await_end(self._ended, self.cancel, message=self._stopped)

    def _stopped(self) -> str:
        return f"Stopped. {self.status()}. Run it again to continue."

    def result(self, called_by: Caller | None = None) -> FileStatus:
        """Return the final status, or raise the error that ended the run. Warn about lines that were not sent."""
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
        begun = sum(model.begun for model in self._models) + self._unsent_taken
        ended = counts.succeeded + counts.failed + counts.not_sent
        over = self.done
        left = len(index) - index.done - counts.succeeded - counts.failed
        whole = self._counts()
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
            cached=whole.cached,
            cost_usd=whole.cost_usd,
            failed_before=index.failed_before,
        )

    # In the run's thread.

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
                self._pass_unsent()
                for model in self._models:
                    model.fill()
            for model in self._models:
                self._take_over(model)
            if all(model.is_over for model in self._models) and (stopping or not self._unsent):
                break
            if not self._loop.alive:
                raise self._loop.ended()
            self._show()
            self._woken.wait(_POLL_S)
        for error in filter(None, (model.error for model in self._models)):
            self._fail(error)

    def _take_over(self, model: ModelLines) -> None:
        """Count the chunks that are over, and queue the rest of a model that refuses every line as failed."""
        was_refused = model.refusal is not None
        for run in model.take_over():
            self._sum.add(run.progress())
            if run.execution.error is not None:
                self._fail(run.execution.error)
        if (refusal := model.refusal) is not None and not was_refused:
            self._unsent.append((rows, refusal) for rows in model.take_rest())

    def _halt(self) -> None:
        for model in self._models:
            model.stop()

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

    def _invalid_lines(self) -> Iterator[tuple[Sequence[int], Failure]]:
        for row in self._index.invalid_lines:
            yield [row], Failure(FailureKind.INPUT, self._index.fault(row))

    def _pass_unsent(self) -> None:
        """Pass lines that fail without being sent to the writer, as fast as it writes."""
        while self._unsent and not self._writer.is_behind:
            lines = next(self._unsent[0], None)
            if lines is None:
                self._unsent.popleft()
            else:
                self._writer.fail(*lines)
                self._unsent_taken += len(lines[0])

    def _wake(self) -> None:
        self._woken.set()

    def _counts(self) -> Progress:
        """Return the counts of all chunks."""
        whole = self._sum.including(run for model in self._models for run in model.runs)
        assert whole is not None
        return whole

    # Display.

    def _show(self) -> None:
        progress = self._progress()
        self._pace.sample(time.monotonic())
        self._display.update(progress)

    def _nothing_yet(self) -> Progress:
        return Progress(
            label=self._label,
            model=self._model,
            simulated=any(model.target.simulated for model in self._models),
            total=0,
            done=0,
            cached=0,
            failed=0,
            skipped=0,
            in_flight=0,
            elapsed_s=0.0,
            rows_per_s=0.0,
            eta_s=None,
            input_tokens=0,
            output_tokens=0,
            cost_usd=0.0,
            budget_usd=self._budget_usd,
            note="",
            state="running",
            unit="line",
        )

    def _progress(self) -> Progress:
        whole, pace, now = self._counts(), self._pace, time.monotonic()
        index = self._index
        total = len(index)
        pace.done, pace.cached = whole.done, whole.cached + index.done - index.failed_before
        pace.failed = self._writer.counts.failed + index.failed_before
        return replace(
            whole,
            label=self._label,
            model=self._model,
            total=total,
            cached=pace.cached,
            failed=pace.failed,
            elapsed_s=pace.elapsed_s(now),
            rows_per_s=pace.rows_per_s,
            eta_s=pace.eta_s(total) if self._state == "running" else None,
            budget_usd=self._budget_usd,
            state=self._state,
        )
