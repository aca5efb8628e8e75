"""The end of a run, and the ways of waiting for it."""

from __future__ import annotations

from pllm_notebook.engine import EndEvent, await_end, block_until
from pllm_notebook.exceptions import RunInterrupted
from pllm_notebook.execution.execute import Execution

__all__ = ["RunEnd"]


class RunEnd:
    """The end of one run, which is reached again after each retry.

    It refers to the execution and never to the `LiveRun`, which must not be part of a reference cycle.

    Args:
        run_id: The run's id, for messages.
        execution: The run's execution.
        total: Number of rows.

    Attributes:
        ended: Set while the run has ended.
        handed: Set while everything is submitted to the provider; a batch with `wait=False` returns its rows then.
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
        """Note that the run continues."""
        self.ended.clear()
        self.handed.clear()

    def cancel(self) -> None:
        """Stop the run. Callable from any thread; returns at once."""
        self._loop.call(self._execution.stop, "cancelled", None)

    def block(self, timeout_s: float | None) -> None:
        """Block until the result is available, for at most *timeout_s*. An interrupt cancels the run."""
        if not self._given.is_set():
            block_until(self._given, self.cancel, loop=self._loop, message=self._stopped, timeout_s=timeout_s)

    async def until_given(self) -> None:
        """Await on the caller's own loop what `block` blocks for. A cancellation is passed on to the run."""
        await await_end(self._given, self.cancel, loop=self._loop, message=self._stopped)

    async def until_ended(self) -> None:
        """Await the end on the caller's own loop. A cancellation is passed on to the run."""
        await await_end(self.ended, self.cancel, loop=self._loop, message=self._stopped)

    def interruption(self) -> RunInterrupted:
        """Return the error for a run that was stopped."""
        return RunInterrupted("Stopped.", kept=self._execution.kept, total=self._total, run=self._run_id)

    def _stopped(self) -> str:
        return f"{self.interruption()}{' Batch jobs keep running.' if self._is_batch else ''}"
