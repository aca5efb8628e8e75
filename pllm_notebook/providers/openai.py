"""OpenAI, and every server that speaks its Chat Completions: the client, and the formats by their names.

Bodies go through the SDK's own `post` as bytes: its `create` walks every request by type
annotations and builds response models, three quarters of a call's cost, for nothing we use.
"""

from __future__ import annotations

from pllm_notebook.credentials import Address, Key
from pllm_notebook.providers.chat import Chat
from pllm_notebook.providers.connections import over_aiohttp
from pllm_notebook.providers.openai_says import refuse
from pllm_notebook.providers.responses import Responses
from pllm_notebook.providers.stainless import StainlessTransport

__all__ = ["Chat", "Responses", "connect", "refuse"]


def connect(key: Key, address: Address) -> StainlessTransport:
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
    return StainlessTransport(client)
