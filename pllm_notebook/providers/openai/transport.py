"""Connect to OpenAI or a compatible server through OpenAI's SDK.

Bodies are sent as bytes through the SDK's `post`: its `create` walks every request by type annotations and builds
unused response models, three quarters of a call's cost.
"""

from __future__ import annotations

from pllm_notebook.credentials import Address, Key
from pllm_notebook.providers.connections import over_aiohttp
from pllm_notebook.providers.sdk_transport import SDKTransport

__all__ = ["connect"]


def connect(key: Key, address: Address) -> SDKTransport:
    """Open a client. Call it on the loop that will use it."""
    import openai

    client = openai.AsyncOpenAI(
        api_key=key.reveal(),
        base_url=address or None,
        default_headers=address.headers(),
        max_retries=0,
        timeout=None,
        http_client=over_aiohttp(openai.DefaultAioHttpClient),
    )
    return SDKTransport(client)
