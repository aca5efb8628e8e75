"""Many prompts at once, whatever providers, models and configurations they are for."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Literal, Unpack

from pllm_notebook.callers import Caller, caller
from pllm_notebook.engine import UserRateLimit
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import Run, options_for
from pllm_notebook.execution.launch import store_for
from pllm_notebook.option_fields import check, taken_by
from pllm_notebook.option_types import PromptListOptions
from pllm_notebook.options import Options
from pllm_notebook.prompt_lists.build import as_prompt_list, prepare_prompts
from pllm_notebook.prompt_lists.llm_config import RequestLimits
from pllm_notebook.prompt_lists.llm_output import LLMOutput
from pllm_notebook.prompt_lists.prompt_context import LLMPromptContext
from pllm_notebook.prompt_lists.prompt_rows import PromptRows
from pllm_notebook.prompt_lists.sequential import SequentialRun, is_engine_failure
from pllm_notebook.signatures import shows

__all__ = ["ParallelAIUtilities"]

logger = logging.getLogger("pllm_notebook")


@shows(taken_by(Options, "prompt_list"))
class ParallelAIUtilities:
    """Ask a list of prompts at once, and give an output for each, in the list's order.

        utilities = ParallelAIUtilities(oai_request_limits=RequestLimits(max_requests_per_minute=500))
        outputs = await utilities.run_parallel_ai_completion(prompts)

    All prompts of a list are one run: one budget, one progress display, one Stop. Each provider, account and model
    has its own pace, so that a slow one holds nobody up; without limits given, what the provider allows is found out.
    A prompt that fails has its failure as its output's `error`, and the others go on. What has been answered once,
    here or by `df.llm`, is in the cache and is not sent again.

    Args:
        oai_request_limits: Rates for the prompts whose `client` is "openai", or the `provider` that it names. They
            hold for all models together, and over all lists of these utilities.
        anthropic_request_limits: Likewise, for "anthropic".
        google_request_limits: Likewise, for "google".
        fallback: "sequential" to ask the prompts one after another, with the same answers, where the engine itself
            cannot run (its loop has ended, or a fault of this package broke it). None to raise that.
        local_cache: False keeps nothing on this machine, as `cache="off"`.
        **options: For all prompts, as for `df.llm.parse`; `max_cost_usd` is of each list.

    Raises:
        UsageError: For an unknown option, a value outside its range, or two limits of one provider.
    """

    def __init__(
        self,
        oai_request_limits: RequestLimits | None = None,
        anthropic_request_limits: RequestLimits | None = None,
        google_request_limits: RequestLimits | None = None,
        *,
        fallback: Literal["sequential"] | None = None,
        local_cache: bool = True,
        **options: Unpack[PromptListOptions],
    ) -> None:
        if not local_cache:
            options.setdefault("cache", "off")
        check(taken_by(Options, "prompt_list"), options)
        if fallback not in (None, "sequential"):
            raise UsageError(f"fallback is 'sequential' or None, not {fallback!r}. Nothing was sent.")
        options_for(options)
        self._options: dict[str, Any] = {**options}
        self._fallback = fallback
        self._ceilings: dict[str, UserRateLimit] = {}
        for default, limits in (
            ("openai", oai_request_limits),
            ("anthropic", anthropic_request_limits),
            ("google", google_request_limits),
        ):
            if limits is None:
                continue
            if not isinstance(limits, RequestLimits):
                raise UsageError(f"Limits are RequestLimits(…), not {type(limits).__name__}. Nothing was sent.")
            provider = (limits.provider or default).removeprefix("sim:")
            if provider in self._ceilings:
                raise UsageError(f"Two of the limits are for {provider!r}: give one. Nothing was sent.")
            self._ceilings[provider] = UserRateLimit(limits.max_requests_per_minute, limits.max_tokens_per_minute)

    def __repr__(self) -> str:
        limits = ", ".join(f"{provider}: {ceiling!r}" for provider, ceiling in self._ceilings.items())
        return f"<ParallelAIUtilities {limits or 'without limits of its own'}>"

    async def run_parallel_ai_completion(self, prompts: Iterable[LLMPromptContext]) -> list[LLMOutput]:
        """Return an output for each prompt, in order. Sends and pays, but for what is in the cache.

        Cancelling the task cancels what is on the wire; what has been answered is kept.

        Args:
            prompts: Any mix of providers, models and configurations. Two may have one `id`; equal ones are one call.

        Raises:
            UsageError: For options that cannot be carried out. Nothing was sent.
            NotConfirmedError: When the list would go as batch jobs, and nobody has said yes to its estimate; not with
                `confirm=False`. Nothing was sent.
            StoreError: When the cache cannot be opened. Nothing was sent.
            RunInterrupted: When the run was stopped, by a button or from elsewhere.
            RowError: At the first failure, with `errors="raise"` or `mode="sync"`.
        """
        called_by = caller()
        rows, run = self._rows(as_prompt_list(prompts)), None
        try:
            run = rows.start()
            if run is not None:
                await run.until_given()
            return _outputs_or_raise(rows, run, called_by)
        except Exception as error:
            sequence = self._sequence(rows, run, error)
        await sequence.until_ended()
        return rows.outputs(sequence.ledger, sequence.ask_of)

    async def run_parallel_ai_tool_completion(self, prompts: Iterable[LLMPromptContext]) -> list[LLMOutput]:
        """Return an output for each prompt, in order, its `tool_calls` read and validated.

        As `run_parallel_ai_completion`, for prompts that each offer tools (`tools`, or the format "tool" with a
        `structured_output`). Whether a tool must be called is `tool_choice=`, or the format "tool".

        Args:
            prompts: Each with tools.

        Raises:
            UsageError: Naming those that have none. Nothing was sent.
        """
        return await self.run_parallel_ai_completion(_with_tools(prompts))

    def run_parallel_ai_completion_sync(self, prompts: Iterable[LLMPromptContext]) -> list[LLMOutput]:
        """Return what `run_parallel_ai_completion` gives, without await: for a cell or script.

        An interrupt cancels the run and raises KeyboardInterrupt; what has been answered is kept.
        """
        called_by = caller()
        rows, run = self._rows(as_prompt_list(prompts)), None
        try:
            run = rows.start()
            if run is not None:
                run.wait()
            return _outputs_or_raise(rows, run, called_by)
        except Exception as error:
            sequence = self._sequence(rows, run, error)
        sequence.wait()
        return rows.outputs(sequence.ledger, sequence.ask_of)

    def run_parallel_ai_tool_completion_sync(self, prompts: Iterable[LLMPromptContext]) -> list[LLMOutput]:
        """Return what `run_parallel_ai_tool_completion` gives, without await."""
        return self.run_parallel_ai_completion_sync(_with_tools(prompts))

    def _rows(self, prompts: list[LLMPromptContext]) -> PromptRows:
        """Make a list ready."""
        asked = prepare_prompts(prompts, self._options, self._ceilings)
        options = options_for(self._options)
        return PromptRows(prompts, asked, None if options.cache == "off" else store_for(options))

    def _sequence(self, rows: PromptRows, run: Run | None, error: Exception) -> SequentialRun:
        """Return what asks the prompts in turn, where that is wanted and *error* is the engine's; else raise it."""
        # What was to be a batch is not sent live, at twice the price.
        batch = bool(rows.parts) and rows.parts[0].ask.options.mode == "batch"
        if self._fallback is None or batch or not is_engine_failure(error, run):
            raise error
        logger.warning("The engine cannot run (%s); the prompts are asked one after another", error)
        return SequentialRun(rows.parts, rows.total, rows.store, run)


def _outputs_or_raise(rows: PromptRows, run: Run | None, called_by: Caller) -> list[LLMOutput]:
    """Return the outputs of a run that has ended, or raise what ended it."""
    if run is not None and (run.course.error is not None or run.state == "cancelled"):
        run.result()  # raises
    if run is not None and run.course.unsaved:
        called_by.warn(f"{run.course.unsaved:,} answers could not be saved to the cache: keep this result.")
    for line in () if run is None else run.course.warnings:
        called_by.warn(line)
    if run is not None:
        run.note_rows()
    return rows.assemble(run)


def _with_tools(prompts: Iterable[LLMPromptContext]) -> list[LLMPromptContext]:
    asked = as_prompt_list(prompts)
    without = [
        prompt.id
        for prompt in asked
        if not prompt.tools and (prompt.structured_output is None or prompt.llm_config.response_format != "tool")
    ]
    if without:
        shown = ", ".join(map(repr, without[:5])) + (f" and {len(without) - 5:,} more" if len(without) > 5 else "")
        raise UsageError(
            f"{len(without):,} of {len(asked):,} prompts have no tools: {shown}. Give each tools=[…], or ask them "
            f"with run_parallel_ai_completion. Nothing was sent."
        )
    return asked
