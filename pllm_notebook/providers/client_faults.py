"""Faults for the exceptions of SDK clients: connection or authentication."""

from __future__ import annotations

import traceback

from pllm_notebook.failures import FailureKind
from pllm_notebook.protocols import TransportFault
from pllm_notebook.redaction import redact

__all__ = ["fault_of", "what_broke"]

# SDK functions that run before a request is sent: they fetch tokens and sign.
_BEFORE_SENDING = frozenset(
    {
        "_prepare_options",
        "_prepare_request",
        "_refresh_api_key",
        "_build_request",
        "_async_access_token",
        "_access_token",
        "before_request",
    }
)
# Parts of the standard library's messages about connections and locks of another event loop.
_OTHER_LOOP = ("different loop", "different event loop", "Event loop is closed", "bound to a different")


def fault_of(error: Exception) -> TransportFault:
    """Return the fault for an exception that is not about a response.

    If it was raised before anything was sent, its kind is `authentication`, since nothing else happens by then.
    Otherwise its kind is `connection`, and the request may have arrived.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TransportFault):  # ours, as the SDK wrapped it
            return cause
        cause = cause.__cause__ or cause.__context__
    reason = what_broke(error)
    if not _BEFORE_SENDING.isdisjoint(frame.name for frame in traceback.extract_tb(error.__traceback__)):
        return TransportFault(
            FailureKind.AUTHENTICATION, f"The client could not sign in ({reason}). The request was not sent."
        )
    if any(words in str(error) for words in _OTHER_LOOP):
        reason += (
            ". The connections of this client in clients= belong to another event loop and cannot be copied; pass a "
            "client that has the SDK's own HTTP client"
        )
    return TransportFault(FailureKind.CONNECTION, reason)


def what_broke(error: BaseException) -> str:
    """Describe the original cause of *error*, redacted; the SDKs wrap it in less specific errors."""
    cause = error
    while cause.__cause__ is not None:
        deeper = cause.__cause__
        # Python's own error: the library's error above it has the same text and also names the host.
        plain = type(deeper).__module__ in ("builtins", "socket")
        if plain and isinstance(deeper, OSError) and deeper.strerror and deeper.strerror in str(cause):
            break
        cause = deeper
    said = str(cause)
    if type(cause).__module__ == "aiohttp.http_exceptions":
        # Its text begins with a status, 400, that no server sent.
        said = " ".join(str(getattr(cause, "message", said)).split())
    return redact(f"{type(cause).__name__}: {said}"[:1000])
