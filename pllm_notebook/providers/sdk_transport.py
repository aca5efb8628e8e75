"""The transport over the OpenAI and Anthropic SDKs, which share one client design."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from copy import copy
from typing import Any

import orjson

from pllm_notebook.providers.client_copies import sdk_copy
from pllm_notebook.providers.client_faults import fault_of
from pllm_notebook.types import RawReply

__all__ = ["SDKTransport", "class_names", "client_problem"]


# The base class of async clients, in a private module of each SDK.
_BASE_CLASS = "AsyncAPIClient"


class SDKTransport:
    """A transport that sends prepared bytes through an SDK client's raw `post`.

    Args:
        client: `AsyncOpenAI`, `AsyncAnthropic` or a subclass.
        owned: Whether the client is ours. A caller's client is copied (see `sdk_copy`). It may read the body to build
            the address (Azure, Bedrock, Vertex), so it gets a mapping instead of bytes.
    """

    def __init__(self, client: Any, *, owned: bool = True) -> None:
        import httpx2

        self._client, self._closes = (client, True) if owned else sdk_copy(client)
        self._rewrites = not owned
        # With a full address the SDK need not join base and path, for which it formats and parses an address at every
        # request. A caller's own client may join them in another way.
        self._base = str(client.base_url).rstrip("/") if owned else ""
        self._response = httpx2.Response
        # Both SDKs have errors with these names in their top-level module.
        base = next(cls for cls in type(client).__mro__ if cls.__name__ == _BASE_CLASS)
        module = sys.modules[base.__module__.partition(".")[0]]
        self._status_error: type[Exception] = module.APIStatusError
        self._connection_error: type[Exception] = module.APIConnectionError

    def with_extras(self, headers: Mapping[str, str], query: Mapping[str, object]) -> SDKTransport:
        """Return a transport over the same connections with additional headers and query parameters."""
        other = copy(self)
        other._client = self._client.copy(default_headers=dict(headers), default_query=dict(query))
        return other

    async def post(self, path: str, content: bytes) -> RawReply:
        try:
            if self._rewrites:
                response = await self._client.post(
                    path,
                    cast_to=self._response,
                    body=orjson.loads(content),
                    options={"max_retries": 0, "timeout": None, "follow_redirects": False},
                )
            else:
                # No headers here: both SDKs send application/json by default, and merging headers costs time.
                response = await self._client.post(self._base + path, cast_to=self._response, content=content)
        except self._status_error as error:
            response = error.response  # type: ignore[attr-defined]
        except Exception as error:
            raise fault_of(error) from error
        # A plain dict: the client's own mapping goes through all headers and decodes them at each of ten lookups.
        headers = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in response.headers.raw}
        return RawReply(response.status_code, headers, response.content)

    async def aclose(self) -> None:
        if self._closes:
            await self._client.close()


def class_names(client: Any) -> frozenset[str]:
    """Return the names of a client's class and its bases, which show what it connects to."""
    return frozenset(cls.__name__ for cls in type(client).__mro__)


def client_problem(client: Any) -> str:
    """Return what is wrong with a caller's client of either SDK, as the end of a sentence; "" if nothing is."""
    return "" if _BASE_CLASS in class_names(client) else f"give the async one (Async{type(client).__name__})"
