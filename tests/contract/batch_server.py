"""An HTTP server that answers as a test says, for what no simulator does: odd jobs, torn streams, strange statuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.contract.served import Served

__all__ = ["Asked", "BatchServer", "Torn"]


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Torn:
    """A stream of lines; one that is not whole ends with its connection."""

    lines: list[bytes]
    whole: bool = False


Answer = Callable[[Asked], "tuple[int, Any] | Torn | AsyncIterator[bytes] | None"]


class BatchServer(Served):
    """Serves while it is open.

    Args:
        answer: Gives status and JSON, a `Torn`, pieces to stream, or None for a connection that is reset.

    Attributes:
        asked: Every request in order; of bodies beyond a megabyte only the size is kept, in `sizes`.
        left: How many clients went away in the middle of a stream.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.asked: list[Asked] = []
        self.sizes: list[int] = []
        self.left = 0
        self._answer = answer

    @property
    def paths(self) -> list[str]:
        return [f"{each.method} {each.path}" for each in self.asked]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body, size = b"", 0
        while piece := await request.content.readany():
            size += len(piece)
            body += piece if len(body) < 1 << 20 else b""
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(request.method, request.path_qs, headers, body)
        self.asked.append(asked)
        self.sizes.append(size)
        answer = self._answer(asked)
        if answer is None:
            return _cut(request)
        if isinstance(answer, tuple):
            status, value = answer
            about = value.pop("headers", {}) if isinstance(value, dict) else {}
            return web.json_response(value, status=status, headers=about)
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            async for piece in _pieces(answer) if isinstance(answer, Torn) else answer:
                await response.write(piece)
        except ConnectionError:
            self.left += 1
            raise
        if isinstance(answer, Torn) and not answer.whole:
            await asyncio.sleep(0)
            return _cut(request)
        await response.write_eof()
        return response


async def _pieces(torn: Torn) -> AsyncIterator[bytes]:
    for line in torn.lines:
        yield line


def _cut(request: web.BaseRequest) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
