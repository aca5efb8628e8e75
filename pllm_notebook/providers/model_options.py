"""Translation of generation options (effort, service tier, sampling) into a provider's own fields.

A value that the model does not accept is an error before anything is sent. Leaving it out would change the question
or the price.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.providers.keywords import merged, provider_fields
from pllm_notebook.providers.resolved_model import ResolvedModel

__all__ = ["default_effort", "generation_fields"]


def generation_fields(target: ResolvedModel, options: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body fields of *target* for these options.

    Args:
        target: The model.
        options: Those of `effort`, `service_tier`, `top_p`, `seed` and `stop` that are set.
        extra: `extra_body`, in the provider's own fields; it takes precedence.

    Raises:
        UsageError: If the model does not accept an option or its value. Nothing was sent.
    """
    given = dict(options)
    fields: dict[str, Any] = {}
    if "effort" in given:
        fields = _effort(target, given.pop("effort"))
    if "service_tier" in given:
        fields = merged(fields, _service_tier(target, given.pop("service_tier")))
    if "stop" in given:
        given["stop"] = list(given["stop"])
    fields = merged(fields, provider_fields(target, given, {}))
    if "top_p" in given and target.refuses_sampling(merged(fields, extra)):
        raise UsageError(
            f"{target.label} does not take top_p= as it is asked here: it chooses for itself while it reasons. Leave "
            f"it out, or use a model that takes it. Nothing was sent."
        )
    return merged(fields, extra)


def default_effort(target: ResolvedModel, body: Mapping[str, Any]) -> str:
    """Describe the effort of a request that sets none."""
    if target.price_provider is None:
        return "the server's own"
    return f"the model's own, which {'reasons' if target.may_reason(body) else 'does not reason'}"


def _effort(target: ResolvedModel, word: str) -> dict[str, Any]:
    known = target.efforts
    if known is None:
        return provider_fields(target, {"reasoning_effort": word}, {})
    if word not in known:
        *others, last = map(repr, known)
        takes = f"one of {', '.join(others)} or {last}" if others else f"only {last}"
        raise UsageError(f"effort= is {takes} at {target.label}, not {word!r}. Nothing was sent.")
    value = known[word]
    return dict(value) if isinstance(value, Mapping) else provider_fields(target, {"reasoning_effort": value}, {})


def _service_tier(target: ResolvedModel, word: str) -> dict[str, Any]:
    tiers = target.api.service_tiers
    if word not in tiers:
        if not tiers:
            raise UsageError(f"service_tier= is not supported at {target.label}. Nothing was sent.")
        takes = f"one of {', '.join(map(repr, tiers))}"
        raise UsageError(f"service_tier= is {takes} at {target.label}, not {word!r}. Nothing was sent.")
    return dict(tiers[word])
