"""Anthropic's message batches: a job's requests are sent in the body that creates it, and no label is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pllm_notebook.providers.anthropic.messages import Messages
from pllm_notebook.providers.batch.errors import malformed, upload_timeout_s
from pllm_notebook.providers.batch.jsonl import encoded, objects, wrapped
from pllm_notebook.providers.batch.parsing import RUNNING, State, parse_int, parse_time, state_of
from pllm_notebook.providers.batch.sdk_http import SDKBatchAccount
from pllm_notebook.providers.provider import BatchSupport
from pllm_notebook.providers.sdk_transport import SDKTransport
from pllm_notebook.types import BatchLimits, BatchResult, RawReply, RemoteJob

__all__ = ["BATCH", "AnthropicBatchAPI", "line_of", "result_of"]

_PATH = "/v1/messages/batches"
_STATES: dict[str, State] = {"in_progress": "running", "canceling": "running", "ended": "ended"}
_BEFORE, _AFTER = b'{"requests":[', b"]}"
_CHUNK_BYTES = 1 << 18
_NEVER_ANSWERED = {"canceled": "cancelled"}
# Statuses by error type: a failed line has the error body of a live call, but no status.
_STATUS = {
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
# For a cancellation, a conflict means that the job has ended. For other requests it can follow an accepted request.
_ENDED = frozenset({409})


class AnthropicBatchAPI:
    """Batch jobs of messages.

    Args:
        transport: The transport of live calls; closed together with this object.
        path: The wire's path.
    """

    # The limit is 256 MB for the whole request: leave room for the text around the lines.
    limits = BatchLimits(lines=100_000, bytes=255_000_000)
    keeps_labels = False

    def __init__(self, transport: SDKTransport, path: str) -> None:
        self._account = SDKBatchAccount(transport, Messages().error_from)

    def line(self, custom_id: str, body: bytes) -> bytes:
        return line_of(custom_id, body)

    async def upload(self, lines: Path, label: str) -> str:
        return ""

    async def create(self, lines: Path, uploaded: str, label: str) -> RemoteJob:
        size = lines.stat().st_size
        answer = await self._account.ask(
            "post",
            _PATH,
            seconds=upload_timeout_s(size),
            # Set, so that the body is not sent chunked, which some proxies reject.
            headers={"Content-Length": str(size + _around(lines, size))},
            content=_requests(lines, size),
        )
        return _job(answer)

    async def look(self, job_id: str) -> RemoteJob:
        return _job(await self._account.ask("get", f"{_PATH}/{quote(job_id, safe='')}"))

    def recent(self, since: float) -> AsyncIterator[RemoteJob]:
        return self._account.recent(_PATH, "after_id", _job, since)

    async def results(self, job: RemoteJob) -> AsyncIterator[BatchResult]:
        # Not the address that the job names: the request, with the key, would bypass a client's proxy.
        chunks = self._account.stream(f"{_PATH}/{quote(job.id, safe='')}/results")
        async with aclosing(objects(chunks)) as lines:
            async for line in lines:
                yield result_of(line)

    async def cancel(self, job_id: str) -> None:
        await self._account.ask("post", f"{_PATH}/{quote(job_id, safe='')}/cancel", definite=_ENDED)

    async def discard(self, uploaded: str) -> None:
        return None  # nothing was uploaded

    async def aclose(self) -> None:
        await self._account.aclose()


def line_of(custom_id: str, body: bytes) -> bytes:
    """Build one request of a job (see `AnthropicBatchAPI.line`); needs no account."""
    return wrapped(b'{"custom_id":', custom_id, b',"params":', body)


def _around(lines: Path, size: int) -> int:
    """Return by how many bytes the body that creates the job exceeds the file."""
    return len(_BEFORE) + len(_AFTER) - _ends(lines, size)


def _ends(lines: Path, size: int) -> int:
    """Return 1 if the last line ends with a newline, which is dropped, else 0."""
    with lines.open("rb") as file:
        file.seek(max(0, size - 1))
        return int(file.read(1) == b"\n")


async def _requests(lines: Path, size: int) -> AsyncIterator[bytes]:
    """Yield the body that creates the job from the file, piece by piece. A line of JSON has no newline within it."""
    left = size - _ends(lines, size)
    yield _BEFORE
    with lines.open("rb") as file:
        while left > 0:
            piece = file.read(min(_CHUNK_BYTES, left))
            if not piece:
                raise OSError(f"{lines} became shorter while it was sent.")
            left -= len(piece)
            yield piece.replace(b"\n", b",")  # every newline but the last separates two requests
    yield _AFTER


def _job(answer: dict[str, Any]) -> RemoteJob:
    if not answer.get("id"):
        raise malformed("a job without an id")
    counts = answer.get("request_counts") or {}
    state = state_of(str(answer.get("processing_status")), _STATES, "Anthropic")
    total = sum(number for number in counts.values() if isinstance(number, int))
    succeeded = parse_int(counts.get("succeeded"))
    # All counts but `processing` are 0 until the job has ended.
    ended = state != RUNNING and succeeded is not None
    if state == "ended" and counts.get("canceled"):
        state = "cancelled"
    elif state == "ended" and counts.get("expired"):
        state = "expired"
    return RemoteJob(
        id=str(answer["id"]),
        state=state,
        created_at=parse_time(answer.get("created_at")),
        total=total if counts else None,
        succeeded=succeeded if ended else None,
        failed=total - succeeded if ended and succeeded is not None else None,
        files=(str(answer["results_url"]),) if answer.get("results_url") else (),
    )


def result_of(line: dict[str, Any]) -> BatchResult:
    """Parse one line of a results file."""
    custom_id = str(line.get("custom_id") or "")
    result = line.get("result")
    result = result if isinstance(result, dict) else {}
    kind = str(result.get("type") or "no response")
    if kind == "succeeded":
        return BatchResult(custom_id, RawReply(200, {}, encoded(result.get("message"))))
    if kind == "errored" and isinstance(result.get("error"), dict):
        body = result["error"]
        error = body.get("error")
        word = str(error.get("type") if isinstance(error, dict) else "")
        return BatchResult(custom_id, RawReply(_STATUS.get(word, 400), {}, encoded(body)))
    return BatchResult(custom_id, None, _NEVER_ANSWERED.get(kind, kind))


BATCH = BatchSupport(
    api=AnthropicBatchAPI,
    line=lambda path, client_names, custom_id, body: line_of(custom_id, body),
    owns=lambda line: isinstance(line.get("result"), dict),
    result=result_of,
)
