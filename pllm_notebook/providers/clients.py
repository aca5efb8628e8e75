"""The provider and the account of a caller's own SDK clients."""

from __future__ import annotations

import hashlib
import itertools
import re
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from pllm_notebook.credentials import Address, Key, redact_header
from pllm_notebook.exceptions import UnknownModelError, with_article
from pllm_notebook.providers.provider import Provider
from pllm_notebook.providers.registry import sdk_modules
from pllm_notebook.runtime import Locked, Slot

__all__ = ["address_of", "fingerprint", "provider_of_client", "serial_of"]

# Attributes that identify a client's account, if it has them. Tokens that change hourly are left out: they would make
# the same account a different one in the next kernel.
_SAID = ("organization", "project", "project_id", "location", "region", "aws_region", "aws_profile", "vertexai",
         "_api_version", "_azure_deployment")  # fmt: skip
_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|credential|password|signature", re.IGNORECASE)
# A mix of letters and digits that is too long for a name.
_SECRET_VALUE = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w+/=.~-]{20,}")
_KEYS = ("api_key", "auth_token", "aws_access_key", "aws_secret_key")


def provider_of_client(name: str, client: Any) -> Provider:
    """Return the provider whose SDK a client belongs to.

    Args:
        name: The name in `clients=`.
        client: An instance of the SDK's class or of a subclass.

    Raises:
        UnknownModelError: If it is not an async client of a known SDK. Nothing was sent.
    """
    provider = _sdk_of(client)
    kind = type(client).__name__
    if provider is None or provider.sdk is None:
        raise UnknownModelError(
            f"The client {name!r} is {with_article(f'{type(client).__module__}.{kind}')}; expected an async client of "
            f"openai, anthropic or google-genai. Nothing was sent."
        )
    problem = provider.sdk.problem(client)
    if problem:
        raise UnknownModelError(f"The client {name!r} is {with_article(kind)}; {problem}. Nothing was sent.")
    return provider


def _sdk_of(client: Any) -> Provider | None:
    modules = sdk_modules()
    roots = (cls.__module__.partition(".")[0] for cls in type(client).__mro__)
    return next((modules[root] for root in roots if root in modules), None)


def address_of(client: Any) -> str:
    """Return a client's base address, "" for its SDK's default."""
    inner = getattr(client, "_api_client", client)
    options = getattr(inner, "_http_options", None)
    return str(getattr(inner, "base_url", "") or getattr(options, "base_url", "") or "")


def serial_of(client: Any) -> str:
    """Return a text that identifies this client in the process; its `id()` may be reused after its end."""
    return _SERIALS.value.of(client)


class _Serials(Locked):
    """Unique texts for clients, by `id()`. Thread-safe."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count(1)
        self._known: dict[int, tuple[Callable[[], Any], str]] = {}

    def of(self, client: Any) -> str:
        with self.lock:
            known = self._known.get(id(client))
            if known is not None and known[0]() is client:
                return known[1]
            held: Callable[[], Any]
            try:
                held = weakref.ref(client)
            except TypeError:  # kept alive forever, so that no other client gets its id
                held = partial(_itself, client)
            serial = f"client {next(self._numbers)}"
            self._known[id(client)] = held, serial
            return serial


_SERIALS: Slot[_Serials] = Slot("client serials", _Serials, is_kept=True)


def _itself(client: Any) -> Any:
    return client


def _know_headers(inner: Any) -> None:
    """Register secrets in a client's own headers for redaction."""
    options = getattr(inner, "_http_options", None)
    for headers in (getattr(inner, "_custom_headers", None), getattr(options, "headers", None)):
        for name, value in (headers or {}).items():
            if isinstance(value, str) and (_SECRET_HEADER.search(name) or _SECRET_VALUE.fullmatch(value)):
                redact_header(value)


def fingerprint(client: Any) -> str:
    """Return a fingerprint of a client's account that is equal in every kernel and does not reveal its secrets.

    It covers the SDK's class, the address, the organization, project, region and the like, and the key. The caller's
    own headers are left out, since they may differ between kernels.

    Also registers the client's keys and secret headers, so that they are redacted in everything a provider returns.
    """
    inner = getattr(client, "_api_client", client)  # google-genai keeps these one level down
    modules = sdk_modules()
    sdk = next(cls for cls in type(client).__mro__ if cls.__module__.partition(".")[0] in modules)
    # Only text: an SDK has its own objects under some of these names.
    said = [f"{name}={held}" for name in _SAID if isinstance(held := getattr(inner, name, None), (str, bool))]
    keys = [Key(held) if isinstance(held := getattr(inner, name, None), str) else Key("") for name in _KEYS]
    _know_headers(inner)
    address = Address(address_of(client))
    opened = [key.fingerprint(address) for key in keys]
    return hashlib.sha256("\n".join([sdk.__name__, *said, *opened]).encode()).hexdigest()[:12]
