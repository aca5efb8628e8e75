"""The fallback for an engine that cannot run: the unanswered prompts of a list, one at a time, on a second engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pllm_notebook.callers import Caller
from pllm_notebook.engine import Engine
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import LiveRun, RunBudget
from pllm_notebook.prompt_lists.llm_output import LLMOutput
from pllm_notebook.prompt_lists.prompt_rows import PromptRows

__all__ = ["SequentialRun", "is_engine_failure"]


def is_engine_failure(error: Exception, run: LiveRun | None) -> bool:
    """Return whether a list failed for a reason that is neither its caller's nor a provider's.

    Args:
        error: The exception that ended it.
        run: Its run, None if it could not be started.
    """
    return not isinstance(error, PllmError) or (run is not None and (run.execution.broken or not run.alive))


class SequentialRun:
    """A run over the prompts that a broken run has left unanswered, on an engine of its own.

    Args:
        outputs: The outputs of the whole list, as far as the broken run came; completed in place.
        places: The places of the unanswered prompts in the list.
        rows: These prompts; their options set `concurrency=1`.
        paid_usd: What the broken run has paid, which counts against max_cost_usd.
    """

    def __init__(self, outputs: list[LLMOutput], places: Sequence[int], rows: PromptRows, paid_usd: float) -> None:
        self._outputs = outputs
        self._places = places
        self._rows = rows
        self._engine = Engine("private")
        self._run: LiveRun | None = None
        self._budget = RunBudget(rows.parts[0].ask.options.max_cost_usd if rows.parts else None)
        self._budget.paid_usd = paid_usd

    def wait(self, called_by: Caller) -> list[LLMOutput]:
        """Start it, block until it has ended, and return the outputs of the whole list.

        Raises:
            KeyboardInterrupt: After an interrupt, which cancels it.
        """
        try:
            self._start()
            if self._run is not None:
                self._run.wait()
            return self._complete(called_by)
        finally:
            self._engine.close()

    async def until_ended(self, called_by: Caller) -> list[LLMOutput]:
        """Start it, await its end, and return the outputs of the whole list. Cancelling the task cancels it."""
        try:
            self._start()
            if self._run is not None:
                await self._run.until_given()
            return self._complete(called_by)
        finally:
            await asyncio.to_thread(self._engine.close)

    def _start(self) -> None:
        self._run = self._rows.start(engine=self._engine, run_budget=self._budget)

    def _complete(self, called_by: Caller) -> list[LLMOutput]:
        for place, output in zip(self._places, self._rows.result(self._run, called_by), strict=True):
            self._outputs[place] = output
        return self._outputs
