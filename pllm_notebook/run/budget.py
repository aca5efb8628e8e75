"""A hard ceiling on what one run may spend.

Reserve an upper bound, send, settle with the figure. A call whose bound would pass the ceiling is
not admitted; one that was cancelled or got lost keeps its whole reservation as spent, since the
provider may have charged it.
"""

from __future__ import annotations

from pllm_notebook.exceptions import UsageError
from pllm_notebook.prices import Rate

__all__ = ["Budget"]

# Tokens that a provider adds around a message: roles, separators, a schema's own wording.
_OVERHEAD_TOKENS = 512


class Budget:
    """One run's money.

    Args:
        ceiling_usd: None for no ceiling; nothing is then reserved.
        rate: The model's price.
        output_limit: Tokens that one reply can have.
        label: The model, for the error.

    Raises:
        UsageError: A ceiling over a model whose price nobody knows. Nothing was sent.
    """

    def __init__(self, ceiling_usd: float | None, rate: Rate | None, output_limit: int | None, label: str) -> None:
        if ceiling_usd is not None and rate is None:
            raise UsageError(
                f"max_cost_usd={ceiling_usd:g} cannot be kept: the price of {label} is unknown. "
                f"Leave the ceiling out, or name a model with a known price. Nothing was sent."
            )
        self.ceiling_usd = ceiling_usd
        self.spent_usd = 0.0
        self.reserved_usd = 0.0
        self._rate = rate
        self._output_limit = output_limit or 0

    def __repr__(self) -> str:
        return f"Budget(spent={self.spent_usd:.6f}, reserved={self.reserved_usd:.6f}, ceiling={self.ceiling_usd})"

    def bound_usd(self, content_bytes: int) -> float:
        """Bound the cost of a call from above: no token is shorter than a byte."""
        if self.ceiling_usd is None or self._rate is None:
            return 0.0
        return self._rate.ceiling_usd(content_bytes + _OVERHEAD_TOKENS, self._output_limit)

    def admit(self, bound_usd: float) -> bool:
        """Reserve *bound_usd* if the ceiling allows it."""
        if self.ceiling_usd is None:
            return True
        if self.spent_usd + self.reserved_usd + bound_usd > self.ceiling_usd:
            return False
        self.reserved_usd += bound_usd
        return True

    def settle(self, bound_usd: float, cost_usd: float | None, maybe_paid: int = 0) -> None:
        """Turn a reservation into what was spent.

        Args:
            bound_usd: What was reserved.
            cost_usd: What it cost, None for unknown, which counts as the whole reservation.
            maybe_paid: Further requests of the call that the provider may have charged.
        """
        if self.ceiling_usd is not None:
            self.reserved_usd -= bound_usd
            self.spent_usd += (bound_usd if cost_usd is None else cost_usd) + maybe_paid * bound_usd
