"""Call Gemini's batch API through google-genai.

The SDK's `batches` resource drops a job's counts and errors, so jobs are read with the client's own `async_request`,
one level below. Files go through its `files` resource, which streams them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from pllm_notebook.protocols import BatchRefused, TransportFault
from pllm_notebook.providers.batch.errors import ASK_S, deadline, malformed, network, to_exception, upload_timeout_s
from pllm_notebook.providers.bounds import unbounded
from pllm_notebook.providers.google.generate import Generate
from pllm_notebook.providers.google.transport import GenaiTransport
from pllm_notebook.types import RawReply

__all__ = ["GenaiAccount"]


class GenaiAccount:
    """One account at one address.

    Args:
        transport: The transport of live calls; closed together with this account.
    """

    def __init__(self, transport: GenaiTransport) -> None:
        self._transport = transport
        self._client = transport._client
        self._api_error: Any = transport._api_error
        self._types = transport._types
        self._error_from = Generate().error_from

    async def ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        seconds: float = ASK_S,
        definite: frozenset[int] = frozenset(),
    ) -> dict[str, Any]:
        """Send one request, once, and return the response's JSON object.

        Args:
            method: "get", "post" or "delete".
            path: Path below the address and the API's version.
            body: JSON object to send, None for an empty one.
            seconds: Time limit.
            definite: As for `to_exception`.

        Raises:
            BatchRefused: If the request was definitely rejected.
            TransportFault: If the request may have been carried out.
        """
        async with deadline(seconds):
            with self._mapped(definite):
                response = await self._client._api_client.async_request(method, path, body or {}, self._once())
                answer = orjson.loads(response.body or "{}")
        if not isinstance(answer, dict):
            raise malformed("not a JSON object")
        return answer

    async def upload(self, lines: Path, label: str) -> str:
        """Upload a file in pieces and return its name. Raises as `ask` does.

        The SDK sends a piece again that got no response, at most three times. This is safe, as a piece has its offset.
        """
        config = self._types.UploadFileConfig(display_name=label, mime_type="jsonl", http_options=self._once())
        async with deadline(upload_timeout_s(lines.stat().st_size)):
            with self._mapped():
                file = await self._client.aio.files.upload(file=str(lines), config=config)
        if not file.name:
            raise malformed("a file without a name")
        return str(file.name)

    async def download(self, file: str) -> AsyncGenerator[bytes]:
        """Yield a file's bytes as they arrive. Raises as `ask` does."""
        pieces: asyncio.Queue[bytes] = asyncio.Queue()
        task = asyncio.create_task(self._fill(pieces, file))
        # An empty piece ends the loop, also if the download failed; awaiting the task then raises its error.
        task.add_done_callback(lambda _: pieces.put_nowait(b""))
        try:
            while piece := await pieces.get():
                yield piece
                pieces.task_done()
            await task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, BatchRefused, TransportFault):
                await task

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _fill(self, pieces: asyncio.Queue[bytes], file: str) -> None:
        config = self._types.DownloadFileConfig(http_options=self._once())
        with self._mapped(), unbounded():
            await self._client.aio.files.download(file=file, destination=_Pipe(pieces), config=config)

    def _once(self) -> Any:
        # By default the SDK waits up to 10 s after a lost connection and sends the request again.
        return self._types.HttpOptions(retry_options=self._types.HttpRetryOptions(attempts=1))

    @contextmanager
    def _mapped(self, definite: frozenset[int] = frozenset()) -> Iterator[None]:
        try:
            with network():
                yield
        except self._api_error as error:
            headers = {name.lower(): value for name, value in (getattr(error.response, "headers", None) or {}).items()}
            raw = RawReply(int(error.code or 500), headers, orjson.dumps(error.details, default=str))
            raise to_exception(self._error_from(raw), definite) from error
        except (ValueError, KeyError) as error:  # the SDK parses error pages as JSON, and then misses headers
            raise malformed(f"{type(error).__name__}: {error}") from error


class _Pipe:
    """The file that the SDK writes a download to. Each piece waits until it is read, so only one is in memory."""

    def __init__(self, pieces: asyncio.Queue[bytes]) -> None:
        self._pieces = pieces

    async def write(self, piece: bytes) -> None:
        if piece:
            self._pieces.put_nowait(piece)
            await self._pieces.join()
