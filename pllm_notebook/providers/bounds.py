"""How long a response may be, decompressed: a longer one is cut off while it comes, whatever it says of its length.

A few kilobytes of gzip unfold to gigabytes, and the HTTP libraries under the SDKs read a body whole before anybody can
look at it. So each client decompresses here, piece by piece. Streams of batch results have no limit as a whole; each
of their lines has this one.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from pllm_notebook.protocols import TransportFault
from pllm_notebook.records import FailureKind

__all__ = ["MOST_REPLY_BYTES", "bounded_client", "response_class", "too_long", "unbounded"]

MOST_REPLY_BYTES = 2**25
"""A model's longest answer has less than a hundredth of this."""

# Compressed bytes that are unfolded at once: at most a thousand times as many come of them.
_PIECE_BYTES = 2**14
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}

_limit: ContextVar[int | None] = ContextVar("pllm_most_reply_bytes", default=MOST_REPLY_BYTES)


@contextmanager
def unbounded() -> Iterator[None]:
    """Let the responses to requests that are made within have any length: whoever reads them reads piece by piece."""
    token = _limit.set(None)
    try:
        yield
    finally:
        _limit.reset(token)


def too_long(limit: int) -> TransportFault:
    """Build the fault for a response that was cut off."""
    return TransportFault(
        FailureKind.MALFORMED,
        f"The response is longer than {limit:,} bytes, decompressed, and was cut off. No answer of a model is so long.",
    )


def bounded_client(client: Any) -> Any:
    """Bound the responses of a client of httpx or httpx2, and return it."""
    hooks = client.event_hooks
    client.event_hooks = hooks | {"response": [*hooks.get("response", ()), _bound]}
    # Brotli and Zstandard unfold without a limit in the libraries that read them.
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
        raise TransportFault(FailureKind.MALFORMED, f"The response is compressed in a way not asked for: {encoding!r}.")
    response.stream = _stream_class(type(response).__module__)(response.stream, _WINDOW_BITS[encoding], limit)
    del response.headers["content-encoding"]


def _encoding(headers: Any) -> str:
    """Return how a response is compressed, "" for not."""
    # The library decodes all headers at each look-up, and most responses have no such header.
    for name, _ in headers.raw:
        if name.lower() == b"content-encoding":
            encoding: str = headers["content-encoding"]
            return encoding.strip().lower()
    return ""


@lru_cache(maxsize=8)
def _stream_class(module: str) -> Any:
    """Return the class of bounded streams that a library takes for its own."""
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
    """A stream's pieces as they are, up to a limit. No generator: each would cost every reply its registration."""

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
                unfolder = zlib.decompressobj(-15)  # "deflate" without its head, as some servers send it
                yield unfolder.decompress(part)
            begun = True
    yield unfolder.flush()


@lru_cache(maxsize=1)
def response_class() -> Any:
    """Return the class of responses for a session of aiohttp, which decompresses by itself in small pieces."""
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
