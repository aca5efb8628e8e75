"""Resolution of the decision endpoint that is called in place of a model or in addition to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.providers import registry
from pllm_notebook.providers.decision_endpoints import DecisionEndpoint
from pllm_notebook.providers.provider import ModelFacts
from pllm_notebook.providers.quirks import quirks_of
from pllm_notebook.providers.resolved_model import ResolvedModel
from pllm_notebook.schema import PLAIN

__all__ = ["check_decision_formats", "decision_model"]

_NO_THOUGHTS = ModelFacts(may_reason=lambda model, body: False)


def decision_model(target: ResolvedModel, formats: Mapping[str, str], *, named: bool) -> ResolvedModel:
    """Return the decision endpoint of a model's provider or server, as a resolved model.

    Args:
        target: The resolved model.
        formats: The format of each server's decision endpoint, by the server's name.
        named: Whether the user named *target* as the model that decides. Otherwise a provider's own decision model
            replaces it.

    Raises:
        UsageError: If there is no decision endpoint, or the format of a server's is not set. Nothing was sent.
    """
    endpoint = _endpoint_of(target, formats)
    is_server = bool(target.address)
    model = target.model if named or is_server or not endpoint.model else endpoint.model
    provider = replace(
        target.api, models=_NO_THOUGHTS, prompt_cache=None, batch=None, token_formats={}, service_tiers={}
    )
    slash = "/" if target.simulated else ":"
    return replace(
        target,
        label=f"{target.provider}{slash}{model}",
        model=model,
        api=provider,
        wire=endpoint.wire,
        dialect=PLAIN,
        quirks=quirks_of(target.provider, f"{target.address or target.opener} decisions", model),
        opener=f"{target.opener}+decisions",
        price_provider=endpoint.price_provider or None if target.price_provider else None,
        price_model=model,
        open_batch=None,
        batch_format=None,
        no_batch_reason=f"{endpoint.title} has no batch API.",
        decisions=endpoint,
    )


def check_decision_formats(formats: Mapping[str, str]) -> None:
    """Check that every server's decision endpoint has a known format.

    Args:
        formats: The format of each server's decision endpoint, by the server's name.

    Raises:
        UsageError: For an unknown format.
    """
    known = registry.decision_endpoints()
    for server, name in formats.items():
        if name not in known:
            raise UsageError(
                f"The decision endpoint of the server {server!r} is {name!r}; expected one of "
                f"{', '.join(map(repr, known))}.{guess(str(name), known)}"
            )


def _endpoint_of(target: ResolvedModel, formats: Mapping[str, str]) -> DecisionEndpoint:
    known = registry.decision_endpoints()
    if target.provider in formats:
        return known[formats[target.provider]]
    if target.address:
        example = f"pllm.configure(decision_formats={{{target.provider!r}: 'systemone'}})"
        raise UsageError(
            f"probabilities='decisions' needs the format of the decision endpoint of the server {target.provider!r}, "
            f"one of {', '.join(map(repr, known))}: {example}. Nothing was sent."
        )
    if target.api.decisions is None or (target.simulated and target.price_provider is None):
        having = [f"{one.name}:{one.decisions.model}" for one in registry.providers() if one.decisions is not None]
        raise UsageError(
            f"{target.label} has no decision endpoint. Name a model that decides: decision_model={having[0]!r}, for "
            f"example. Nothing was sent."
        )
    return target.api.decisions
