"""A hard ceiling on what one run may spend.

Reserve an upper bound for each request, send, settle with the figure. A request whose bound would
pass the ceiling is not admitted; one that was cancelled or got lost keeps its whole reservation as
spent, since the provider may have charged it, and the next request of its call needs another. So what
was paid, what may have been paid and what is reserved never exceed the ceiling together.
"""

from __future__ import annotations

from collections.abc import Callable

from pllm_notebook.exceptions import UsageError
from pllm_notebook.prices import Rate

__all__ = ["Budget", "Purse"]

# Tokens that a provider adds around a message: roles, separators, a schema's own wording.
_OVERHEAD_TOKENS = 512


class Purse:
    """One run's money, whichever models it goes to.

    Attributes:
        ceiling_usd: None for no ceiling; nothing is then reserved.
        spent_usd: Paid, or perhaps paid.
        reserved_usd: For requests that are out.
        requests: Their number.
    """

    def __init__(self, ceiling_usd: float | None) -> None:
        self.ceiling_usd = ceiling_usd
        self.spent_usd = 0.0
        self.reserved_usd = 0.0
        self.requests = 0
        self._waiting: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"Purse(spent={self.spent_usd:.6f}, reserved={self.reserved_usd:.6f}, ceiling={self.ceiling_usd})"

    def when_freed(self, look: Callable[[], None]) -> None:
        """Call *look* once, when the next reservation has been settled."""
        self._waiting.append(look)

    def freed(self) -> None:
        """Tell those that wait."""
        waiting, self._waiting = self._waiting, []
        for look in waiting:
            look()


class Budget:
    """What one model's calls may take from a run's purse.

    Args:
        purse: The run's.
        rate: The model's price.
        output_limit: Tokens that one reply can have.
        label: The model, for the error.

    Raises:
        UsageError: A ceiling over a model whose price nobody knows. Nothing was sent.
    """

    def __init__(self, purse: Purse, rate: Rate | None, output_limit: int | None, label: str) -> None:
        if purse.ceiling_usd is not None and rate is None:
            raise UsageError(
                f"max_cost_usd={purse.ceiling_usd:g} cannot be kept: the price of {label} is unknown. "
                f"Leave the ceiling out, or name a model with a known price. Nothing was sent."
            )
        self.purse = purse
        self._rate = rate
        self._output_limit = output_limit or 0

    def bound_usd(self, content_bytes: int) -> float:
        """Bound the cost of one request from above: no token is shorter than a byte."""
        if self.purse.ceiling_usd is None or self._rate is None:
            return 0.0
        return self._rate.ceiling_usd(content_bytes + _OVERHEAD_TOKENS, self._output_limit)

    def admit(self, bound_usd: float) -> bool:
        """Reserve *bound_usd* if the ceiling allows it."""
        if self.purse.ceiling_usd is None:
            return True
        if self.purse.spent_usd + self.purse.reserved_usd + bound_usd > self.purse.ceiling_usd:
            return False
        self.purse.reserved_usd += bound_usd
        self.purse.requests += 1
        return True

    def settle(self, bound_usd: float, requests: int, cost_usd: float | None, maybe_paid: int) -> None:
        """Turn what was reserved for a call that has ended into what was spent.

        Args:
            bound_usd: What was reserved for each request.
            requests: Requests that it was reserved for.
            cost_usd: What the one that was answered cost, None for unknown, which counts as its whole
                reservation; 0.0 where none was.
            maybe_paid: Further requests of the call that the provider may have charged.
        """
        if self.purse.ceiling_usd is not None:
            self.purse.requests -= requests
            self.purse.reserved_usd -= requests * bound_usd
            self.purse.spent_usd += (bound_usd if cost_usd is None else cost_usd) + maybe_paid * bound_usd
            self.purse.freed()
