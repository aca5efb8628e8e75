"""The cost of a call, from the table of genai-prices, offline.

A model's price is resolved once, because a lookup for every call would take longer (108 us) than
everything else that the package does for it. An unknown model costs None, "unknown", never 0.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pllm_notebook.types import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

__all__ = ["Rate", "is_deprecated", "rate_of", "stated_rate"]


@dataclass(frozen=True, slots=True)
class Rate:
    """One model's price today, in US dollars per token.

    Attributes:
        linear_below: Input tokens from which a long-context tier may apply. From there on, genai-prices computes the
            price of each request. Infinity if no tier exists.
        hour: Whether prompt cache writes last for an hour, at the corresponding price.
    """

    input_usd: float
    output_usd: float
    cache_read_usd: float
    cache_write_usd: float
    linear_below: float
    table: ModelPrice | None
    hour: bool = False

    def cost_usd(self, usage: Usage) -> float:
        """Price one call's usage. Cached tokens beyond the reported input count as input too."""
        # Some servers leave cached tokens out of the input. A negative rest would lower the cost below what is paid.
        total = max(usage.input_tokens, usage.cache_read_tokens + usage.cache_write_tokens)
        if self.table is not None and total >= self.linear_below:
            import genai_prices

            return float(
                self.table.calc_price(
                    genai_prices.Usage(
                        input_tokens=total,
                        cache_read_tokens=usage.cache_read_tokens,
                        cache_write_tokens=usage.cache_write_tokens,
                        cache_write_1h_tokens=usage.cache_write_tokens if self.hour else None,
                        output_tokens=usage.output_tokens,
                    )
                )["total_price"]
            )
        plain = total - usage.cache_read_tokens - usage.cache_write_tokens
        return (
            plain * self.input_usd
            + usage.cache_read_tokens * self.cache_read_usd
            + usage.cache_write_tokens * self.cache_write_usd
            + usage.output_tokens * self.output_usd
        )

    def ceiling_usd(self, input_tokens: int, output_tokens: int) -> float:
        """Return an upper bound for a call of at most these tokens, for any caching and tier.

        Cache writes cost more than plain input, so a bound assumes them.
        """
        usage = Usage(input_tokens, output_tokens)
        dear = Usage(input_tokens, output_tokens, cache_write_tokens=input_tokens)
        return max(self.cost_usd(usage), self.cost_usd(dear))


_PRICED_TIERS = ("flex", "priority")
FREE = Rate(0.0, 0.0, 0.0, 0.0, float("inf"), None)


def rate_of(
    provider: str,
    model: str,
    *,
    batch: bool = False,
    hour: bool = False,
    tier: str | None = None,
    writes: bool = True,
) -> Rate | None:
    """Look up a model's price.

    Args:
        provider: The provider id of genai-prices: "openai", "anthropic", "google". "local" is free.
        model: The provider's name of the model.
        batch: Whether the call goes through the provider's batch API.
        hour: Whether its prompt is cached for an hour. Anthropic charges twice the price of plain input for such a
            write, and 1.25 times for one of five minutes.
        tier: The live call's service tier. None for the standard one.
        writes: Whether its replies have text. If not, no output price is needed.

    Returns:
        The price, or None if it is unknown. A more expensive tier without a price in the table is unknown. A cheaper
        tier without one gets the standard price, which is an upper bound.
    """
    if provider == "local":
        return FREE
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, info = get_snapshot().find_provider_model(model, None, provider, None)
        context: Any = {"processing": "batch"} if batch else {"service_tier": tier} if tier in _PRICED_TIERS else None
        if tier == "priority" and not any(one.when == context for one in info.price_variants or ()):
            return None
        table = info.get_prices(dt.datetime.now(tz=dt.UTC), context)
    except LookupError:
        return None
    starts = [float("inf")]

    def per_token(name: str) -> float | None:
        price = getattr(table, name, None)
        if price is None:
            return None
        tiers = getattr(price, "tiers", None)
        if tiers is not None:
            starts.extend(float(tier.start) for tier in tiers)
            price = price.base
        return float(price) / 1e6

    plain, output = per_token("input_mtok"), per_token("output_mtok")
    if plain is None:
        return None
    if output is None:
        if writes:  # the table's entry is incomplete
            return None
        output = 0.0
    read, write = per_token("cache_read_mtok"), per_token("cache_write_1h_mtok") if hour else None
    if write is None:
        write = per_token("cache_write_mtok")
    return Rate(
        plain,
        output,
        plain if read is None else read,
        plain if write is None else write,
        min(starts),
        table,
        hour,
    )


def is_deprecated(model: str, served: Sequence[str] = ()) -> bool | None:
    """Return whether the table lists a model as deprecated by its provider. None for an unknown model.

    Args:
        model: The requested model, "provider:name".
        served: Names that the provider reported, since the requested name may be an alias of the current version.
    """
    from genai_prices.data_snapshot import get_snapshot

    provider, _, asked = model.partition(":")
    known = []
    for name in (asked, *served):
        with suppress(LookupError):
            known.append(bool(get_snapshot().find_provider_model(name, None, provider, None)[1].deprecated))
    return any(known) if known else None


def stated_rate(given: float | Sequence[float]) -> Rate:
    """Return a price set by the user, in US dollars per million tokens of input, or of input and output.

    Without an output price, output is free.
    """
    each, output = (float(one) / 1e6 for one in (given if isinstance(given, Sequence) else (given, 0)))
    return Rate(each, output, each, each, float("inf"), None)
