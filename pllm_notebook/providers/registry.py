"""The providers that are known here, by name, by model, by wire format and by SDK."""

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
"""The provider whose format servers of the caller's own speak."""

SIMULATED = "sim"
"""What precedes the colon of a simulated provider's name (`sim:openai`)."""

_NAME = re.compile(r"[a-z][a-z0-9_-]*")

_PACKAGE = (openai.PROVIDER, anthropic.PROVIDER, google.PROVIDER, local.PROVIDER)
_OWN = frozenset(provider.name for provider in _PACKAGE)


def _own_providers() -> dict[str, Provider]:
    return {provider.name: provider for provider in _PACKAGE}


_REGISTERED: Slot[dict[str, Provider]] = Slot("providers", _own_providers)


def register(provider: Provider) -> None:
    """Make a provider known under its name, for the life of the process.

    Registering another under the same name replaces it, as when a cell is run again. Models with keys from the
    environment are looked for in the order of registration.

    Raises:
        UsageError: If the name is not a lower-case word, or is that of a provider of this package.
    """
    if not _NAME.fullmatch(provider.name):
        raise UsageError(f"A provider's name is a lower-case word, not {provider.name!r}.")
    if provider.name in _OWN or provider.name == SIMULATED:
        raise UsageError(f"The provider name {provider.name!r} is taken by this package. Choose another.")
    _REGISTERED.value[provider.name] = provider


def unregister(name: str) -> None:
    """Forget a provider that was registered from outside this package."""
    if name not in _OWN:
        _REGISTERED.value.pop(name, None)


def providers() -> tuple[Provider, ...]:
    """Return all providers."""
    return tuple(_REGISTERED.value.values())


def token_formats() -> tuple[TokenFormat, ...]:
    """Return how each of all wire formats has token probabilities."""
    return tuple(each for provider in providers() for each in provider.token_formats.values())


def decision_endpoints() -> dict[str, DecisionEndpoint]:
    """Return the decision endpoints that are known, by the name of their format."""
    return {one.name: one.decisions for one in providers() if one.decisions is not None} | SERVER_ENDPOINTS


def names() -> tuple[str, ...]:
    """Return the names that may precede a model's, that of the simulator last."""
    return (*_REGISTERED.value, SIMULATED)


def find(name: str) -> Provider | None:
    """Return the provider with this name, None for none."""
    return _REGISTERED.value.get(name)


def hosted() -> tuple[Provider, ...]:
    """Return the providers that are asked over the network."""
    return tuple(provider for provider in _REGISTERED.value.values() if provider.connect is not None)


def is_hosted(name: str) -> bool:
    """Return whether *name* is that of a provider that is asked over the network."""
    provider = _REGISTERED.value.get(name)
    return provider is not None and provider.connect is not None


def canonical(name: str) -> str:
    """Return a provider's name for another name of it; any other text as it is."""
    return next((provider.name for provider in _REGISTERED.value.values() if name in provider.other_names), name)


def cheap_model_of(name: str) -> str:
    """Return a provider's cheap current model, "" where there is none, or no such provider."""
    provider = _REGISTERED.value.get(name)
    return "" if provider is None else provider.cheap_model


def provider_of(model: str) -> str | None:
    """Return which provider a bare model name belongs to, None when it cannot be inferred."""
    for provider in _REGISTERED.value.values():
        if provider.models.bare is not None and provider.models.bare.match(model):
            return provider.name
    return None


def wires() -> Iterator[tuple[Wire, Provider]]:
    """Return each wire format with the provider that it is of."""
    return ((wire, provider) for provider in hosted() for wire in provider.wires)


def speaker_of(format_name: str) -> Provider:
    """Return the provider that a wire format is of."""
    return next(provider for wire, provider in wires() if wire.format_name == format_name)


def sdk_modules() -> dict[str, Provider]:
    """Return the top-level modules of the providers' SDKs."""
    return {provider.sdk.module: provider for provider in _REGISTERED.value.values() if provider.sdk is not None}


def largest_file_for(model: str | None) -> int:
    """Return the size in bytes of the largest file that a model's provider takes in a request."""
    provider = _REGISTERED.value.get((model or "").partition(":")[0])
    if provider is None or provider.largest_request_bytes is None:
        return LARGEST_BYTES
    return provider.largest_request_bytes * 3 // 4  # a file in base64 is four thirds of its size
