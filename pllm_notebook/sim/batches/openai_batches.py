"""OpenAI's batches. A compatible server has the same ones, with its own rules for the lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from pllm_notebook.sim import http
from pllm_notebook.sim.batches.backend import Account, BatchBackend
from pllm_notebook.sim.batches.batch_io import json_of, lines_in, number_in, packed, reply
from pllm_notebook.sim.batches.openai_files import File, OpenAIFiles, listing, page
from pllm_notebook.sim.batches.sim_jobs import SimJob, SimLine, SimLineResult
from pllm_notebook.sim.wire_types import Rejected, SimWire

__all__ = ["OpenAIBatches"]

_DAY_S = 86_400
_MAX_LINES = 50_000
_MAX_ERRORS = 50
_PARAMETERS = frozenset({"completion_window", "endpoint", "input_file_id", "metadata", "output_expires_after"})
_UNRUN = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed: its batch was cancelled."),
}
_STATUS = {"running": "in_progress", "ended": "completed"}


class OpenAIBatches:
    """POST and GET /batches, GET /batches/{id}, POST /batches/{id}/cancel.

    Args:
        backend: Backend that runs the jobs.
        files: Files with the jobs' input and output.
        wires: Maps an endpoint to its wire.
    """

    def __init__(self, backend: BatchBackend, files: OpenAIFiles, wires: Mapping[str, SimWire]) -> None:
        self._backend = backend
        self._files = files
        self._wires = wires

    async def serve(self, request: web.BaseRequest, account: Account, parts: list[str]) -> web.StreamResponse | None:
        """Answer a request under /batches. Return None if there is no such endpoint."""
        method = request.method
        if not parts:
            if method == "POST":
                return await self._create(request, account)
            return await self._list(request, account) if method == "GET" else None
        job = account.jobs.get(parts[0])
        if job is None:
            raise Rejected(404, f"No batch found with id '{parts[0]}'.", param="batch_id")
        await self._backend.look([job])
        if parts[1:] == ["cancel"] and method == "POST":
            if job.closed_at is not None:
                status = self._shown(job, account)["status"]
                raise Rejected(409, f"Cannot cancel a batch with status '{status}'.", param="batch_id")
            self._backend.cancel(job)
        elif len(parts) > 1 or method != "GET":
            return None
        return reply(self._shown(job, account))

    async def _create(self, request: web.BaseRequest, account: Account) -> web.StreamResponse:
        body = await json_of(request)
        file, wire = self._check(body, account)
        self._backend.refuse()
        lines, errors, model = self._read(file, body["endpoint"])
        if self._backend.fails():
            errors = [_error("SIMULATED failure of validation.", "simulated_failure", None)]
        given = {name: body.get(name) for name in ("endpoint", "input_file_id", "completion_window", "metadata")}
        job = self._backend.open(
            account,
            wire,
            lines,
            prefix="batch_",
            window_s=_DAY_S,
            given={**given, "model": model},
            errors=errors or None,
        )
        if self._backend.loses():
            return http.reset(request)
        return reply({**self._shown(job, account), "status": "validating", "in_progress_at": None, "errors": None})

    async def _list(self, request: web.BaseRequest, account: Account) -> web.StreamResponse:
        listed = self._backend.listed(account)
        jobs, more = page(listed, request.query.get("after"), number_in(request, "limit", 20, 100))
        await self._backend.look(jobs)
        return reply(listing([self._shown(job, account) for job in jobs], more))

    def _check(self, body: dict[str, Any], account: Account) -> tuple[File, SimWire]:
        for name in body:
            if name not in _PARAMETERS:
                raise Rejected(400, f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
        for name in ("input_file_id", "endpoint", "completion_window"):
            if not isinstance(body.get(name), str):
                raise Rejected(
                    400, f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name
                )
        for name, known in (("completion_window", ["24h"]), ("endpoint", list(self._wires))):
            if body[name] not in known:
                words = f"Invalid value: '{body[name]}'. Supported values are: {', '.join(map(repr, known))}."
                raise Rejected(400, words, code="invalid_value", param=name)
        _check_metadata(body.get("metadata") or {})
        file: File | None = account.files.get(body["input_file_id"])
        if file is None:
            raise Rejected(404, f"No such File object: {body['input_file_id']}", param="input_file_id")
        if file.purpose != "batch":
            raise Rejected(
                400, f"Invalid file purpose '{file.purpose}': expected 'batch'.", code="invalid_file_purpose"
            )
        return file, self._wires[body["endpoint"]]

    def _read(self, file: File, endpoint: str) -> tuple[list[SimLine], list[dict[str, Any]], str | None]:
        """Return the lines, their errors, and the model that they name."""
        lines: list[SimLine] = []
        errors: list[dict[str, Any]] = []
        seen: set[str] = set()
        model: str | None = None
        one_model = self._wires[endpoint].provider == "openai"
        for number, raw in lines_in(file.pieces[0]):
            wrong, value = _line_error(raw, endpoint, seen)
            if wrong is None:
                named = value["body"].get("model")
                model = model or named
                if one_model and named != model:
                    words = f"The model `{named}` provided for this request does not match the rest of the batch."
                    wrong = (words, "mismatched_model", "body.model")
            if wrong is not None:
                errors.append(_error(*wrong, number))
                if len(errors) == _MAX_ERRORS:
                    break
                continue
            seen.add(value["custom_id"])
            lines.append(SimLine(value["custom_id"], packed(orjson.dumps(value["body"]))))
        most = self._backend.options.batch_most_lines or _MAX_LINES
        if not lines and not errors:
            words = "The batch input file is empty. Please ensure that the batch contains at least one request."
            errors.append(_error(words, "empty_file", None))
        if len(lines) > most:
            errors.append(_error(f"The batch input file has more than {most} requests.", "too_many_requests", None))
        return lines, errors, model

    def _shown(self, job: SimJob, account: Account) -> dict[str, Any]:
        if job.closed_at is not None and job.errors is None and not job.files:
            self._write_files(job, account)
        state, counts, ended = job.state, job.counts(), job.closed_at
        status = _STATUS.get(state, state)
        if state == "running" and self._backend.now() >= job.over_at:
            status = "finalizing"
        spent, cached = job.spent, {"cached_tokens": job.spent.cached}
        return {
            "id": job.id,
            "object": "batch",
            **job.given,
            "errors": None if state != "failed" else {"object": "list", "data": job.errors},
            "status": status,
            "output_file_id": job.files.get("output"),
            "error_file_id": job.files.get("error"),
            "created_at": int(job.created_at),
            "in_progress_at": None if job.errors else int(job.created_at),
            "expires_at": int(job.expires_at),
            "finalizing_at": _time(min(job.ends_at, ended or job.ends_at), status in ("finalizing", "completed")),
            "completed_at": _time(ended, status == "completed"),
            "failed_at": _time(ended, status == "failed"),
            "expired_at": _time(ended, status == "expired"),
            "cancelling_at": _time(job.cancelled_at, job.cancelled_at is not None),
            "cancelled_at": _time(ended, status == "cancelled"),
            "request_counts": {
                "total": 0 if job.errors else len(job.lines),
                "completed": counts["answered"],
                "failed": counts["failed"],
            },
            "usage": {
                "input_tokens": spent.input,
                "input_tokens_details": cached,
                "output_tokens": spent.output,
                "output_tokens_details": {"reasoning_tokens": spent.reasoning},
                "total_tokens": spent.input + spent.output,
            },
        }

    def _write_files(self, job: SimJob, account: Account) -> None:
        files: dict[str, list[bytes]] = {"output": [], "error": []}
        for result in job.sent_results():
            files["output" if result.kind == "answered" else "error"].append(packed(_written(result)))
        for result in job.results:
            result.body = b""
        for kind, written in files.items():
            name = f"{job.id}_{kind}.jsonl"
            job.files[kind] = self._files.add(account, name, "batch_output", written).id if written else None


def _line_error(raw: memoryview, endpoint: str, seen: set[str]) -> tuple[tuple[str, str, str | None] | None, Any]:
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        return ("This line is not parseable as valid JSON.", "invalid_json_line", None), None
    for name, kind in (("custom_id", str), ("method", str), ("url", str), ("body", dict)):
        if not isinstance(value.get(name), kind):
            return (f"Missing required parameter: '{name}'.", "missing_required_parameter", name), None
    if value["method"] != "POST":
        return (f"Invalid method: '{value['method']}'. Supported value is: 'POST'.", "invalid_method", "method"), None
    if value["url"] != endpoint:
        words = "The URL provided for this request does not match the batch endpoint."
        return (words, "invalid_url", "url"), None
    if value["custom_id"] in seen:
        words = "The custom_id for this request is a duplicate of another request. It must be unique within a batch."
        return (words, "duplicate_custom_id", "custom_id"), None
    return None, value


def _error(message: str, code: str, param: str | None, line: int | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param, "line": line}


def _check_metadata(metadata: Any) -> None:
    fine = isinstance(metadata, dict) and len(metadata) <= 16
    if not fine or any(
        not isinstance(value, str) or len(key) > 64 or len(value) > 512 for key, value in metadata.items()
    ):
        raise Rejected(
            400,
            "Invalid 'metadata': at most 16 pairs of strings, keys of at most 64 and values of at most 512 characters.",
            code="invalid_value",
            param="metadata",
        )


def _time(at: float | None, happened: bool) -> int | None:
    return int(at) if happened and at is not None else None


def _written(result: SimLineResult) -> bytes:
    response = error = None
    if result.kind in _UNRUN:
        code, message = _UNRUN[result.kind]
        error = {"code": code, "message": message}
    else:
        response = {
            "status_code": result.status,
            "request_id": f"req_{result.number}",
            "body": orjson.Fragment(result.body),
        }
    # Lines that were never run have no number.
    line = {"id": f"batch_req_{result.number or result.custom_id}", "custom_id": result.custom_id}
    return orjson.dumps({**line, "response": response, "error": error}, option=orjson.OPT_APPEND_NEWLINE)
