"""What one model's calls of a run have used and cost, and what they may still cost."""

from __future__ import annotations

from pllm_notebook.engine import Job, Landing
from pllm_notebook.execution.budget import ModelBudget
from pllm_notebook.prices import Rate
from pllm_notebook.records import Reply, Spent, Usage

__all__ = ["CostTracker"]


class CostTracker:
    """Count tokens and money. Changed on the engine's loop alone; read from any thread.

    Args:
        budget: What the calls may take.
        rate: The model's price, None for unknown.

    Attributes:
        budget: As given.
        spent: On all replies.
    """

    def __init__(self, budget: ModelBudget, rate: Rate | None) -> None:
        self.budget = budget
        self.spent = Spent()
        self._rate = rate

    def __repr__(self) -> str:
        return f"CostTracker(cost_usd={self.spent.cost_usd}, purse={self.budget.run_budget!r})"

    def settle(self, job: Job, bound_usd: float, landing: Landing) -> float | None:
        """Count what a call that has landed used, and turn what was reserved for it into what was spent.

        Args:
            job: The call.
            bound_usd: What was reserved for each of its requests.
            landing: How it came down.

        Returns:
            The reply's cost in US dollars, None for unknown; 0.0 for a failure.
        """
        result = landing.result
        cost: float | None = 0.0
        usage: Usage | None = None
        untold = 0
        if isinstance(result, Reply):
            usage = result.usage
            cost = None if self._rate is None or usage is None else self._rate.cost_usd(usage)
            untold = usage is None
        perhaps = self.budget.settle(bound_usd, job.covered, cost, landing.maybe_paid)
        used = usage or Usage(0, 0)
        # What an answer without a word of its usage cost is not paid but perhaps paid: that much is known.
        paid = 0.0 if untold and self._rate is not None else cost
        self.spent += Spent(
            used.input_tokens, used.output_tokens, used.cache_read_tokens, paid, landing.maybe_paid + untold, perhaps
        )
        return cost
