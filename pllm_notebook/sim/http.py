"""HTTP responses as bytes, complete or with transport faults."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

__all__ = ["BuiltResponse", "assemble", "cut_body", "drip", "reset"]

_REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Site Overloaded"}
_PIECES = 200


class BuiltResponse(web.StreamResponse):
    """A response with prebuilt bytes.

    An ordinary aiohttp response takes 10 µs longer: it builds a header map, a date and a writer.
    """

    def __init__(self, data: bytes = b"") -> None:
        super().__init__()
        self._data = data
        self._keep_alive = True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the bytes to the connection if it is still open."""
        transport = request.transport
        if self._data and transport is not None and not transport.is_closing():
            transport.write(self._data)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: the bytes already include the content length."""


def assemble(
    status: int, body: bytes, headers: Iterable[tuple[str, str]] = (), content_type: str = "application/json"
) -> bytes:
    """Return the bytes of a complete response."""
    more = "".join([f"{name}: {value}\r\n" for name, value in headers])
    head = (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}\r\ncontent-type: {content_type}\r\n"
        f"x-simulated: true\r\n{more}content-length: {len(body)}\r\n\r\n"
    )
    return head.encode("latin-1", "replace") + body


def reset(request: web.BaseRequest) -> BuiltResponse:
    """Reset the connection without a response."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            # A linger time of zero makes close() send a reset instead of an orderly shutdown.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return BuiltResponse()


def cut_body(request: web.BaseRequest, data: bytes) -> BuiltResponse:
    """Send a response up to the middle of its body, then close the connection."""
    transport = request.transport
    if transport is not None:
        start = data.index(b"\r\n\r\n") + 4
        transport.write(data[: start + (len(data) - start) // 2])
        transport.close()
    return BuiltResponse()


async def drip(request: web.BaseRequest, data: bytes, over_s: float) -> BuiltResponse:
    """Send a response in small pieces over *over_s* seconds (single bytes, up to 200 pieces)."""
    start = data.index(b"\r\n\r\n") + 4
    body = data[start:]
    size = max(1, -(-len(body) // _PIECES))
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    transport = request.transport
    if transport is None:
        return BuiltResponse()
    transport.write(data[:start])
    for piece in pieces:
        await asyncio.sleep(over_s / len(pieces))
        if transport.is_closing():
            break
        transport.write(piece)
    return BuiltResponse()
