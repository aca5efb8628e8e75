"""Google's files, as far as batch jobs need them: resumable upload, get, list, download of results, delete."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from pllm_notebook.sim.batches.backend import Account, BatchBackend
from pllm_notebook.sim.batches.batch_io import body_of, json_of, number_in, reply, stamp, stream
from pllm_notebook.sim.wire_types import Rejected

__all__ = ["GoogleFile", "GoogleFiles", "page"]

_TWO_DAYS_S = 172_800
# The provider accepts files of 2 GB; here they are kept in memory.
_MAX_BYTES = 1 << 28


@dataclass(slots=True, eq=False)
class GoogleFile:
    """A file, as a single piece if uploaded, or as the lines of a job's results."""

    name: str
    display_name: str
    mime_type: str
    created_at: float
    pieces: Sequence[bytes]
    generated: bool = False
    sha256: str = ""

    def shown(self, host: str) -> dict[str, Any]:
        """Return the file in the format of the API. Only generated files can be downloaded."""
        uri = f"https://{host}/google/v1beta/{self.name}"
        return {
            "name": self.name,
            **({"displayName": self.display_name} if self.display_name else {}),
            "mimeType": self.mime_type,
            "sizeBytes": str(sum(map(len, self.pieces))),
            "createTime": stamp(self.created_at),
            "updateTime": stamp(self.created_at),
            "expirationTime": stamp(self.created_at + _TWO_DAYS_S),
            "sha256Hash": self.sha256,
            "uri": uri,
            **({"downloadUri": f"{uri}:download?alt=media"} if self.generated else {}),
            "state": "ACTIVE",
            "source": "GENERATED" if self.generated else "UPLOADED",
        }


@dataclass(slots=True)
class _Upload:
    account: Account
    given: dict[str, Any]
    mime_type: str
    data: bytearray = field(default_factory=bytearray)


class GoogleFiles:
    """POST /upload/files in parts; GET /files; GET and DELETE /files/{id}; GET /files/{id}:download."""

    def __init__(self, backend: BatchBackend) -> None:
        self._backend = backend
        self._uploads: dict[str, _Upload] = {}

    async def serve(self, request: web.BaseRequest, account: Account, parts: list[str]) -> web.StreamResponse | None:
        """Answer a request under /files. Return None if there is no such endpoint."""
        method = request.method
        if not parts:
            return self._list(request, account) if method == "GET" else None
        if len(parts) > 1:
            return None
        name, _, verb = parts[0].partition(":")
        file = account.files.get(f"files/{name}")
        if file is None:
            # Google does not distinguish a missing file from a forbidden one.
            words = f"You do not have permission to access the File {name} or it may not exist."
            raise Rejected(403, words)
        if verb == "download" and method == "GET":
            if not file.generated:
                raise Rejected(400, "Only generated files can be downloaded.")
            return await stream(request, file.pieces)
        if verb:
            return None
        if method == "DELETE":
            del account.files[file.name]
            return reply({})
        return reply(file.shown(request.host)) if method == "GET" else None

    async def start(self, request: web.BaseRequest, account: Account) -> web.StreamResponse:
        """Begin an upload and return the URL for its parts."""
        headers = request.headers
        if headers.get("x-goog-upload-protocol") != "resumable" or headers.get("x-goog-upload-command") != "start":
            raise Rejected(400, "Only resumable uploads are simulated.")
        given = (await json_of(request)).get("file") or {}
        size = headers.get("x-goog-upload-header-content-length", "0")
        self._check_size(int(size) if size.isdecimal() else 0)
        name = given.get("name")
        if name is not None and name in account.files:
            raise Rejected(409, f"Requested entity already exists: {name}")
        upload_id = secrets.token_hex(16)
        mime_type = headers.get("x-goog-upload-header-content-type", "application/octet-stream")
        self._uploads[upload_id] = _Upload(account, given, mime_type)
        where = f"http://{request.host}{request.path}?upload_id={upload_id}&upload_protocol=resumable"
        return reply({}, [("x-goog-upload-url", where), ("x-goog-upload-status", "active")])

    async def take(self, request: web.BaseRequest) -> web.StreamResponse:
        """Receive one part of an upload, and create the file after the last part. The URL identifies the account."""
        upload = self._uploads.get(request.query["upload_id"])
        if upload is None:
            raise Rejected(404, "No such upload.")
        commands = request.headers.get("x-goog-upload-command", "")
        if request.headers.get("x-goog-upload-offset") != str(len(upload.data)):
            raise Rejected(400, f"The upload is at {len(upload.data)}.")
        upload.data += await body_of(request, _MAX_BYTES, "The part is too large.")
        self._check_size(len(upload.data))
        if "finalize" not in commands:
            return reply({}, [("x-goog-upload-status", "active")])
        del self._uploads[request.query["upload_id"]]
        given = upload.given
        file = self.add(
            upload.account,
            given.get("name") or f"files/{secrets.token_hex(6)}",
            [bytes(upload.data)],
            display_name=given.get("displayName") or given.get("display_name") or "",
            mime_type=upload.mime_type,
        )
        return reply({"file": file.shown(request.host)}, [("x-goog-upload-status", "final")])

    def add(self, account: Account, name: str, pieces: Sequence[bytes], **more: Any) -> GoogleFile:
        """Store a file."""
        total = hashlib.sha256()
        for piece in pieces:
            total.update(piece)
        more.setdefault("display_name", "")
        more.setdefault("mime_type", "application/jsonl")
        sha256 = base64.b64encode(total.digest()).decode()
        file = GoogleFile(name, created_at=self._backend.now(), pieces=pieces, sha256=sha256, **more)
        account.files[name] = file
        return file

    def _check_size(self, size: int) -> None:
        most = self._backend.options.batch_most_bytes or _MAX_BYTES
        if size > most:
            raise Rejected(400, f"File size {size} is larger than the limit of {most} bytes.")

    def _list(self, request: web.BaseRequest, account: Account) -> web.StreamResponse:
        files, token = page(request, list(reversed(account.files.values())), 10)
        shown = [file.shown(request.host) for file in files]
        return reply({**({"files": shown} if shown else {}), **token})


def page(request: web.BaseRequest, items: list[Any], usual: int) -> tuple[list[Any], dict[str, str]]:
    """Return the page for the request's pageSize and pageToken, and the token of the next page."""
    size = number_in(request, "pageSize", usual, 1000)
    token = request.query.get("pageToken", "0")
    if not token.isdecimal():
        raise Rejected(400, f"Invalid page token: {token}", param="page_token")
    end = int(token) + size
    return items[int(token) : end], {"nextPageToken": str(end)} if end < len(items) else {}
