"""Copies of a caller's SDK clients for the engine's loop.

A client's open connections belong to the event loop that opened them. A client that was used in a notebook cell would
fail on the engine's loop, and afterwards in the notebook too. A copy has the client's address, account, headers and
settings, but its own connections, which follow no redirects.
"""

from __future__ import annotations

import copy
from typing import Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.providers.bounds import bounded_client
from pllm_notebook.providers.connections import session, with_large_headers

__all__ = ["google_copy", "sdk_copy"]


def sdk_copy(client: Any) -> tuple[Any, bool]:
    """Copy a client of OpenAI's or Anthropic's SDK. Call it on the loop that will use it.

    Args:
        client: The caller's client; never changed or closed.

    Returns:
        The copy, and whether closing it leaves the caller's own client open.

    Raises:
        UsageError: If it is closed. Nothing was sent.
    """
    if client.is_closed():
        raise UsageError(
            f"The {type(client).__name__} in clients= is closed, so nothing can be sent through it. "
            f"Pass a new one to pllm.configure(clients=…). Nothing was sent."
        )
    http, ours = _http_copy(client._client)
    try:
        copied = client.copy(http_client=http, max_retries=0)
    except Exception:
        # A subclass whose constructor takes other arguments. The copy shares the client's resources, which are not
        # used, and rebuilds the chain of middleware.
        copied = copy.copy(client)
        copied._client = http
        if "_middleware_chain" in vars(copied):
            copied._middleware_chain = None
    return copied, ours


def google_copy(client: Any) -> Any:
    """Copy a client of Google's SDK. Call it on the loop that will use it.

    Raises:
        UsageError: If it has the caller's aiohttp session, which works on its own loop only. Nothing was sent.
    """
    from google.genai.client import AsyncClient

    inner = copy.copy(client._api_client)
    options = inner._http_options
    if options.aiohttp_client is not None:
        raise UsageError(
            "The Google client in clients= has an aiohttp session of its own (HttpOptions.aiohttp_client), and a "
            "session works on the event loop that it was made on alone. Give its settings in "
            "HttpOptions.async_client_args, or leave it out. Nothing was sent."
        )
    inner._aiohttp_sessions = {}
    if inner._use_aiohttp():
        inner._http_options = options.model_copy(update={"aiohttp_client": session(str(options.base_url or ""))})
    elif options.httpx_async_client is not None:
        inner._async_httpx_client, _ = _http_copy(options.httpx_async_client)
    else:
        given = dict(inner._async_httpx_client_args) | {"follow_redirects": False}
        inner._async_httpx_client = bounded_client(type(inner._async_httpx_client)(**given))
    return GoogleCopy(inner, AsyncClient(inner))


class GoogleCopy:
    """The parts of `google.genai.Client` that this package uses: the API client and `aio`."""

    def __init__(self, inner: Any, aio: Any) -> None:
        self._api_client = inner
        self.aio = aio


def _http_copy(http: Any) -> tuple[Any, bool]:
    """Copy an httpx or httpx2 client, with its own connections and without redirects."""
    fresh = copy.copy(http)
    fresh.follow_redirects = False
    fresh._state = type(http._state)["UNOPENED"]
    fresh._cookies = type(http._cookies)(http._cookies)
    fresh._transport, ours = _transport_copy(http._transport)
    fresh._mounts = {}
    for pattern, transport in http._mounts.items():
        copied, own = (None, True) if transport is None else _transport_copy(transport)
        fresh._mounts[pattern] = copied
        ours = ours and own
    fresh._headers = type(http._headers)(http._headers)
    return bounded_client(fresh), ours


def _transport_copy(transport: Any) -> tuple[Any, bool]:
    """Copy a transport's settings without its connections; an unknown kind is shared unchanged."""
    fresh = copy.copy(transport)
    if hasattr(transport, "get_client") and hasattr(transport, "ssl_context"):
        with_large_headers(fresh)
        return fresh, True
    pool = getattr(transport, "_pool", None)
    if pool is None or not hasattr(pool, "_connections"):
        return transport, False
    fresh._pool = copy.copy(pool)
    fresh._pool._connections, fresh._pool._requests = [], []
    fresh._pool._optional_thread_lock = type(pool._optional_thread_lock)()
    return fresh, True
