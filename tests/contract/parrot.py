"""A server that repeats, in its reply, everything it was sent: as proxies and providers do when they refuse a key."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from tests.contract.echo import Echo

__all__ = ["ANSWERS", "Parrot"]

ANSWERS: dict[str, dict[str, Any]] = {
    "openai": {"choices": [{"index": 0, "message": {"content": "yes"}, "finish_reason": "stop"}], "model": "m"},
    "anthropic": {"content": [{"type": "text", "text": "yes"}], "stop_reason": "end_turn", "model": "m"},
    "google": {"candidates": [{"content": {"parts": [{"text": "yes"}]}, "finishReason": "STOP"}]},
}
"""An answer of each wire."""


class Parrot(Echo):
    """Args:
    status: Of every reply.
    page: Whether the reply is a page, and not the error that a provider documents.
    """

    def __init__(self, status: int, *, page: bool = False) -> None:
        super().__init__({}, status)
        self._page = page

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.path_qs, headers, await request.json()))
        bare = " ".join(value.removeprefix("Bearer ") for value in headers.values())
        said = f"Refused {request.url}: {json.dumps(headers)}, that is {bare}"
        if self._page:
            return web.Response(text=f"<html>{said}</html>", status=self._status, content_type="text/html")
        return web.json_response({"error": {"message": said, "type": "odd", "code": "odd"}}, status=self._status)
