"""Whether an address is a provider's own: what its structured output promises is promised there alone."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

__all__ = ["PROVIDERS", "foreign_host", "is_own"]

PROVIDERS = frozenset({"openai", "anthropic", "google"})

_OWN = {
    "openai": ("openai.com", "openai.azure.com", "services.ai.azure.com", "cognitiveservices.azure.com"),
    "anthropic": ("anthropic.com",),
    "google": ("googleapis.com",),
}
# Clients of a cloud that serves the provider's own models, wherever their address leads.
_CLOUDS = frozenset(
    {
        "AsyncAzureOpenAI",
        "AsyncAnthropicBedrock",
        "AsyncAnthropicBedrockMantle",
        "AsyncAnthropicFoundry",
        "AsyncAnthropicVertex",
    }
)


def is_own(maker: str, address: str, client_names: Collection[str] = ()) -> bool:
    """Return whether what answers at an address is the provider itself.

    Args:
        maker: Of the wire format: "openai", "anthropic" or "google".
        address: The base address, "" for the provider's own.
        client_names: Of a caller's client's class and of those it is made from.
    """
    if not address or not _CLOUDS.isdisjoint(client_names):
        return True
    host = urlsplit(address).hostname or ""
    return any(host == own or host.endswith(f".{own}") for own in _OWN[maker])


def foreign_host(maker: str, address: str, client_names: Collection[str] = ()) -> str:
    """Return the host of an address that is not the provider's own, without its port, which may change; "" for its own.

    Args:
        maker: Of the wire format: "openai", "anthropic" or "google".
        address: The base address, "" for the provider's own.
        client_names: Of a caller's client's class and of those it is made from.
    """
    return "" if is_own(maker, address, client_names) else urlsplit(address).hostname or ""
