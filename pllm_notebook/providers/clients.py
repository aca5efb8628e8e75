"""SDK clients of the caller's own: whose they are, and what tells their accounts apart."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from pllm_notebook.credentials import Address, Key, redact_header
from pllm_notebook.exceptions import UnknownModelError
from pllm_notebook.providers.provider import Provider
from pllm_notebook.providers.registry import sdk_modules

__all__ = ["address_of", "fingerprint", "provider_of_client"]

# What clients say of their account, each those that it has. Tokens that are made anew every hour are not among
# them: with one, the same account would be another in the next kernel.
_SAID = ("organization", "project", "project_id", "location", "region", "aws_region", "aws_profile", "vertexai",
         "_api_version", "_azure_deployment")  # fmt: skip
_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|credential|password|signature", re.IGNORECASE)
# A word of letters and digits that is too long for a name.
_SECRET_VALUE = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w+/=.~-]{20,}")
_KEYS = ("api_key", "auth_token", "aws_access_key", "aws_secret_key")


def provider_of_client(name: str, client: Any) -> Provider:
    """Return whose SDK a client is of.

    Args:
        name: Under which the caller has configured it.
        client: Of the SDK's class, or of one of the caller's own over that.

    Raises:
        UnknownModelError: If it is not an async client of an SDK that is known. Nothing was sent.
    """
    provider = _sdk_of(client)
    kind = type(client).__name__
    if provider is None or provider.sdk is None:
        raise UnknownModelError(
            f"The client {name!r} is a {type(client).__module__}.{kind}; expected an async client of "
            f"openai, anthropic or google-genai. Nothing was sent."
        )
    problem = provider.sdk.problem(client)
    if problem:
        raise UnknownModelError(f"The client {name!r} is a {kind}; {problem}. Nothing was sent.")
    return provider


def _sdk_of(client: Any) -> Provider | None:
    modules = sdk_modules()
    roots = (cls.__module__.partition(".")[0] for cls in type(client).__mro__)
    return next((modules[root] for root in roots if root in modules), None)


def address_of(client: Any) -> str:
    """Return the base address that a client has, "" for its SDK's own."""
    inner = getattr(client, "_api_client", client)
    options = getattr(inner, "_http_options", None)
    return str(getattr(inner, "base_url", "") or getattr(options, "base_url", "") or "")


def _know_headers(inner: Any) -> None:
    """Redact secrets in a client's own headers from every text from now on."""
    options = getattr(inner, "_http_options", None)
    for headers in (getattr(inner, "_custom_headers", None), getattr(options, "headers", None)):
        for name, value in (headers or {}).items():
            if isinstance(value, str) and (_SECRET_HEADER.search(name) or _SECRET_VALUE.fullmatch(value)):
                redact_header(value)


def fingerprint(client: Any) -> str:
    """Return a fingerprint of a client's account, equal in every kernel, without keeping what would open it.

    Made of what the client says of itself: the SDK's class, the address, organization, project, region and so on,
    and the key. Headers of the caller's own are left out, since they differ from kernel to kernel.

    A client's keys are made known here, and are from then on taken out of what a provider says of it.
    """
    inner = getattr(client, "_api_client", client)  # google-genai has all of it one below
    modules = sdk_modules()
    sdk = next(cls for cls in type(client).__mro__ if cls.__module__.partition(".")[0] in modules)
    # Words alone: an SDK has objects of its own under some of these names.
    said = [f"{name}={held}" for name in _SAID if isinstance(held := getattr(inner, name, None), (str, bool))]
    keys = [Key(held) if isinstance(held := getattr(inner, name, None), str) else Key("") for name in _KEYS]
    _know_headers(inner)
    address = Address(address_of(client))
    opened = [key.fingerprint(address) for key in keys]
    return hashlib.sha256("\n".join([sdk.__name__, *said, *opened]).encode()).hexdigest()[:12]
