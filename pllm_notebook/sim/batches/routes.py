"""Routing of batch requests: the handler of a path, the account, and the format of rejections."""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from aiohttp import web

from pllm_notebook.sim import http
from pllm_notebook.sim.batches.anthropic_batches import AnthropicBatches
from pllm_notebook.sim.batches.backend import Account, BatchBackend
from pllm_notebook.sim.batches.google_batches import GoogleBatches
from pllm_notebook.sim.batches.google_files import GoogleFiles
from pllm_notebook.sim.batches.openai_batches import OpenAIBatches
from pllm_notebook.sim.batches.openai_files import OpenAIFiles
from pllm_notebook.sim.wire_types import Rejected, SimWire
from pllm_notebook.sim.wires import find

__all__ = ["Batches"]

_Serve = Callable[[web.BaseRequest, Account, list[str]], Awaitable[web.StreamResponse | None]]


class _Route(NamedTuple):
    place: str
    wire: SimWire
    serve: _Serve
    parts: list[str]


class Batches:
    """The batch endpoints of all providers. Each key at each provider is a separate account."""

    def __init__(self, backend: BatchBackend) -> None:
        self._backend = backend
        self._mounts: dict[str, tuple[str, SimWire, _Serve]] = {}
        for place, endpoints in (("openai", ("chat/completions", "responses")), ("compatible", ("chat/completions",))):
            wires = {f"/v1/{endpoint}": _wire(f"/{place}/v1/{endpoint}") for endpoint in endpoints}
            files = OpenAIFiles(backend)
            chat = wires["/v1/chat/completions"]
            self._mounts[f"/{place}/v1/files"] = (place, chat, files.serve)
            self._mounts[f"/{place}/v1/batches"] = (place, chat, OpenAIBatches(backend, files, wires).serve)
        messages = _wire("/anthropic/v1/messages")
        batches = AnthropicBatches(backend, messages)
        self._mounts["/anthropic/v1/messages/batches"] = ("anthropic", messages, batches.serve)
        self._google = _wire("/google/v1beta/models/any:generateContent")
        self._google_files = GoogleFiles(backend)
        self._google_batches = GoogleBatches(backend, self._google_files, self._google)
        for version in ("v1", "v1beta"):
            self._mounts[f"/google/{version}/files"] = ("google", self._google, self._google_files.serve)
            self._mounts[f"/google/{version}/batches"] = ("google", self._google, self._google_batches.serve)

    async def serve(self, request: web.BaseRequest, path: str) -> web.StreamResponse | None:
        """Answer a request. Return None if *path* is not a batch endpoint."""
        route = self._find(path)
        if route is None:
            return None
        self._backend.request_log.batch_requests += 1
        number = secrets.token_hex(12)
        try:
            if request.method == "POST" and "upload_id" in request.query:
                return await self._google_files.take(request)
            route.wire.authorise(request.headers)
            account = self._backend.account(route.place, _key(request.headers))
            return await route.serve(request, account, route.parts)
        except Rejected as error:
            rejected = error
        except ConnectionError:
            raise  # The client disconnected during its upload or download.
        except Exception as error:
            traceback.print_exc()
            rejected = Rejected(500, f"The simulator failed: {error!r}. This is its own fault.")
        body = route.wire.error(rejected, number)
        return http.BuiltResponse(http.assemble(rejected.status, body, [route.wire.request_id(number)]))

    def _find(self, path: str) -> _Route | None:
        for mount, (place, wire, serve) in self._mounts.items():
            if path == mount or path.startswith(mount + "/"):
                return _Route(place, wire, serve, [part for part in path[len(mount) :].split("/") if part])
        version, _, rest = path.removeprefix("/google/").partition("/")
        if version == "upload" and rest in ("v1/files", "v1beta/files", "files"):
            return _Route("google", self._google, self._start_upload, [])
        if version in ("v1", "v1beta") and rest.startswith("models/") and rest.endswith(":batchGenerateContent"):
            model = rest.removeprefix("models/").rpartition(":")[0]
            return _Route("google", self._google, self._create_google, [model])
        return None

    async def _start_upload(self, request: web.BaseRequest, account: Account, _: list[str]) -> web.StreamResponse:
        return await self._google_files.start(request, account)

    async def _create_google(self, request: web.BaseRequest, account: Account, parts: list[str]) -> web.StreamResponse:
        return await self._google_batches.create(request, account, parts[0])


def _wire(path: str) -> SimWire:
    found = find(path)
    assert found is not None
    return found[0]


def _key(headers: Mapping[str, str]) -> str:
    bearer = headers.get("authorization", "").removeprefix("Bearer ")
    return headers.get("x-goog-api-key") or headers.get("x-api-key") or bearer
