"""The HTTP connections under the SDKs: redirects, cookies, header sizes, proxies.

An SDK's default connection follows redirects, and so sends the request's body, and for some SDKs the key, to any host
that a response names. These connections follow none. They keep no cookies, accept headers above the library's default
size, and use the environment's proxies, as users on a company network expect.
"""

from __future__ import annotations

import urllib.request
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

from pllm_notebook.providers.bounds import bounded_client, response_class
from pllm_notebook.redaction import redact

__all__ = ["RedirectRefused", "over_aiohttp", "place_of", "session", "stop_redirects", "with_large_headers"]

# Gateways add tracing and policy headers; aiohttp's default limit is 8,190 bytes for one line.
_MOST_HEADER_BYTES = 256 * 1024
_MOST_HEADERS = 512


class RedirectRefused(Exception):
    """A redirect that was not followed.

    Attributes:
        status: The HTTP status.
        location: The target, as the response names it.
    """

    def __init__(self, status: int, location: str) -> None:
        self.status = status
        self.location = location
        super().__init__(f"HTTP {status}: redirect to {place_of(location)}, not followed")


def place_of(location: str) -> str:
    """Return the printable part of a redirect's location: scheme, host and path, without login and query."""
    try:
        parts = urlsplit(location)
        netloc = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an address that cannot be read"
    shown = f"{parts.scheme}://{netloc}{parts.path}" if netloc else parts.path
    return redact(shown[:200]) or "an address that is not named"


def over_aiohttp(default: type[Any]) -> Any:
    """Build the HTTP client for an OpenAI or Anthropic client. Call it on the loop that will use it.

    Args:
        default: The SDK's `DefaultAioHttpClient`.
    """
    client = default(timeout=None, follow_redirects=False, cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])))
    for transport in (client._transport, *client._mounts.values()):
        with_large_headers(transport)
    return bounded_client(client)


def with_large_headers(transport: Any) -> None:
    """Allow large headers on an SDK's aiohttp transport, and open its connections on the loop that uses it."""
    if hasattr(transport, "get_client") and hasattr(transport, "ssl_context"):
        transport.client = lambda: _session_under(transport)


def _session_under(transport: Any) -> Any:
    import aiohttp

    limits = transport.limits
    common: dict[str, Any] = {"keepalive_timeout": limits.keepalive_expiry}
    if limits.max_connections is not None:
        common["limit"] = limits.max_connections
    local = (transport.local_address, 0) if transport.local_address else None
    connector = (
        aiohttp.UnixConnector(path=transport.uds, **common)
        if transport.uds
        else aiohttp.TCPConnector(ssl=transport.ssl_context, local_addr=local, **common)
    )
    return aiohttp.ClientSession(connector=connector, **_reading())


def session(address: str) -> Any:
    """Build the aiohttp session of a Google client. Call it on the loop that will use it.

    Args:
        address: The base address, which determines the environment's proxy; "" for Google's own.
    """
    import aiohttp

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        # `trust_env` would also send a login from ~/.netrc, so the proxy is looked up here.
        proxy=_proxy_of(address or "https://generativelanguage.googleapis.com/"),
        read_bufsize=2**22,  # as the SDK's own session has it
        trace_configs=[_no_redirects()],
        response_class=response_class(),
        **_reading(),
    )


def _reading() -> dict[str, Any]:
    import aiohttp

    return {
        "max_line_size": _MOST_HEADER_BYTES,
        "max_field_size": _MOST_HEADER_BYTES,
        "max_headers": _MOST_HEADERS,
        "cookie_jar": aiohttp.DummyCookieJar(),
    }


def _no_redirects() -> Any:
    """Return the trace configuration that stops requests at a redirect, even if the SDK allows it."""
    import aiohttp

    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(stop_redirects)
    return tracing


async def stop_redirects(session: object, context: object, about: Any) -> None:
    """Stop an aiohttp request at a redirect (see `aiohttp.TraceConfig.on_request_redirect`)."""
    response = about.response
    location = response.headers.get("location") or response.headers.get("uri") or ""
    response.close()
    raise RedirectRefused(response.status, location)


def _proxy_of(address: str) -> str | None:
    parts = urlsplit(address)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
