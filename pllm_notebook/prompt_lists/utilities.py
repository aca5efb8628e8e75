"""Send many prompts at once, in any mix of providers, models and configurations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Literal, Unpack

from pllm_notebook.callers import Caller, caller
from pllm_notebook.engine import Engine, UserRateLimit
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import RunBudget, RunWait, Steps, awaiting, blocking, options_for, store_for
from pllm_notebook.options import Options, PromptListOptions, check, taken_by
from pllm_notebook.prompt_lists.build import as_prompt_list, prepare_prompts
from pllm_notebook.prompt_lists.llm_config import RequestLimits
from pllm_notebook.prompt_lists.llm_output import LLMOutput
from pllm_notebook.prompt_lists.prompt_context import LLMPromptContext
from pllm_notebook.prompt_lists.prompt_rows import PromptRows
from pllm_notebook.prompt_lists.sequential import budget_after, is_engine_failure, sequential_outputs
from pllm_notebook.signatures import shows

__all__ = ["ParallelAIUtilities"]

logger = logging.getLogger("pllm_notebook")


@shows(taken_by(Options, "prompt_list"))
class ParallelAIUtilities:
    """A sender of whole lists of prompts, with one output per prompt in the list's order.

        utilities = ParallelAIUtilities(oai_request_limits=RequestLimits(max_requests_per_minute=500))
        outputs = await utilities.run_parallel_ai_completion(prompts)

    All prompts of a list are one run: one budget, one progress display, one Stop. Rates are kept per provider, account
    and model, so that a slow model does not delay the others. Limits that are not given are learned from the provider.
    If a prompt fails, its output has the failure in `error`, and the others continue. Cached answers, of a list or of
    `df.llm`, are not requested again.

    Args:
        oai_request_limits: Rate limits for the prompts whose `client` is "openai", or the `provider` that it names.
            They apply to all models together, and to all lists of this object.
        anthropic_request_limits: The same for "anthropic".
        google_request_limits: The same for "google".
        fallback: "sequential" to send the prompts one at a time on a second engine, with the same answers, if the
            engine itself cannot run (its loop has ended, or an internal error broke it). None to raise that error.
        local_cache: False means `cache="off"` unless `cache` is given: nothing is stored on this machine.
        **options: Options of all prompts, as for `df.llm.parse`; `max_cost_usd` applies to each list.

    Raises:
        UsageError: For an unknown option, a value out of range, or two limits for one provider.
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
                raise UsageError(f"Two of the limits are for {provider!r}: pass only one. Nothing was sent.")
            self._ceilings[provider] = UserRateLimit(limits.max_requests_per_minute, limits.max_tokens_per_minute)

    def __repr__(self) -> str:
        limits = ", ".join(f"{provider}: {ceiling!r}" for provider, ceiling in self._ceilings.items())
        return f"<ParallelAIUtilities {limits or 'without limits'}>"

    async def run_parallel_ai_completion(self, prompts: Iterable[LLMPromptContext]) -> list[LLMOutput]:
        """Return one output per prompt, in order. Sends and pays for prompts that are not in the cache.

        Cancelling the task cancels calls in flight; answers that have arrived are kept.

        Args:
            prompts: Any mix of providers, models and configurations. Ids need not be unique. Equal prompts are sent
                once.

        Raises:
            UsageError: For invalid options. Nothing was sent.
            NotConfirmedError: If the estimate of batch jobs was not confirmed. Never raised with `confirm=False`.
                Nothing was sent.
            StoreError: If the cache cannot be opened. Nothing was sent.
            RunInterrupted: If the run was stopped.
            RowError: At the first failure, with `errors="raise"` or `mode="sync"`.
        """
        further: list[Engine] = []
        try:
            return await awaiting(self._outputs(prompts, caller(), further))
        finally:
            for engine in further:
                await asyncio.to_thread(engine.close)

    async def run_parallel_ai_tool_completion(self, prompts: Iterable[LLMPromptContext]) -> list[LLMOutput]:
        """Return one output per prompt, in order, with validated `tool_calls`.

        Works like `run_parallel_ai_completion`, for prompts that all have tools (`tools`, or the format "tool" with a
        `structured_output`). Set `tool_choice=`, or the format "tool", to require a tool call.

        Args:
            prompts: Each with tools.

        Raises:
            UsageError: If a prompt has no tools. Nothing was sent.
        """
        return await self.run_parallel_ai_completion(_with_tools(prompts))

    def run_parallel_ai_completion_sync(self, prompts: Iterable[LLMPromptContext]) -> list[LLMOutput]:
        """Run `run_parallel_ai_completion` without await, in a cell or script.

        An interrupt cancels the run and raises KeyboardInterrupt; answers that have arrived are kept.
        """
        further: list[Engine] = []
        try:
            return blocking(self._outputs(prompts, caller(), further))
        finally:
            for engine in further:
                engine.close()

    def run_parallel_ai_tool_completion_sync(self, prompts: Iterable[LLMPromptContext]) -> list[LLMOutput]:
        """Run `run_parallel_ai_tool_completion` without await."""
        return self.run_parallel_ai_completion_sync(_with_tools(prompts))

    def _rows(self, contexts: list[LLMPromptContext], **further: Any) -> PromptRows:
        given = {**self._options, **further}
        options = options_for(given)
        prepared = prepare_prompts(contexts, given, self._ceilings)
        return PromptRows(contexts, prepared, None if options.cache == "off" else store_for(options))

    def _outputs(
        self, prompts: Iterable[LLMPromptContext], called_by: Caller, further: list[Engine]
    ) -> Steps[list[LLMOutput]]:
        """Send a list. With a fallback, prompts without an answer are sent on a second engine if the first is broken.

        Args:
            prompts: The list.
            called_by: The line that warnings name.
            further: Receives the second engine, which the caller must close.
        """
        contexts = as_prompt_list(prompts)
        rows, run = self._rows(contexts), None
        budget = RunBudget(rows.parts[0].spec.options.max_cost_usd if rows.parts else None)
        try:
            run = rows.start(run_budget=budget)
            if run is not None:
                yield RunWait(run)
            return rows.result(run, called_by)
        except Exception as error:
            # A batch is never sent live instead, at twice the price.
            batch = bool(rows.parts) and rows.parts[0].spec.options.mode == "batch"
            if self._fallback is None or batch or not is_engine_failure(error, run):
                raise
            logger.warning("The engine cannot run (%s); the prompts are sent one at a time on a second engine", error)
        outputs = rows.assemble(run)
        places = [place for place, output in enumerate(outputs) if output.error is not None]
        unanswered = self._rows([contexts[place] for place in places], concurrency=1)
        further.append(Engine("private"))
        found = yield from sequential_outputs(unanswered, places, budget_after(budget), called_by, further[-1])
        return [found.get(place, output) for place, output in enumerate(outputs)]


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
            f"{len(without):,} of {len(asked):,} prompts have no tools: {shown}. Set tools=[…] for each, or use "
            f"run_parallel_ai_completion. Nothing was sent."
        )
    return asked
