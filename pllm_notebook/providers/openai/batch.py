"""OpenAI's batch API, which some compatible servers have too: upload one file, download up to two."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pllm_notebook.exceptions import sentence
from pllm_notebook.protocols import BatchRefused
from pllm_notebook.providers.batch.errors import ignore_missing, malformed, upload_timeout_s
from pllm_notebook.providers.batch.jsonl import encoded, objects, wrapped
from pllm_notebook.providers.batch.parsing import State, join_errors, parse_int, state_of
from pllm_notebook.providers.batch.sdk_http import SDKBatchAccount
from pllm_notebook.providers.openai.errors import error_from
from pllm_notebook.providers.provider import BatchSupport
from pllm_notebook.providers.sdk_transport import SDKTransport
from pllm_notebook.types import BatchLimits, BatchResult, RawReply, RemoteJob

__all__ = ["BATCH", "OpenAIBatchAPI", "line_of", "result_of"]

_STATES: dict[str, State] = {
    "validating": "running",
    "in_progress": "running",
    "finalizing": "running",
    "cancelling": "running",
    "completed": "ended",
    "failed": "failed",
    "expired": "expired",
    "cancelled": "cancelled",
}
# The metadata field that holds the label.
_LABEL = "pllm_intent"
_NEVER_ANSWERED = {"batch_expired": "expired", "batch_cancelled": "cancelled"}
# For a cancellation, a conflict means that the job has ended. For other requests it can follow an accepted request.
_ENDED = frozenset({409})
_UNKNOWN_ADDRESS = frozenset({404, 405})


class OpenAIBatchAPI:
    """Batch jobs of one endpoint.

    Args:
        transport: The transport of live calls; closed together with this object.
        path: The wire's path, such as `/chat/completions`.
    """

    limits = BatchLimits(lines=50_000, bytes=200_000_000)
    keeps_labels = True

    def __init__(self, transport: SDKTransport, path: str) -> None:
        self._account = SDKBatchAccount(transport, error_from)
        self._endpoint = _endpoint(path, self._account.client_names)

    def line(self, custom_id: str, body: bytes) -> bytes:
        return _line(self._endpoint, custom_id, body)

    async def upload(self, lines: Path, label: str) -> str:
        # An open file, not a path: the SDK would read the file at a path into memory.
        with lines.open("rb") as file, _has_batches():
            answer = await self._account.ask(
                "post",
                "/files",
                seconds=upload_timeout_s(lines.stat().st_size),
                headers={"Content-Type": "multipart/form-data"},
                body={"purpose": "batch"},
                files=[("file", (f"{label}.jsonl", file, "application/jsonl"))],
            )
        if not answer.get("id"):
            raise malformed("a file without an id")
        return str(answer["id"])

    async def create(self, lines: Path, uploaded: str, label: str) -> RemoteJob:
        wanted = {
            "input_file_id": uploaded,
            "endpoint": self._endpoint,
            "completion_window": "24h",
            "metadata": {_LABEL: label},
        }
        return _job(await self._account.ask("post", "/batches", body=wanted))

    async def look(self, job_id: str) -> RemoteJob:
        return _job(await self._account.ask("get", f"/batches/{quote(job_id, safe='')}"))

    def recent(self, since: float) -> AsyncIterator[RemoteJob]:
        return self._account.recent("/batches", "after", _job, since)

    async def results(self, job: RemoteJob) -> AsyncIterator[BatchResult]:
        for file in job.files:
            chunks = self._account.stream(f"/files/{quote(file, safe='')}/content")
            async with aclosing(objects(chunks)) as lines:
                async for line in lines:
                    yield result_of(line)

    async def cancel(self, job_id: str) -> None:
        await self._account.ask("post", f"/batches/{quote(job_id, safe='')}/cancel", definite=_ENDED)

    async def discard(self, uploaded: str) -> None:
        if not uploaded:
            return
        with ignore_missing(404):
            await self._account.ask("delete", f"/files/{quote(uploaded, safe='')}")

    async def aclose(self) -> None:
        await self._account.aclose()


@contextmanager
def _has_batches() -> Iterator[None]:
    """Explain the rejection by a compatible server that has no `/files`."""
    try:
        yield
    except BatchRefused as refusal:
        if refusal.status not in _UNKNOWN_ADDRESS:
            raise
        message = f"This server takes no batch jobs, since it has no /files: {sentence(refusal.message)} Ask live."
        raise BatchRefused(refusal.status, message) from refusal


def line_of(path: str, client_names: Collection[str], custom_id: str, body: bytes) -> bytes:
    """Build one line of a request file (see `OpenAIBatchAPI.line`); needs no account.

    Args:
        path: The wire's path.
        client_names: Names of the client's class and its bases.
        custom_id: The line's id.
        body: The body that a live call would send.
    """
    return _line(_endpoint(path, client_names), custom_id, body)


def _line(endpoint: str, custom_id: str, body: bytes) -> bytes:
    return wrapped(b'{"custom_id":', custom_id, f',"method":"POST","url":"{endpoint}","body":'.encode(), body)


def _endpoint(path: str, client_names: Collection[str]) -> str:
    # Azure's endpoints are named without a version.
    return path if "AsyncAzureOpenAI" in client_names else f"/v1{path}"


def _job(answer: dict[str, Any]) -> RemoteJob:
    if not answer.get("id"):
        raise malformed("a job without an id")
    word = str(answer.get("status"))
    counts = answer.get("request_counts") or {}
    # All counts are 0 until the file has been read.
    known = word != "validating" and bool(parse_int(counts.get("total")))
    return RemoteJob(
        id=str(answer["id"]),
        state=state_of(word, _STATES, "OpenAI"),
        label=str((answer.get("metadata") or {}).get(_LABEL) or ""),
        created_at=float(answer.get("created_at") or 0.0),
        total=parse_int(counts.get("total")) if known else None,
        succeeded=parse_int(counts.get("completed")) if known else None,
        failed=parse_int(counts.get("failed")) if known else None,
        message=join_errors(*((answer.get("errors") or {}).get("data") or [])),
        # Each is None or "" if there are no such lines.
        files=tuple(str(answer[name]) for name in ("output_file_id", "error_file_id") if answer.get(name)),
    )


def result_of(line: dict[str, Any]) -> BatchResult:
    """Parse one line of a results file."""
    custom_id = str(line.get("custom_id") or "")
    response, error = line.get("response"), line.get("error")
    # Status 0 marks a request that never got an answer from the model.
    if isinstance(response, dict) and (parse_int(response.get("status_code")) or 0) >= 100:
        request_id = response.get("request_id")
        headers = {"x-request-id": str(request_id)} if request_id else {}
        return BatchResult(custom_id, RawReply(int(response["status_code"]), headers, encoded(response.get("body"))))
    word = str((error.get("code") or error.get("message") or "") if isinstance(error, dict) else error or "")
    return BatchResult(custom_id, None, _NEVER_ANSWERED.get(word, word or "no response"))


BATCH = BatchSupport(
    api=OpenAIBatchAPI,
    line=line_of,
    owns=lambda line: "custom_id" in line and ("response" in line or "error" in line),
    result=result_of,
)
