"""Runs of the lab that share one ceiling, one display and one stop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pllm_notebook.exceptions import BudgetError, ProviderRejectedError, RunInterrupted, interrupted, show_in_one_line
from pllm_notebook.execution import LiveRun, RunBudget, RunWait, Steps, WindowProgress, forget
from pllm_notebook.frames.accessor import submit_piece
from pllm_notebook.frames.labels import plain_values
from pllm_notebook.frames.libraries import accessor_of, table_of

__all__ = ["Asked", "SharedRuns", "answers_in"]

_TICK_S = 0.2
# These override the configuration: a failed row is a result here, and nothing is paid for twice.
_ALWAYS = {"progress": False, "mode": "async", "errors": "coerce", "cache": "use"}


class Asked(NamedTuple):
    """The question of one run.

    Attributes:
        frame: The rows.
        response_format: As for `parse`. None for text.
        prompt: As for `parse`.
        options: Options of `parse`, without ceiling and display.
    """

    frame: Any
    response_format: Any
    prompt: str | None
    options: Mapping[str, Any]


class SharedRuns:
    """Start runs and wait for them, within one ceiling and in one display.

    Args:
        max_cost_usd: The ceiling of all runs together. None for none.
        shown: Whether to show a display.
        label: The display's label.

    Attributes:
        budget: The shared budget.
        cost_usd: US dollars paid by the runs that have ended. None for an unknown price. Shared calls count once.
        simulated: Whether a run that has ended was answered by a simulator.
    """

    def __init__(self, max_cost_usd: float | None, shown: bool, label: str) -> None:
        self.budget = RunBudget(max_cost_usd)
        self.cost_usd: float | None = 0.0
        self.simulated = False
        self._label = label
        self._whole = f"{label} {secrets.token_hex(4)}"
        self._progress = WindowProgress(shown, label)
        self._going: list[LiveRun] = []
        self._is_stopped = False

    def ask(self, questions: Sequence[Asked]) -> Steps[list[LiveRun]]:
        """Start all runs at once, wait until each has ended, and return them in order.

        A run that the provider refused, or that the ceiling stopped, is returned unfinished.

        Raises:
            KeyboardInterrupt: After an interrupt. After a cancellation, CancelledError. Answers so far are kept.
            RunInterrupted: If the display's button or the run's `cancel` stopped it.
            PllmError: For any other error that ended a run.
        """
        try:
            runs = [self._start(one) for one in questions]
            while going := [run for run in self._going if not run.done()]:
                yield RunWait(going[0], _TICK_S)
                self._progress.update(self._going)
                if any(_is_over(run) for run in self._going):  # the others would be paid for without use
                    self.stop()
            for run in runs:
                self._end(run)
            error = next((run.execution.error for run in runs if _is_over(run) and run.execution.error), None)
            if error is not None:
                raise error
            if self._is_stopped:
                kept, total = sum(run.execution.kept for run in runs), sum(run.rows.total for run in runs)
                raise RunInterrupted(f"{self._label.capitalize()} was stopped.", kept=kept, total=total)
        except BaseException as error:
            self.stop()
            self._progress.close(self._going, "cancelled")
            # The error's own message names only one of the runs.
            line = f"{self._label.capitalize()} was stopped. Answers so far are kept: run the cell again to continue."
            if isinstance(error, KeyboardInterrupt):
                raise interrupted(line) from None
            if isinstance(error, asyncio.CancelledError):
                cancelled = asyncio.CancelledError()
                show_in_one_line(cancelled, line)
                raise cancelled from None
            raise
        return runs

    def close(self) -> None:
        """Show the final state."""
        self._progress.close([], "done")

    def stop(self) -> None:
        """Cancel the current runs. Callable from any thread."""
        self._is_stopped = True
        for run in list(self._going):
            run.cancel()

    def _start(self, asked: Asked) -> LiveRun:
        ceiling = {} if self.budget.ceiling_usd is None else {"max_cost_usd": self.budget.ceiling_usd}
        given = {**asked.options, **ceiling, **_ALWAYS}
        run = submit_piece(
            accessor_of(asked.frame),
            asked.response_format,
            asked.prompt,
            given,
            self.budget,
            part_of=self._label,
            whole=self._whole,
        )
        self._going.append(run)
        self._progress.open(self, run)
        return run

    def _end(self, run: LiveRun) -> None:
        self._going.remove(run)
        counts = run.progress()
        self._progress.add(counts)
        self.simulated = self.simulated or counts.simulated
        forget(run)
        if not counts.done and not counts.failed:  # a run that sent nothing gets no registry entry
            run.recorder = None
        paid = run.execution.queues.spent.own_usd
        self.cost_usd = None if self.cost_usd is None or paid is None else self.cost_usd + paid


def answers_in(run: LiveRun, column: str) -> list[Any]:
    """Return a result column's values, comparable with labels. Rows without an answer have an arbitrary value."""
    made = table_of(run.to_frame())
    assert made is not None
    return plain_values(made.column_data([column]).values[0])


def _is_over(run: LiveRun) -> bool:
    """Return whether a run was stopped, or ended for a reason that ends the others too, such as a missing key."""
    error = run.execution.error
    return run.state == "cancelled" or not (error is None or isinstance(error, BudgetError | ProviderRejectedError))
