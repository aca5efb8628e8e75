"""The fallback if the engine cannot run: send the unanswered prompts of a list one at a time on a second engine."""

from __future__ import annotations

from collections.abc import Sequence

from pllm_notebook.callers import Caller
from pllm_notebook.engine import Engine
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import LiveRun, RunBudget, RunWait, Steps
from pllm_notebook.prompt_lists.llm_output import LLMOutput
from pllm_notebook.prompt_lists.prompt_rows import PromptRows

__all__ = ["budget_after", "is_engine_failure", "sequential_outputs"]


def is_engine_failure(error: Exception, run: LiveRun | None) -> bool:
    """Return whether a list failed for a reason that is neither its caller's nor a provider's.

    Args:
        error: The exception that ended it.
        run: Its run, None if it could not be started.
    """
    return not isinstance(error, PllmError) or (run is not None and (run.execution.broken or not run.alive))


def budget_after(broken: RunBudget) -> RunBudget:
    """Return the budget that remains after a broken run.

    What it has paid or perhaps paid counts, and also what is reserved for its requests in flight, whose cost stays
    unknown.
    """
    budget = RunBudget(broken.ceiling_usd)
    budget.paid_usd, budget.perhaps_usd = broken.paid_usd, broken.perhaps_usd + broken.reserved_usd
    return budget


def sequential_outputs(
    rows: PromptRows, places: Sequence[int], budget: RunBudget, called_by: Caller, engine: Engine
) -> Steps[dict[int, LLMOutput]]:
    """Send the prompts that a broken run left unanswered on another engine, and return their outputs.

    Args:
        rows: The unanswered prompts, whose options set `concurrency=1`.
        places: Their places in the list, the keys of the returned outputs.
        budget: The budget that remains (see `budget_after`).
        called_by: The line that warnings name.
        engine: The other engine.
    """
    run = rows.start(engine=engine, run_budget=budget)
    if run is not None:
        yield RunWait(run)
    return dict(zip(places, rows.result(run, called_by), strict=True))
