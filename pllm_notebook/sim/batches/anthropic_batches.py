"""Anthropic's message batches: requests are inline, results are lines, and batches cannot be labelled."""

from __future__ import annotations

import re
from typing import Any

import orjson
from aiohttp import web

from pllm_notebook.sim import http
from pllm_notebook.sim.batches.backend import Account, BatchBackend
from pllm_notebook.sim.batches.batch_io import json_of, number_in, packed, reply, stamp, stream
from pllm_notebook.sim.batches.sim_jobs import SimJob, SimLine, SimLineResult
from pllm_notebook.sim.wire_types import Rejected, SimWire

__all__ = ["AnthropicBatches"]

_DAY_S = 86_400
_MAX_LINES = 100_000
_MAX_BYTES = 1 << 28
_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_KINDS = {"answered": "succeeded", "failed": "errored", "cancelled": "canceled", "expired": "expired"}
_TOO_LARGE = "Request exceeds the maximum size"


class AnthropicBatches:
    """POST and GET /batches, GET and DELETE /batches/{id}, POST /batches/{id}/cancel, GET /batches/{id}/results."""

    def __init__(self, backend: BatchBackend, wire: SimWire) -> None:
        self._backend = backend
        self._wire = wire

    async def serve(self, request: web.BaseRequest, account: Account, parts: list[str]) -> web.StreamResponse | None:
        """Answer a request under /batches. Return None if there is no such endpoint."""
        method = request.method
        if not parts:
            if method == "POST":
                return await self._create(request, account)
            return await self._list(request, account) if method == "GET" else None
        job = account.jobs.get(parts[0])
        if job is None:
            raise Rejected(404, f"Message batch {parts[0]} not found.")
        await self._backend.look([job])
        if parts[1:] == ["results"] and method == "GET":
            return await self._results(request, job)
        if parts[1:] == ["cancel"] and method == "POST":
            # An ended batch is unchanged: the provider's response to this is not documented.
            self._backend.cancel(job)
        elif len(parts) == 1 and method == "DELETE":
            if job.closed_at is None:
                raise Rejected(400, "Message Batches can only be deleted once they have finished processing.")
            del account.jobs[job.id]
            return reply({"id": job.id, "type": "message_batch_deleted"})
        elif len(parts) > 1 or method != "GET":
            return None
        return reply(self._shown(job, request))

    async def _create(self, request: web.BaseRequest, account: Account) -> web.StreamResponse:
        body = await json_of(request, self._backend.options.batch_most_bytes or _MAX_BYTES, _TOO_LARGE)
        lines = self._read(body)
        self._backend.refuse()
        # No state exists for a batch that fails as a whole, because its lines are validated while it runs.
        fails = self._backend.fails()
        job = self._backend.open(account, self._wire, lines, prefix="msgbatch_", window_s=_DAY_S, given={})
        if fails:
            for line in lines:
                line.planned_fault = "fail"
        if self._backend.loses():
            return http.reset(request)
        return reply(self._shown(job, request))

    async def _list(self, request: web.BaseRequest, account: Account) -> web.StreamResponse:
        listed = self._backend.listed(account)
        limit = number_in(request, "limit", 20, 1000)
        before, after = request.query.get("before_id"), request.query.get("after_id")
        if after is not None:
            listed = listed[_place(listed, after, "after_id") + 1 :]
        if before is not None:
            # The page that ends just before this id, for paging backwards.
            end = _place(listed, before, "before_id")
            jobs, more = listed[max(0, end - limit) : end], end > limit
        else:
            jobs, more = listed[:limit], len(listed) > limit
        await self._backend.look(jobs)
        ends = {"first_id": jobs[0].id, "last_id": jobs[-1].id} if jobs else {"first_id": None, "last_id": None}
        return reply({"data": [self._shown(job, request) for job in jobs], "has_more": more, **ends})

    def _read(self, body: dict[str, Any]) -> list[SimLine]:
        for name in body:
            if name != "requests":
                raise Rejected(400, f"{name}: Extra inputs are not permitted")
        requests = body.get("requests")
        if not isinstance(requests, list):
            raise Rejected(400, "requests: Field required")
        most = self._backend.options.batch_most_lines or _MAX_LINES
        if not 1 <= len(requests) <= most:
            few = "at least 1 item" if not requests else f"at most {most} items"
            raise Rejected(400, f"requests: List should have {few} after validation, not {len(requests)}")
        lines, seen = [], set()
        for at, one in enumerate(requests):
            custom_id = one.get("custom_id") if isinstance(one, dict) else None
            if not isinstance(custom_id, str) or not isinstance(one.get("params"), dict):
                raise Rejected(400, f"requests.{at}: custom_id and params are required")
            if not _ID.fullmatch(custom_id):
                raise Rejected(400, f"requests.{at}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
            if custom_id in seen:
                raise Rejected(400, f"requests.{at}.custom_id: {custom_id} is not unique within the batch")
            seen.add(custom_id)
            lines.append(SimLine(custom_id, packed(orjson.dumps(one["params"]))))
        return lines

    async def _results(self, request: web.BaseRequest, job: SimJob) -> web.StreamResponse:
        if job.closed_at is None:
            raise Rejected(404, f"Message batch {job.id} has no available results.")
        if "results" not in job.files:
            job.files["results"] = [packed(_written(result)) for result in job.sent_results()]
            for result in job.results:
                result.body = b""
        return await stream(request, job.files["results"])

    def _shown(self, job: SimJob, request: web.BaseRequest) -> dict[str, Any]:
        ended = job.closed_at is not None
        counts = job.counts() if ended else {"processing": len(job.lines)}
        state = "ended" if ended else "in_progress" if job.cancelled_at is None else "canceling"
        # It has the request's host, because the SDK uses this URL and not its own base URL.
        results = f"http://{request.host}/anthropic/v1/messages/batches/{job.id}/results"
        return {
            "id": job.id,
            "type": "message_batch",
            "processing_status": state,
            "request_counts": {
                "processing": counts.get("processing", 0),
                **{theirs: counts.get(kind, 0) for kind, theirs in _KINDS.items()},
            },
            "created_at": stamp(job.created_at),
            "expires_at": stamp(job.expires_at),
            "ended_at": stamp(job.closed_at) if job.closed_at is not None else None,
            "cancel_initiated_at": stamp(job.cancelled_at) if job.cancelled_at is not None else None,
            "archived_at": None,
            "results_url": results if ended else None,
        }


def _place(jobs: list[SimJob], job_id: str, name: str) -> int:
    at = next((at for at, job in enumerate(jobs) if job.id == job_id), None)
    if at is None:
        raise Rejected(400, f"{name}: no such batch")
    return at


def _written(result: SimLineResult) -> bytes:
    outcome: dict[str, Any] = {"type": _KINDS[result.kind]}
    if result.kind == "answered":
        outcome["message"] = orjson.Fragment(result.body)
    elif result.kind == "failed":
        outcome["error"] = orjson.Fragment(result.body)
    return orjson.dumps({"custom_id": result.custom_id, "result": outcome}, option=orjson.OPT_APPEND_NEWLINE)
