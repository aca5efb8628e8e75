"""An HTTP server that answers every address alike and keeps what it was sent."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.contract.served import Served

__all__ = ["Echo"]


class Echo(Served):
    """For clients whose addresses no simulator has.

    Args:
        body: What every request is answered with.
        status: With which status.

    Attributes:
        requests: Path with query, headers and body of each request.
    """

    def __init__(self, body: Any, status: int = 200) -> None:
        super().__init__()
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self._body = body
        self._status = status

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.path_qs, headers, await request.json()))
        return web.json_response(self._body, status=self._status)
