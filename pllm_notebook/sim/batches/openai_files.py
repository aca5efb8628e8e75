"""OpenAI's files, as far as batch jobs need them: upload, get, list, read, delete."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import BodyPartReader, web

from pllm_notebook.sim.batches.backend import Account, BatchBackend
from pllm_notebook.sim.batches.batch_io import number_in, reply, stream
from pllm_notebook.sim.wire_types import Rejected

__all__ = ["File", "OpenAIFiles", "listing", "page"]

_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_MAX_BYTES = 200_000_000
_MAX_LISTED = 10_000


@dataclass(slots=True, eq=False)
class File:
    """A file, as a single piece if uploaded, or as the lines of a job's results."""

    id: str
    name: str
    purpose: str
    created_at: float
    pieces: Sequence[bytes]

    def shown(self) -> dict[str, Any]:
        """Return the file in the format of the API."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": sum(map(len, self.pieces)),
            "created_at": int(self.created_at),
            "expires_at": None,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }


class OpenAIFiles:
    """POST and GET /files, GET and DELETE /files/{id}, GET /files/{id}/content."""

    def __init__(self, backend: BatchBackend) -> None:
        self._backend = backend

    async def serve(self, request: web.BaseRequest, account: Account, parts: list[str]) -> web.StreamResponse | None:
        """Answer a request under /files. Return None if there is no such endpoint."""
        method = request.method
        if not parts:
            if method == "POST":
                return await self._upload(request, account)
            return self._list(request, account) if method == "GET" else None
        file = account.files.get(parts[0])
        if file is None:
            raise Rejected(404, f"No such File object: {parts[0]}", param="id")
        if len(parts) == 1 and method == "GET":
            return reply(file.shown())
        if len(parts) == 1 and method == "DELETE":
            del account.files[file.id]
            return reply({"id": file.id, "object": "file", "deleted": True})
        if parts[1:] == ["content"] and method == "GET":
            return await stream(request, file.pieces)
        return None

    def add(self, account: Account, name: str, purpose: str, pieces: Sequence[bytes]) -> File:
        """Store a file."""
        file = File(f"file-{secrets.token_hex(12)}", name, purpose, self._backend.now(), pieces)
        account.files[file.id] = file
        return file

    async def _upload(self, request: web.BaseRequest, account: Account) -> web.StreamResponse:
        if not request.content_type.startswith("multipart/"):
            raise Rejected(400, "The request is not multipart/form-data.", param="file")
        most = self._backend.options.batch_most_bytes or _MAX_BYTES
        name, purpose, data = "", "", None
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                continue
            if part.name == "purpose":
                purpose = await part.text()
            elif part.name == "file":
                name, data = part.filename or "upload", await _read(part, most)
        if data is None:
            raise Rejected(400, "'file' is a required property", param="file")
        if purpose not in _PURPOSES:
            raise Rejected(
                400, f"'{purpose}' is not one of {list(_PURPOSES)} - 'purpose'", code="invalid_value", param="purpose"
            )
        if not data:
            raise Rejected(400, "File is empty.", code="empty_file", param="file")
        return reply(self.add(account, name, purpose, [data]).shown())

    def _list(self, request: web.BaseRequest, account: Account) -> web.StreamResponse:
        files = list(account.files.values())
        if request.query.get("order", "desc") == "desc":
            files.reverse()
        if purpose := request.query.get("purpose"):
            files = [file for file in files if file.purpose == purpose]
        shown, more = page(files, request.query.get("after"), number_in(request, "limit", _MAX_LISTED, _MAX_LISTED))
        return reply(listing([file.shown() for file in shown], more))


def page(items: list[Any], after: str | None, limit: int) -> tuple[list[Any], bool]:
    """Return the *limit* items after the one with the id *after*, and whether more follow. Raises `Rejected`."""
    if after:
        at = next((at for at, item in enumerate(items) if item.id == after), None)
        if at is None:
            raise Rejected(404, f"No object found with id '{after}'.", param="after")
        items = items[at + 1 :]
    return items[:limit], len(items) > limit


def listing(shown: list[dict[str, Any]], more: bool) -> dict[str, Any]:
    """Return a page in OpenAI's format."""
    ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {"first_id": None, "last_id": None}
    return {"object": "list", "data": shown, **ends, "has_more": more}


async def _read(part: BodyPartReader, most: int) -> bytes:
    data = bytearray()
    while chunk := await part.read_chunk(1 << 18):
        data += chunk
        if len(data) > most:
            raise Rejected(413, f"The file is larger than the {most} bytes that a batch's file may have.", param="file")
    return bytes(data)
