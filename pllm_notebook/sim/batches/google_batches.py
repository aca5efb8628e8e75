"""Google's batches: a long-running operation over a file of requests, or over inline requests."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from pllm_notebook.sim import http
from pllm_notebook.sim.batches.backend import Account, BatchBackend
from pllm_notebook.sim.batches.batch_io import json_of, lines_in, packed, reply, stamp
from pllm_notebook.sim.batches.google_files import GoogleFile, GoogleFiles, page
from pllm_notebook.sim.batches.sim_jobs import SimJob, SimLine, SimLineResult
from pllm_notebook.sim.wire_types import Rejected, SimWire

__all__ = ["GoogleBatches"]

_WINDOW_S = 172_800
_MAX_INLINE_BYTES = 20 * 1024 * 1024
_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch"
_OUTPUT_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatchOutput"
_STATES = {"running": "PENDING", "cancelling": "RUNNING", "ended": "SUCCEEDED"}
# An error inside a job is a google.rpc.Status, whose codes are not those of HTTP.
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 429: 8, 500: 13, 503: 14, 504: 4}
_ENDED_BADLY = {
    "cancelled": (1, "The batch was cancelled."),
    "expired": (4, "The batch expired before it was completed."),
}


class GoogleBatches:
    """POST /models/{model}:batchGenerateContent; GET /batches; GET and DELETE /batches/{id}; POST …:cancel."""

    def __init__(self, backend: BatchBackend, files: GoogleFiles, wire: SimWire) -> None:
        self._backend = backend
        self._files = files
        self._wire = wire

    async def serve(self, request: web.BaseRequest, account: Account, parts: list[str]) -> web.StreamResponse | None:
        """Answer a request under /batches. Return None if there is no such endpoint."""
        method = request.method
        if not parts:
            return await self._list(request, account) if method == "GET" else None
        if len(parts) > 1:
            return None
        name, _, verb = parts[0].partition(":")
        job = account.jobs.get(f"batches/{name}")
        if job is None:
            raise Rejected(404, f"Batch {name} not found.")
        await self._backend.look([job])
        if verb == "cancel" and method == "POST":
            self._backend.cancel(job)
            return reply({})
        if verb:
            return None
        if method == "DELETE":
            del account.jobs[job.id]
            return reply({})
        return reply(self._shown(job, account)) if method == "GET" else None

    async def create(self, request: web.BaseRequest, account: Account, model: str) -> web.StreamResponse:
        """Create a batch of requests to *model*."""
        words = f"Request payload size exceeds the limit: {_MAX_INLINE_BYTES} bytes."
        try:
            batch = (await json_of(request, _MAX_INLINE_BYTES, words)).get("batch") or {}
        except Rejected as rejected:
            raise Rejected(400, rejected.message) from None
        if model.startswith(("missing-model", "gpt-", "claude-")):
            raise Rejected(404, f"models/{model} is not found, or is not supported for batchGenerateContent.")
        lines, errors, inline = self._read(_either(batch, "inputConfig") or {}, account)
        self._backend.refuse()
        if self._backend.fails():
            errors = {"code": 3, "message": "SIMULATED failure of validation."}
        job = self._backend.open(
            account,
            self._wire,
            lines,
            prefix="batches/",
            window_s=_WINDOW_S,
            given={"displayName": _either(batch, "displayName") or "", "metadata": inline},
            model=model,
            errors=errors,
        )
        if any(line.planned_fault == "expire" for line in lines):
            for line in lines:
                line.planned_fault = "expire"
        if self._backend.loses():
            return http.reset(request)
        return reply(self._shown(job, account))

    async def _list(self, request: web.BaseRequest, account: Account) -> web.StreamResponse:
        jobs, token = page(request, self._backend.listed(account), 50)
        await self._backend.look(jobs)
        shown = [self._shown(job, account) for job in jobs]
        return reply({**({"operations": shown} if shown else {}), **token})

    def _read(self, source: dict[str, Any], account: Account) -> tuple[list[SimLine], Any, list[Any] | None]:
        """Return the lines, the error of a job that must fail, and the metadata of inline lines."""
        inline = (source.get("requests") or {}).get("requests")
        if inline:
            lines = [SimLine(_key_of(one), packed(orjson.dumps(one.get("request") or {}))) for one in inline]
            self._check_count(lines)
            return lines, None, [one.get("metadata") for one in inline]
        name = _either(source, "fileName")
        if not name:
            raise Rejected(400, "* BatchGenerateContentRequest.batch.input_config: a source is required.")
        file: GoogleFile | None = account.files.get(name)
        if file is None:
            raise Rejected(404, f"{name} is not found.")
        lines = []
        for number, raw in lines_in(file.pieces[0]):
            try:
                value = orjson.loads(raw)
                lines.append(SimLine(_key_of(value), packed(orjson.dumps(value["request"]))))
            except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
                return [], {"code": 3, "message": f"Line {number} of {name} is not a request."}, None
        if not lines:
            return [], {"code": 3, "message": f"{name} has no requests."}, None
        self._check_count(lines)
        return lines, None, None

    def _check_count(self, lines: list[SimLine]) -> None:
        most = self._backend.options.batch_most_lines
        if most is not None and len(lines) > most:
            raise Rejected(400, f"The batch has {len(lines)} requests, more than {most}.")

    def _shown(self, job: SimJob, account: Account) -> dict[str, Any]:
        state, counts, total = job.state, job.counts(), len(job.lines)
        word = _STATES.get(state, state.upper())
        if state == "running" and (job.results or self._backend.now() > job.created_at + 1):
            word = "RUNNING"
        stats = {
            "requestCount": total,
            "successfulRequestCount": counts["answered"],
            "failedRequestCount": counts["failed"],
            "pendingRequestCount": total - counts["answered"] - counts["failed"],
        }
        metadata = {
            "@type": _TYPE,
            "model": f"models/{job.model}",
            "displayName": job.given["displayName"],
            "createTime": stamp(job.created_at),
            "updateTime": stamp(job.closed_at or self._backend.now()),
            # Counts of zero are omitted, as in JSON from protocol buffers.
            "batchStats": {name: str(count) for name, count in stats.items() if count},
            "state": f"BATCH_STATE_{word}",
            "name": job.id,
        }
        shown: dict[str, Any] = {"name": job.id, "metadata": metadata}
        if job.closed_at is None:
            return shown
        metadata["endTime"] = stamp(job.closed_at)
        shown["done"] = True
        if state == "failed":
            shown["error"] = job.errors
        elif state in _ENDED_BADLY:
            code, message = _ENDED_BADLY[state]
            shown["error"] = {"code": code, "message": message}
        else:
            if any(result.kind == "missing" for result in job.results):
                metadata["state"] = "JOB_STATE_PARTIALLY_SUCCEEDED"
            output = self._output(job, account)
            metadata["output"] = output
            shown["response"] = {"@type": _OUTPUT_TYPE, **output}
        return shown

    def _output(self, job: SimJob, account: Account) -> dict[str, Any]:
        metadata = job.given["metadata"]
        if metadata is not None:
            # Inline results are matched to requests by position.
            pairs = zip(job.results, metadata, strict=True)
            responses = [{**({"metadata": kept} if kept else {}), **_outcome(result)} for result, kept in pairs]
            return {"inlinedResponses": {"inlinedResponses": responses}}
        if "output" not in job.files:
            name = "files/batch-" + job.id.removeprefix("batches/")
            written = [
                packed(orjson.dumps({"key": result.custom_id, **_outcome(result)}, option=orjson.OPT_APPEND_NEWLINE))
                for result in job.sent_results()
            ]
            for result in job.results:
                result.body = b""
            job.files["output"] = self._files.add(account, name, written, generated=True).name
        return {"responsesFile": job.files["output"]}


def _outcome(result: SimLineResult) -> dict[str, Any]:
    if result.kind == "answered":
        return {"response": orjson.Fragment(result.body)}
    if result.kind == "failed":
        return {"error": {"code": _CODES.get(result.status, 2), "message": result.message}}
    return {}


def _key_of(line: Any) -> str:
    key = line.get("key") or (line.get("metadata") or {}).get("key")
    return key if isinstance(key, str) else ""


def _either(given: dict[str, Any], name: str) -> Any:
    """Look up *name* in camelCase or snake_case."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return given.get(name, given.get(snake))
