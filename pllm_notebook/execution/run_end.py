"""The end of a run: the ways of waiting for it, and what the caller is warned of."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from pllm_notebook.callers import caller_stack_level
from pllm_notebook.engine import EndEvent, await_end, block_until
from pllm_notebook.exceptions import RunInterrupted
from pllm_notebook.execution.execute import Execution
from pllm_notebook.execution.run_displays import RunDisplays
from pllm_notebook.execution.run_summary import closing_lines
from pllm_notebook.types import Progress

__all__ = ["RunEnd"]


class RunEnd:
    """The end of one run, which comes again after each retry.

    It holds what conducts the run and never its handle, which must not be in a circle (see `Run`).

    Args:
        run_id: For messages.
        execution: What conducts the run.
        total: Its rows.

    Attributes:
        ended: Set while the run has ended.
        handed: Set while everything is with the provider; a batch that is not waited for gives its rows then.
    """

    def __init__(self, run_id: str, execution: Execution, total: int) -> None:
        self.ended, self.handed = EndEvent(), EndEvent()
        self._run_id = run_id
        self._execution = execution
        self._total = total
        self._loop = execution.services.engine.loop
        options = execution.specs[0].options
        self._is_batch = options.mode == "batch"
        self._given = self.handed if self._is_batch and options.wait is False else self.ended

    def clear(self) -> None:
        """Note that the run goes on."""
        self.ended.clear()
        self.handed.clear()

    def cancel(self) -> None:
        """Stop the run. From any thread; returns at once."""
        self._loop.call(self._execution.stop, "cancelled", None)

    def block(self, timeout_s: float | None) -> None:
        """Block until the result can be had, for *timeout_s* at most; an interrupt cancels the run."""
        if not self._given.is_set():
            block_until(self._given, self.cancel, loop=self._loop, message=self._stopped, timeout_s=timeout_s)

    async def until_given(self) -> None:
        """Await what `block` blocks for, on the caller's own loop, passing cancellation on."""
        await await_end(self._given, self.cancel, loop=self._loop, message=self._stopped)

    async def until_ended(self) -> None:
        """Await the end on the caller's own loop, passing cancellation on."""
        await await_end(self.ended, self.cancel, loop=self._loop, message=self._stopped)

    def error(self) -> BaseException | None:
        """Return what ended the run before its last row, None for nothing."""
        execution = self._execution
        return execution.error or (self._interruption() if execution.state == "cancelled" else None)

    def warn(self, progress: Callable[[], Progress], displays: RunDisplays) -> None:
        """Warn the caller of rows that have no answer or are not saved, and of what else the run has to say.

        Args:
            progress: Returns the counts of the run.
            displays: Of the run; where a person still sees one, it says most of it.
        """
        execution, news = self._execution, list[str]()
        counts, unsaved = execution.counts, execution.results.unsaved
        if counts.failed or counts.not_sent or unsaved:
            # In a notebook the last line of the display says it, in the same cell.
            news = closing_lines(progress(), counts.failed, unsaved, display_stays=displays.stays)
        for line in (*news, *execution.warnings):
            warnings.warn(line, stacklevel=caller_stack_level())

    def _interruption(self) -> RunInterrupted:
        return RunInterrupted("Stopped.", kept=self._execution.kept, total=self._total, run=self._run_id)

    def _stopped(self) -> str:
        return f"{self._interruption()}{' Batch jobs keep running.' if self._is_batch else ''}"
