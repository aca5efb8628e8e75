"""The model of a run's options: resolved with the current settings, with its request fields and display name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pllm_notebook.credentials import Key
from pllm_notebook.exceptions import UsageError
from pllm_notebook.prices import Rate, rate_of, stated_rate
from pllm_notebook.providers import (
    ResolvedModel,
    decision_model,
    default_effort,
    generation_fields,
    kept_for_an_hour,
    resolve,
)
from pllm_notebook.settings import Options, current

if TYPE_CHECKING:
    from pllm_notebook.sim import Simulator

__all__ = [
    "decision_target",
    "effort_in_words",
    "extra_fields",
    "model_in_words",
    "price_of",
    "resolve_model",
    "start_simulator",
]

_NAMES = ("effort", "service_tier", "top_p", "seed", "stop")


def extra_fields(target: ResolvedModel, options: Options) -> Mapping[str, Any]:
    """Return the additional fields of the body, besides the prompt, type and tools, in the provider's format.

    Raises:
        UsageError: If the model does not accept a value. Nothing was sent.
    """
    if options.mode == "batch" and options.service_tier is not None:
        raise UsageError(
            f"service_tier={options.service_tier!r} is for live calls; a batch job has a price of its own. Leave it "
            f"out, or use mode='async'. Nothing was sent."
        )
    given = {name: value for name in _NAMES if (value := getattr(options, name)) is not None}
    return generation_fields(target, given, options.extra_body) if given else options.extra_body


def model_in_words(target: ResolvedModel, options: Options) -> str:
    """Return the model's display name, with the requested effort and service tier."""
    if target.decisions is not None:
        return f"{target.label} (decisions)"
    effort = f"effort {options.effort}" if options.effort is not None else ""
    tier = f"tier {options.service_tier}" if options.service_tier is not None else ""
    asked = ", ".join(filter(None, (effort, tier)))
    return f"{target.label} ({asked})" if asked else target.label


def resolve_model(options: Options, keys: Mapping[str, Key] | None = None) -> ResolvedModel:
    """Resolve the model of *options* with the configured servers and clients.

    Args:
        options: The resolved options.
        keys: API keys by provider, in place of those in the environment.
    """
    settings = current()
    return resolve(
        options.model,
        servers=settings.servers,
        clients=settings.clients,
        keys=keys or {},
        simulator=lambda wire: start_simulator().base_url(wire),
    )


def decision_target(options: Options, keys: Mapping[str, Key] | None = None) -> ResolvedModel:
    """Resolve the decision endpoint of *options*, or that of their model's provider or server.

    Raises:
        UsageError: If there is none. Nothing was sent.
    """
    named = options.decision_model
    target = resolve_model(options if named is None else replace(options, model=named), keys)
    return decision_model(target, current().decision_formats, named=named is not None)


def effort_in_words(target: ResolvedModel, options: Options, body: Mapping[str, Any]) -> str:
    """Return the effort for display, "" for a decision endpoint, which does not reason."""
    if target.decisions is not None:
        return ""
    return options.effort or default_effort(target, body)


def price_of(target: ResolvedModel, options: Options, extra: Mapping[str, Any], *, batch: bool) -> Rate | None:
    """Return the price of calls to a model, None if unknown.

    Args:
        target: The model.
        options: The resolved options. Prices stated in them take precedence.
        extra: See `extra_fields`.
        batch: Whether the calls are sent as a batch job.
    """
    if options.prices and (price := _stated_price(target, options.prices)) is not None:
        return price
    if target.price_provider is None:
        return None
    hour = kept_for_an_hour(extra)
    tier = None if batch else options.service_tier
    writes = target.decisions is None
    return rate_of(target.price_provider, target.price_model, batch=batch, hour=hour, tier=tier, writes=writes)


def _stated_price(target: ResolvedModel, prices: Mapping[str, Any]) -> Rate | None:
    # A simulated model can also use the price of the real model.
    names = [target.label, f"{target.api.name}:{target.model}"] if target.simulated else [target.label]
    return next((stated_rate(prices[name]) for name in names if name in prices), None)


def start_simulator() -> Simulator:
    """Start the simulator of the `sim:` models, or apply the current options to the running one.

    Called before a run starts, on the caller's thread: starting a process takes a moment, and a connected dispatcher
    would not read the options again.
    """
    from pllm_notebook import sim

    return sim.shared(current().sim)
