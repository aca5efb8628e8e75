"""Bodies and files: read up to a size limit, split into lines without a copy, and sent in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from pllm_notebook.sim import http
from pllm_notebook.sim.wire_types import Rejected

__all__ = ["body_of", "json_of", "lines_in", "number_in", "packed", "reply", "stamp", "stream"]

_PIECE = 1 << 16


def lines_in(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield each non-blank line with its line number, counted from 1."""
    view, start, number = memoryview(data), 0, 0
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        number += 1
        # Blank lines are skipped; the first bytes are enough to recognize them.
        if end > start and data[start : start + 80].strip(b" \t\r\n"):
            yield number, view[start:end]
        start = end + 1


def packed(data: bytes) -> bytes:
    """Return a copy of *data* without excess memory, for output of orjson that is kept.

    orjson 3.13 writes into a buffer of 8 kB and does not free the unused part: 50,000 lines of 1 kB, kept as
    returned, take 390 MB.
    """
    return bytes(memoryview(data))


async def body_of(request: web.BaseRequest, most: int, words: str) -> bytes:
    """Read a body of at most *most* bytes. Raises `Rejected` with 413 and *words*."""
    if (request.content_length or 0) > most:
        raise Rejected(413, words)
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Rejected(413, words) from None
    if len(body) > most:
        raise Rejected(413, words)
    return body


async def json_of(
    request: web.BaseRequest, most: int = 1 << 20, words: str = "Request is too large."
) -> dict[str, Any]:
    """Read a body that is a JSON object. Raises `Rejected`."""
    raw = await body_of(request, most, words)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Rejected(400, f"We could not parse the JSON body of your request: {error}") from None
    if not isinstance(body, dict):
        raise Rejected(400, "The request's body is not a JSON object.")
    return body


def number_in(request: web.BaseRequest, name: str, default: int, most: int) -> int:
    """Return an integer from 1 to *most* from the query. Raises `Rejected`."""
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise Rejected(400, f"{name}: expected a whole number from 1 to {most}, not {text!r}", param=name)
    return int(text)


def reply(value: Any, headers: Sequence[tuple[str, str]] = ()) -> http.BuiltResponse:
    """Return a JSON response."""
    return http.BuiltResponse(http.assemble(200, orjson.dumps(value), headers))


async def stream(request: web.BaseRequest, lines: Sequence[bytes]) -> web.StreamResponse:
    """Send a file of lines, including their line ends, no faster than the client reads it."""
    response = web.StreamResponse(headers={"x-simulated": "true", "content-type": "application/octet-stream"})
    response.content_length = sum(map(len, lines))
    await response.prepare(request)
    for piece in _pieces(lines):
        await response.write(piece)
    await response.write_eof()
    return response


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= _PIECE:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def stamp(seconds: float) -> str:
    """Return a time in RFC 3339 format, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
