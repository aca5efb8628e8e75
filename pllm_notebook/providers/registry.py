"""The registered providers, by name, by model, by wire format and by SDK."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pllm_notebook.exceptions import UsageError
from pllm_notebook.local_files import LARGEST_BYTES
from pllm_notebook.protocols import Wire
from pllm_notebook.providers import anthropic, google, local, openai
from pllm_notebook.providers.decision_endpoints import DecisionEndpoint
from pllm_notebook.providers.provider import Provider
from pllm_notebook.providers.server_decisions import SERVER_ENDPOINTS
from pllm_notebook.providers.token_probabilities import TokenFormat
from pllm_notebook.runtime import Slot

__all__ = [
    "COMPATIBLE",
    "SIMULATED",
    "canonical",
    "cheap_model_of",
    "decision_endpoints",
    "find",
    "hosted",
    "is_hosted",
    "largest_file_for",
    "names",
    "provider_of",
    "providers",
    "register",
    "sdk_modules",
    "speaker_of",
    "token_formats",
    "unregister",
    "wires",
]

COMPATIBLE = openai.PROVIDER
"""The provider whose format the caller's own servers use."""

SIMULATED = "sim"
"""The text before the colon in a simulated provider's name (`sim:openai`)."""

_NAME = re.compile(r"[a-z][a-z0-9_-]*")

_PACKAGE = (openai.PROVIDER, anthropic.PROVIDER, google.PROVIDER, local.PROVIDER)
_OWN = frozenset(provider.name for provider in _PACKAGE)


def _own_providers() -> dict[str, Provider]:
    return {provider.name: provider for provider in _PACKAGE}


_REGISTERED: Slot[dict[str, Provider]] = Slot("providers", _own_providers)


def register(provider: Provider) -> None:
    """Register a provider under its name for the life of the process.

    A provider registered earlier under the same name is replaced, as when a cell is run again. If no model is set, the
    first registered provider that has a cheap model and a key in the environment is used.

    Raises:
        UsageError: If the name is not a lower-case word, or is taken by this package.
    """
    if not _NAME.fullmatch(provider.name):
        raise UsageError(f"A provider's name is a lower-case word, not {provider.name!r}.")
    if provider.name in _OWN or provider.name == SIMULATED:
        raise UsageError(f"The provider name {provider.name!r} is taken by this package. Choose another.")
    _REGISTERED.value[provider.name] = provider


def unregister(name: str) -> None:
    """Remove a provider that was registered from outside this package; others stay."""
    if name not in _OWN:
        _REGISTERED.value.pop(name, None)


def providers() -> tuple[Provider, ...]:
    """Return all providers."""
    return tuple(_REGISTERED.value.values())


def token_formats() -> tuple[TokenFormat, ...]:
    """Return the token formats of all providers' wire formats."""
    return tuple(each for provider in providers() for each in provider.token_formats.values())


def decision_endpoints() -> dict[str, DecisionEndpoint]:
    """Return the known decision endpoints by the name of their format, which is the provider's name if it has one."""
    return {one.name: one.decisions for one in providers() if one.decisions is not None} | SERVER_ENDPOINTS


def names() -> tuple[str, ...]:
    """Return the names that may be before the colon in `provider:model`, the simulator's last."""
    return (*_REGISTERED.value, SIMULATED)


def find(name: str) -> Provider | None:
    """Return the provider with this name, None if there is none."""
    return _REGISTERED.value.get(name)


def hosted() -> tuple[Provider, ...]:
    """Return the providers that are called over the network."""
    return tuple(provider for provider in _REGISTERED.value.values() if provider.connect is not None)


def is_hosted(name: str) -> bool:
    """Return whether *name* is the name of a provider that is called over the network."""
    provider = _REGISTERED.value.get(name)
    return provider is not None and provider.connect is not None


def canonical(name: str) -> str:
    """Return the current name of a provider for one of its older names; return any other text unchanged."""
    return next((provider.name for provider in _REGISTERED.value.values() if name in provider.other_names), name)


def cheap_model_of(name: str) -> str:
    """Return a provider's cheap current model, "" if it has none or there is no such provider."""
    provider = _REGISTERED.value.get(name)
    return "" if provider is None else provider.cheap_model


def provider_of(model: str) -> str | None:
    """Return the name of the provider that a bare model name belongs to, None if it cannot be inferred."""
    for provider in _REGISTERED.value.values():
        if provider.models.bare is not None and provider.models.bare.match(model):
            return provider.name
    return None


def wires() -> Iterator[tuple[Wire, Provider]]:
    """Return the wire formats of all hosted providers, each with its provider."""
    return ((wire, provider) for provider in hosted() for wire in provider.wires)


def speaker_of(format_name: str) -> Provider:
    """Return the hosted provider that has the wire format with this name."""
    return next(provider for wire, provider in wires() if wire.format_name == format_name)


def sdk_modules() -> dict[str, Provider]:
    """Return the providers that have an SDK, by its top-level module."""
    return {provider.sdk.module: provider for provider in _REGISTERED.value.values() if provider.sdk is not None}


def largest_file_for(model: str | None) -> int:
    """Return the maximum size, in bytes, of a file in a request to the model's provider."""
    provider = _REGISTERED.value.get((model or "").partition(":")[0])
    if provider is None or provider.largest_request_bytes is None:
        return LARGEST_BYTES
    return provider.largest_request_bytes * 3 // 4  # base64 makes a file a third larger
