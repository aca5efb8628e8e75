"""Exceptions for a batch API's errors, by whether the request may have been carried out.

Only after a definite rejection is it certain that the request was not carried out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.protocols import BatchRefused, TransportFault
from pllm_notebook.providers.client_faults import fault_of
from pllm_notebook.providers.connections import RedirectRefused
from pllm_notebook.redaction import redact

__all__ = [
    "ASK_S",
    "IDLE_S",
    "connection_lost",
    "deadline",
    "ignore_missing",
    "malformed",
    "network",
    "to_exception",
    "upload_timeout_s",
]

# Time limit for a request and a response of a few kilobytes.
ASK_S = 60.0
# Time limit between two pieces of a stream of results.
IDLE_S = 120.0
# A request file may take as long as a 400 kbit/s connection needs; providers may check it before they respond.
_CHECKING_S = 120.0
_SLOWEST_BYTES_PER_S = 50_000

# Timeout, conflict and "too early": each can follow a request that was accepted.
_UNCERTAIN = frozenset({408, 409, 425})


def to_exception(failure: Failure, definite: frozenset[int] = frozenset()) -> BatchRefused | TransportFault:
    """Return the exception for an error response.

    Args:
        failure: The failure that a wire's `error_from` returned.
        definite: Statuses that are a definite rejection of this request, though not of others.
    """
    status = failure.status or 0
    # A redirect was not followed, so nothing was carried out.
    certain = 300 <= status < 500 and status not in _UNCERTAIN and not failure.kind.retried
    if certain or status in definite:
        return BatchRefused(status, failure.message)
    return TransportFault(failure.kind if failure.kind.retried else FailureKind.SERVER, failure.message)


def connection_lost(error: Exception) -> TransportFault:
    """Return the fault for a request without a response."""
    return fault_of(error)


def malformed(what: str) -> TransportFault:
    """Return the fault for a successful response with unusable content."""
    return TransportFault(FailureKind.MALFORMED, redact(f"The provider's answer is not what it documents: {what}."))


def upload_timeout_s(size_bytes: int) -> float:
    """Return the time limit for uploading a request file, in seconds."""
    return _CHECKING_S + size_bytes / _SLOWEST_BYTES_PER_S


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Limit the time of the enclosed block.

    Raises:
        TransportFault: If the block takes longer.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise TransportFault(FailureKind.TIMEOUT, f"No answer within {seconds:.0f} s.") from None


@contextmanager
def network() -> Iterator[None]:
    """Convert exceptions of the HTTP libraries under the SDKs to faults; the SDKs do not wrap all of them."""
    import aiohttp
    import httpx2

    try:
        yield
    except RedirectRefused as redirect:
        raise BatchRefused(redirect.status, f"{redirect}.") from redirect
    except (aiohttp.ClientError, httpx2.HTTPError, httpx2.StreamError, ConnectionError) as error:
        raise connection_lost(error) from error


@contextmanager
def ignore_missing(*statuses: int) -> Iterator[None]:
    """Ignore a rejection with one of these statuses: the file to be deleted does not exist."""
    try:
        yield
    except BatchRefused as refusal:
        if refusal.status not in statuses:
            raise
