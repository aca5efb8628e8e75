"""Requests to a batch API through the OpenAI and Anthropic SDKs, which share one client design.

They use the clients' own `get`, `post` and `delete` with raw bodies, because the `batches` resources cannot turn off
retries for one call, keep whole request lists in memory, and build models of every result.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

import orjson

from pllm_notebook.failures import Failure
from pllm_notebook.providers.batch.errors import (
    ASK_S,
    IDLE_S,
    connection_lost,
    deadline,
    malformed,
    network,
    to_exception,
)
from pllm_notebook.providers.bounds import unbounded
from pllm_notebook.providers.sdk_transport import SDKTransport, class_names
from pllm_notebook.types import RawReply, RemoteJob

__all__ = ["SDKBatchAccount"]

_PAGE = 100


class SDKBatchAccount:
    """One account at one address.

    Args:
        transport: The transport of live calls; closed together with this account.
        error_from: Reads the provider's error bodies.
    """

    def __init__(self, transport: SDKTransport, error_from: Callable[[RawReply], Failure]) -> None:
        import httpx2

        self._transport = transport
        self._client = transport._client
        self._response = httpx2.Response
        self._status_error: Any = transport._status_error
        self._connection_error: Any = transport._connection_error
        self._error_from = error_from

    @property
    def client_names(self) -> frozenset[str]:
        """The names of the client's class and its bases (see `class_names`)."""
        return class_names(self._client)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        seconds: float = ASK_S,
        definite: frozenset[int] = frozenset(),
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        **sent: Any,
    ) -> dict[str, Any]:
        """Send one request, once, and return the response's JSON object.

        Args:
            method: "get", "post" or "delete".
            path: Path below the base address.
            seconds: Time limit.
            definite: As for `to_exception`.
            params: Query parameters.
            headers: Headers in addition to those of every call.
            sent: `body`, `content` or `files`, as the SDK's `post` takes them.

        Raises:
            BatchRefused: If the request was definitely rejected.
            TransportFault: If the request may have been carried out.
        """
        async with deadline(seconds):
            response = await self._send(method, path, definite, params, headers, sent)
        try:
            answer = orjson.loads(response.content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise malformed("not a JSON object")
        return answer

    async def stream(self, path: str) -> AsyncGenerator[bytes]:
        """Yield a response's bytes as they arrive. Raises as `ask` does."""
        async with deadline(IDLE_S):
            with unbounded():
                response = await self._send("get", path, frozenset(), None, None, {"stream": True})
        try:
            async for chunk in response.aiter_bytes():
                yield chunk
        finally:
            await response.aclose()

    async def recent(
        self, path: str, cursor: str, read: Callable[[dict[str, Any]], RemoteJob], since: float
    ) -> AsyncGenerator[RemoteJob]:
        """Yield the jobs that were created at or after *since*, page by page. Raises as `ask` does.

        Args:
            path: Path of the list.
            cursor: Query parameter for the id of the previous page's last job.
            read: Parses one job.
            since: Seconds since the epoch.
        """
        params: dict[str, Any] = {"limit": _PAGE}
        while True:
            page = await self.ask("get", path, params=params)
            jobs = [read(each) for each in page.get("data") or []]
            young = [job for job in jobs if job.created_at >= since]
            for job in young:
                yield job
            # The newest page comes first. The order of jobs within a page is not relied on.
            if not young or not page.get("has_more"):
                return
            params[cursor] = jobs[-1].id

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _send(
        self,
        method: str,
        path: str,
        definite: frozenset[int],
        params: dict[str, Any] | None,
        headers: dict[str, str] | None,
        sent: dict[str, Any],
    ) -> Any:
        # Set for each request, so that it applies to a caller's own client too.
        options: dict[str, Any] = {"max_retries": 0, "timeout": None, "follow_redirects": False}
        if params:
            options["params"] = params
        if headers:
            options["headers"] = headers
        try:
            with network():
                return await getattr(self._client, method)(path, cast_to=self._response, options=options, **sent)
        except self._status_error as error:
            response = error.response
            about = {name.lower(): value for name, value in response.headers.items()}
            raise to_exception(
                self._error_from(RawReply(response.status_code, about, response.content)), definite
            ) from error
        except self._connection_error as error:
            raise connection_lost(error) from error
