"""A limit on the decompressed size of responses: a longer one is cut off as it arrives, whatever its headers claim.

A few kilobytes of gzip may expand to gigabytes, and the HTTP libraries under the SDKs read a whole body before its
size can be checked. So each client decompresses here, piece by piece. Streams of batch results have no limit as a
whole, but each of their lines has one.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from pllm_notebook.failures import FailureKind
from pllm_notebook.protocols import TransportFault

__all__ = ["MOST_REPLY_BYTES", "bounded_client", "response_class", "too_long", "unbounded"]

MOST_REPLY_BYTES = 2**25
"""32 MiB, more than a hundred times a model's longest answer."""

# Compressed bytes to expand at a time: they yield at most a thousand times as many.
_PIECE_BYTES = 2**14
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}

_limit: ContextVar[int | None] = ContextVar("pllm_most_reply_bytes", default=MOST_REPLY_BYTES)


@contextmanager
def unbounded() -> Iterator[None]:
    """Lift the limit for requests in the block. Their responses must be read piece by piece."""
    token = _limit.set(None)
    try:
        yield
    finally:
        _limit.reset(token)


def too_long(limit: int) -> TransportFault:
    """Return the fault for a response that was cut off."""
    return TransportFault(
        FailureKind.MALFORMED,
        f"The response is longer than {limit:,} bytes, decompressed, and was cut off. No answer of a model is so long.",
    )


def bounded_client(client: Any) -> Any:
    """Limit the responses of an httpx or httpx2 client, and return it."""
    hooks = client.event_hooks
    client.event_hooks = hooks | {"response": [*hooks.get("response", ()), _bound]}
    # The libraries for Brotli and Zstandard cannot limit what they expand.
    client.headers["accept-encoding"] = "gzip, deflate"
    return client


async def _bound(response: Any) -> None:
    limit = _limit.get()
    if limit is None:
        return
    encoding = _encoding(response.headers)
    if encoding in ("", "identity"):
        response.stream = _stream_class(type(response).__module__)(response.stream, None, limit)
        return
    if encoding not in _WINDOW_BITS:
        raise TransportFault(FailureKind.MALFORMED, f"The response has an unrequested encoding: {encoding!r}.")
    response.stream = _stream_class(type(response).__module__)(response.stream, _WINDOW_BITS[encoding], limit)
    del response.headers["content-encoding"]


def _encoding(headers: Any) -> str:
    """Return a response's content encoding, "" for none."""
    # Each lookup by name decodes all headers, and most responses have no such header.
    for name, _ in headers.raw:
        if name.lower() == b"content-encoding":
            encoding: str = headers["content-encoding"]
            return encoding.strip().lower()
    return ""


@lru_cache(maxsize=8)
def _stream_class(module: str) -> Any:
    """Return a class of limited streams that an HTTP library accepts as its own."""
    library = sys.modules[module.partition(".")[0]]

    class Bounded(library.AsyncByteStream):  # type: ignore[misc, name-defined]
        """A response's bytes, decompressed, up to a limit."""

        def __init__(self, inner: Any, window_bits: int | None, limit: int) -> None:
            self._inner = inner
            self._window_bits = window_bits
            self._limit = limit

        def __aiter__(self) -> AsyncIterator[bytes]:
            if self._window_bits is None:
                return _Counted(self._inner, self._limit)
            return self._decompressed(self._window_bits)

        async def _decompressed(self, window_bits: int) -> AsyncIterator[bytes]:
            left = self._limit
            try:
                async for piece in _unfolded(self._inner, window_bits):
                    left -= len(piece)
                    if left < 0:
                        raise too_long(self._limit)
                    yield piece
            except zlib.error as error:
                raise library.DecodingError(str(error)) from error

        async def aclose(self) -> None:
            await self._inner.aclose()

    return Bounded


class _Counted:
    """A stream's pieces, unchanged, up to a limit.

    Not a generator, since the event loop registers each one, which costs time on every reply.
    """

    __slots__ = ("_left", "_limit", "_next")

    def __init__(self, pieces: Any, limit: int) -> None:
        self._next: Callable[[], Awaitable[bytes]] = aiter(pieces).__anext__
        self._left = self._limit = limit

    def __aiter__(self) -> _Counted:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._next()
        self._left -= len(piece)
        if self._left < 0:
            raise too_long(self._limit)
        return piece


async def _unfolded(pieces: Any, window_bits: int) -> AsyncIterator[bytes]:
    unfolder = zlib.decompressobj(window_bits)
    begun = False
    async for piece in pieces:
        for at in range(0, len(piece), _PIECE_BYTES):
            part = piece[at : at + _PIECE_BYTES]
            try:
                yield unfolder.decompress(part)
            except zlib.error:
                if begun or window_bits != 15:
                    raise
                unfolder = zlib.decompressobj(-15)  # "deflate" without its header, as some servers send it
                yield unfolder.decompress(part)
            begun = True
    yield unfolder.flush()


@lru_cache(maxsize=1)
def response_class() -> Any:
    """Return a limited response class for an aiohttp session. aiohttp itself decompresses in small pieces."""
    import aiohttp

    class BoundedResponse(aiohttp.ClientResponse):
        """A response whose body is read up to a limit."""

        async def read(self) -> bytes:
            """Read the body."""
            limit = _limit.get()
            if self._body is None and limit is not None:
                left, pieces = limit, []
                try:
                    async for piece in self.content.iter_any():
                        left -= len(piece)
                        if left < 0:
                            raise too_long(limit)
                        pieces.append(piece)
                except BaseException:
                    self.close()
                    raise
                self._body = b"".join(pieces)
            return await super().read()

    return BoundedResponse
