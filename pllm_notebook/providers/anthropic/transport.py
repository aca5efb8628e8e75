"""Connect to Anthropic through its SDK."""

from __future__ import annotations

from typing import Any

from pllm_notebook.credentials import Address, Key
from pllm_notebook.providers.connections import over_aiohttp
from pllm_notebook.providers.sdk_transport import SDKTransport

__all__ = ["connect"]


def connect(key: Key, address: Address) -> SDKTransport:
    """Open a client. Call it on the loop that will use it."""
    import anthropic

    # No spans that contain rows, and no trace headers to the provider. The first 2.x versions made neither of them.
    tracing: dict[str, Any] = {"open_telemetry": False} if hasattr(anthropic.AsyncAnthropic, "open_telemetry") else {}
    client = anthropic.AsyncAnthropic(
        api_key=key.reveal(),
        base_url=address or None,
        default_headers=address.headers(),
        max_retries=0,
        timeout=None,
        http_client=over_aiohttp(anthropic.DefaultAioHttpClient),
        **tracing,
    )
    return SDKTransport(client)
