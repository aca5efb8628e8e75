"""Gemini's batch API: upload one file, and download another when the job has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from pllm_notebook.providers.batch.errors import ignore_missing, malformed
from pllm_notebook.providers.batch.jsonl import encoded, objects, wrapped
from pllm_notebook.providers.batch.parsing import State, join_errors, parse_int, parse_time, state_of
from pllm_notebook.providers.google.batch_http import GenaiAccount
from pllm_notebook.providers.google.transport import GenaiTransport
from pllm_notebook.providers.provider import BatchSupport
from pllm_notebook.types import BatchLimits, BatchResult, RawReply, RemoteJob

__all__ = ["BATCH", "GoogleBatchAPI", "line_of", "result_of"]

# States without their prefix, "BATCH_STATE_" (the API) or "JOB_STATE_" (its SDK). The SDK's own list of final states
# lacks PARTIALLY_SUCCEEDED.
_STATES: dict[str, State] = {
    "UNSPECIFIED": "running",
    "QUEUED": "running",
    "PENDING": "running",
    "RUNNING": "running",
    "CANCELLING": "running",
    "PAUSED": "running",
    "UPDATING": "running",
    "SUCCEEDED": "ended",
    "PARTIALLY_SUCCEEDED": "ended",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
}
_PAGE = 100
# HTTP statuses by google.rpc.Code, which a line's error may have instead of a status. Code 1, cancelled, has no status.
_STATUS = {3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 13: 500, 14: 503, 16: 401}
_CANCELLED = 1
_LARGEST_RPC_CODE = 16
_ENDED = frozenset({409})


class GoogleBatchAPI:
    """Batch jobs of one model.

    Args:
        transport: The transport of live calls; closed together with this object.
        path: The wire's path, such as `models/NAME:generateContent`.
    """

    # The limit is 2 GB. No number of lines is documented; as many as Anthropic allows are ingested without trouble.
    limits = BatchLimits(lines=100_000, bytes=2_000_000_000, window_s=172_800.0)
    keeps_labels = True

    def __init__(self, transport: GenaiTransport, path: str) -> None:
        self._account = GenaiAccount(transport)
        self._path = f"{path.partition(':')[0]}:batchGenerateContent"

    def line(self, custom_id: str, body: bytes) -> bytes:
        return line_of(custom_id, body)

    async def upload(self, lines: Path, label: str) -> str:
        return await self._account.upload(lines, label)

    async def create(self, lines: Path, uploaded: str, label: str) -> RemoteJob:
        batch = {"displayName": label, "inputConfig": {"fileName": uploaded}}
        return _job(await self._account.ask("post", self._path, {"batch": batch}))

    async def look(self, job_id: str) -> RemoteJob:
        return _job(await self._account.ask("get", _below("batches", job_id)))

    async def recent(self, since: float) -> AsyncIterator[RemoteJob]:
        params: dict[str, Any] = {"pageSize": _PAGE}
        while True:
            page = await self._account.ask("get", f"batches?{urlencode(params)}")
            for each in page.get("operations") or []:
                job = _job(each)
                if job.created_at >= since:
                    yield job
            # The order of jobs is not documented, so every page is read.
            token = page.get("nextPageToken")
            if not token:
                return
            params["pageToken"] = token

    async def results(self, job: RemoteJob) -> AsyncIterator[BatchResult]:
        for file in job.files:
            async with aclosing(objects(self._account.download(file))) as lines:
                async for line in lines:
                    yield result_of(line)

    async def cancel(self, job_id: str) -> None:
        await self._account.ask("post", f"{_below('batches', job_id)}:cancel", definite=_ENDED)

    async def discard(self, uploaded: str) -> None:
        if not uploaded:
            return
        # A missing file is reported as forbidden.
        with ignore_missing(403, 404):
            await self._account.ask("delete", _below("files", uploaded))

    async def aclose(self) -> None:
        await self._account.aclose()


def line_of(custom_id: str, body: bytes) -> bytes:
    """Build one line of a request file (see `GoogleBatchAPI.line`); needs no account."""
    return wrapped(b'{"key":', custom_id, b',"request":', body)


def _below(collection: str, name: str) -> str:
    return f"{collection}/{quote(name.removeprefix(f'{collection}/'), safe='')}"


def _job(answer: dict[str, Any]) -> RemoteJob:
    name = answer.get("name")
    if not name:
        raise malformed("a job without a name")
    about = answer.get("metadata") or {}
    word = str(about.get("state") or "UNSPECIFIED").rpartition("STATE_")[2]
    error = answer.get("error")
    if word not in _STATES and answer.get("done"):
        state: State = "failed" if error else "ended"  # these fields are more reliable than an unknown state
    else:
        state = state_of(word, _STATES, "Google")
    counts = about.get("batchStats") or {}  # a count of 0 is omitted
    total = parse_int(counts.get("requestCount"))
    file = next((place["responsesFile"] for place in _places(answer, about) if place.get("responsesFile")), None)
    return RemoteJob(
        id=str(name),
        state=state,
        label=str(about.get("displayName") or ""),
        created_at=parse_time(about.get("createTime")),
        total=total,
        succeeded=None if total is None else parse_int(counts.get("successfulRequestCount")) or 0,
        failed=None if total is None else parse_int(counts.get("failedRequestCount")) or 0,
        message=join_errors(error),
        files=() if file is None else (str(file),),
    )


def _places(answer: dict[str, Any], about: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects that may name a job's results file."""
    return [place for place in (about.get("output"), answer.get("response")) if isinstance(place, dict)]


def result_of(line: dict[str, Any]) -> BatchResult:
    """Parse one line of a results file."""
    key, response, error = str(line.get("key") or ""), line.get("response"), line.get("error")
    if isinstance(response, dict):
        return BatchResult(key, RawReply(200, {}, encoded(response)))
    if not isinstance(error, dict):
        return BatchResult(key, None, str(error or "no response"))
    code = parse_int(error.get("code")) or 0
    if code == _CANCELLED:
        return BatchResult(key, None, "cancelled")
    status = _STATUS.get(code, 500) if code <= _LARGEST_RPC_CODE else code
    return BatchResult(key, RawReply(status, {}, encoded({"error": error | {"code": status}})))


BATCH = BatchSupport(
    api=GoogleBatchAPI,
    line=lambda path, client_names, custom_id, body: line_of(custom_id, body),
    owns=lambda line: "key" in line and ("response" in line or "error" in line),
    result=result_of,
)
