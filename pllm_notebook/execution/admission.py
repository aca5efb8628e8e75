"""Whether the next request of a model may be sent, as far as its run's money goes."""

from __future__ import annotations

from pllm_notebook.execution.budget import ModelBudget, Need, Reservation, RunBudget
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.follow_ups import FollowUp
from pllm_notebook.execution.next_call import NextCall, Tag

__all__ = ["Admission"]


class Admission:
    """Reserve money for the requests of one queue. Used on the engine's loop alone.

    Attributes:
        budget: What the model's calls may take of the run's money.
        is_over: Whether the call whose turn it is found no room.
        unfunded: What that call is for; None once it is sent, or given up.
    """

    def __init__(self, spec: CallSpec, run_budget: RunBudget) -> None:
        rate = spec.rate(batch=spec.options.mode == "batch")
        self.budget = ModelBudget(run_budget, rate, spec.output_limit, spec.target.label)
        self.is_over = False
        self.unfunded: Tag | None = None

    def reserve(self, spec: CallSpec, next_: NextCall) -> Reservation | None:
        """Reserve what a request can be charged, None where the budget has no room. Only where there is a ceiling.

        Args:
            spec: What the request asks: the queue's spec, or that of its packs.
            next_: The call whose turn it is.
        """
        reserved = self._reserve(spec, next_)
        self.is_over = reserved is None
        self.unfunded = next_.tag if reserved is None else None
        return reserved

    def held_by(self) -> str:
        """Describe what is reserved, where a call waits for it; "" where none does."""
        return self.budget.run_budget.held_by() if self.is_over else ""

    def _reserve(self, spec: CallSpec, next_: NextCall) -> Reservation | None:
        if next_.full_limit or spec.output_limit is None:
            bound = self.budget.bound_usd(next_.size)
            return Reservation(bound, None) if self.budget.admit(bound) else None
        above = next_.tag.above if isinstance(next_.tag, FollowUp) else 0
        row_bytes, version = spec.row_bytes(next_.size), spec.target.quirks.version
        return self.budget.reserve(Need.of(spec.token_bounds, next_.size, row_bytes, version, above=above))
