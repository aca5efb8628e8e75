"""Handling of one request: API key, validation, limits, fault, latency, answer."""

from __future__ import annotations

import asyncio
import math
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from pllm_notebook.sim import answer_spec, http
from pllm_notebook.sim.answer_spec import AnswerSpec
from pllm_notebook.sim.batches import Batches
from pllm_notebook.sim.batches.backend import BatchBackend
from pllm_notebook.sim.decision_author import Unanswerable
from pllm_notebook.sim.draws import digest, normal, share
from pllm_notebook.sim.fault_draw import HTTP_FAULTS, Faults
from pllm_notebook.sim.prompt_cache_model import PromptCache
from pllm_notebook.sim.rate_limits import Limits, LimitState
from pllm_notebook.sim.request_log import RequestLog
from pllm_notebook.sim.simulator_options import SimOptions
from pllm_notebook.sim.slots import Slots
from pllm_notebook.sim.tokens import settle
from pllm_notebook.sim.wire_types import Headers, ParsedRequest, Rejected, SimWire, Tokens
from pllm_notebook.sim.wires import find

__all__ = ["RequestHandler"]

_HTML = b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body>SIMULATED proxy page</body></html>\n"
_MODELS = ("gpt-6-luna", "gpt-6.1-terra", "gpt-6.1-sol", "gpt-6-astra")


class RequestHandler:
    """The handler of all requests, on the server's event loop."""

    def __init__(self, options: SimOptions, ask: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> None:
        self._ask_program = ask
        self._scripted = False
        self._slots = Slots(None)
        self.request_log = RequestLog(options.keep_requests)
        self._prompts = PromptCache()
        self.backend = BatchBackend(options, self.request_log, self.script)
        self._batches = Batches(self.backend)
        self._start(options)

    def _start(self, options: SimOptions) -> None:
        self._options = options
        self._limits = Limits(options)
        self._faults = Faults(options)
        self._seed = options.seed % (1 << 120)
        self._slots.most = options.slots
        self._slots.admit()

    def set(self, options: SimOptions, scripted: bool, named: Sequence[str]) -> None:
        """Apply new options; *named* are those just set. Limits keep their levels if their options are unchanged."""
        limits = self._limits
        same = all(
            getattr(options, name) == getattr(self._options, name)
            for name in ("requests_per_min", "tokens_per_min", "burst_s", "limits", "charge_refused", "squeeze")
        )
        if options.keep_requests != self._options.keep_requests:
            self.request_log.keep(options.keep_requests)
        self._start(options)
        if same:
            self._limits = limits
        self._scripted = scripted
        self.backend.set(options, scripted, named)

    def reset(self) -> None:
        """Reset counts, attempts, cached prompts, batch jobs and the levels of the limits."""
        in_flight = self.request_log.in_flight
        self.request_log = RequestLog(self._options.keep_requests)
        self._prompts = PromptCache()
        self.request_log.in_flight = self.request_log.peak_in_flight = in_flight
        self._limits = Limits(self._options)
        self.backend.reset(self.request_log)

    async def stats(self) -> dict[str, Any]:
        """Return the counts, with batch jobs brought up to date."""
        await self.backend.look_at_all()
        return self.request_log.stats()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        path = request.raw_path.partition("?")[0]
        found = find(path)
        if found is None and (served := await self._batches.serve(request, path)) is not None:
            return served
        body = await request.read()
        if found is None or request.method != "POST":
            return _elsewhere(request)
        wire, model = found
        index = self.request_log.arrive(wire.provider, path, request.headers, body)
        # The number distinguishes an answer from an equal one.
        number = digest(self._seed, b"number", index.to_bytes(8, "big"))[:12].hex()
        try:
            return await self._answer(request, wire, model, body, index, number)
        except Rejected as rejected:
            if rejected.status < 500:
                self.request_log.rejected += 1
            return self._refuse(wire, rejected, number)
        except Exception as error:
            traceback.print_exc()
            return self._refuse(wire, Rejected(500, f"The simulator failed: {error!r}. This is its own fault."), number)
        finally:
            self.request_log.leave()

    async def _answer(
        self, request: web.BaseRequest, wire: SimWire, model: str, raw: bytes, index: int, number: str
    ) -> http.BuiltResponse:
        options, request_log = self._options, self.request_log
        wire.authorise(request.headers)
        ask = answer_spec.read(wire, answer_spec.parse(raw), model, options)
        spec = answer_spec.spec_of(ask, self._seed)

        if options.refuse_slots is not None and request_log.in_flight > options.refuse_slots:
            request_log.refused_503 += 1
            return self._refuse(wire, Rejected(503, "All slots are busy. Please try again later."), number)
        limit_state = self._limits.admit(ask.model, spec.input_tokens, time.monotonic())
        if limit_state is not None and limit_state.refused_by:
            request_log.refused_429 += 1
            return self._over_limit(wire, ask, limit_state, number)
        # Computed now, because other requests will take from the same buckets before the answer is written.
        limit_headers: Headers = []
        if limit_state is not None and options.headers == "full":
            limit_headers = wire.limit_headers(limit_state, False)

        seen = self._prompts.look(ask, spec.schema_json) if options.prompt_cache else None
        tried = request_log.try_of(spec.identity)
        fault = spec.fitting(self._faults.draw(spec.key, tried))
        if fault:
            request_log.faults[fault] += 1
        if fault in ("reset", "hang"):
            self._charge_lost(wire, spec)
            return http.reset(request) if fault == "reset" else await self._hang(request)

        await self._slots.enter()
        try:
            scripted = await self.script(spec, index) if self._scripted else None
            await self._wait(spec.key, tried, (scripted or {}).get("latency_s"))
        except asyncio.CancelledError:  # the client has disconnected, but the model continues
            self._charge_lost(wire, spec)
            raise
        finally:
            self._slots.leave()
        if fault in HTTP_FAULTS:
            status, words = HTTP_FAULTS[fault]
            if status == 529 and wire.provider != "anthropic":
                status = 503
            raise Rejected(status, words)
        if scripted is not None and scripted["kind"] in ("status", "malformed", "reset", "hang"):
            if scripted["kind"] != "status" or scripted["code"] == 200:
                self._charge_lost(wire, spec)
            return await self._play(request, wire, scripted, number)

        try:
            made = answer_spec.answer(spec, fault, scripted)
        except Unanswerable as error:
            raise Rejected(400, str(error)) from None
        tokens = settle(ask, made, spec.input_tokens, (scripted or {}).get("usage") or {}, options)
        if seen is not None:
            self._prompts.answered(seen, tokens)
        request_log.charge(wire.provider, ask.model, tokens)
        self._limits.settle(ask.model, tokens.output)
        data = http.assemble(200, wire.write(ask, made, tokens, number), [wire.request_id(number), *limit_headers])
        return await self._send(request, data, fault, spec.identity, tokens)

    def _charge_lost(self, wire: SimWire, spec: AnswerSpec) -> None:
        """Charge a request whose answer is lost as if it had been delivered."""
        made = answer_spec.answer(spec, "", None)
        tokens = settle(spec.ask, made, spec.input_tokens, {}, self._options)
        self.request_log.charge(wire.provider, spec.ask.model, tokens)

    async def _send(
        self, request: web.BaseRequest, data: bytes, fault: str, identity: bytes, tokens: Tokens
    ) -> http.BuiltResponse:
        if fault == "truncated_body":
            return http.cut_body(request, data)
        if fault == "malformed":
            return http.BuiltResponse(_malformed())
        if fault == "html":
            return http.BuiltResponse(http.assemble(200, _HTML, content_type="text/html"))
        sent = await http.drip(request, data, self._options.drip_s) if fault == "drip" else http.BuiltResponse(data)
        if request.transport is not None and not request.transport.is_closing():
            self.request_log.answer(identity, tokens.input, tokens.output)
        return sent

    async def _play(
        self, request: web.BaseRequest, wire: SimWire, scripted: Mapping[str, Any], number: str
    ) -> http.BuiltResponse:
        kind = scripted["kind"]
        if kind == "reset":
            return http.reset(request)
        if kind == "hang":
            return await self._hang(request)
        if kind == "malformed":
            return http.BuiltResponse(_malformed())
        code, given = scripted["code"], scripted["body"]
        headers = list(scripted["headers"].items())
        if given is None:
            return self._refuse(wire, Rejected(code, f"SIMULATED status {code}"), number, headers)
        body = given.encode() if isinstance(given, str) else orjson.dumps(given)
        return http.BuiltResponse(http.assemble(code, body, [wire.request_id(number), *headers]))

    def _refuse(
        self, wire: SimWire, rejected: Rejected, number: str, headers: Headers | None = None
    ) -> http.BuiltResponse:
        body = wire.error(rejected, number)
        return http.BuiltResponse(http.assemble(rejected.status, body, [wire.request_id(number), *(headers or ())]))

    def _over_limit(
        self, wire: SimWire, ask: ParsedRequest, limit_state: LimitState, number: str
    ) -> http.BuiltResponse:
        by, mode = limit_state.refused_by, self._options.headers
        bucket = limit_state.requests if by == "requests" else limit_state.tokens
        per_min = int(bucket.per_min) if bucket is not None else 0
        asked = 1 if by == "requests" else limit_state.asked
        unit = "RPM" if by == "requests" else "TPM"
        message = f"Rate limit reached for {ask.model} on {by} per min ({unit}): Limit {per_min}, Requested {asked}."
        if mode != "none":
            message += f" Please try again in {limit_state.wait_s:.3f}s."
        rejected = Rejected(429, message, code="rate_limit_exceeded", param=by)
        headers: Headers = []
        if mode != "none":
            rejected.wait_s = limit_state.wait_s
        if mode == "full":
            headers = wire.limit_headers(limit_state, True)
        elif mode == "retry_after":
            headers = [("retry-after", limit_state.retry_after)]
        return self._refuse(wire, rejected, number, headers)

    async def _hang(self, request: web.BaseRequest) -> http.BuiltResponse:
        await asyncio.sleep(self._options.hang_s)
        return http.reset(request)

    async def _wait(self, key: bytes, tried: int, chosen_s: float | None) -> None:
        seconds, sigma = self._options.latency_s, self._options.latency_sigma
        if chosen_s is not None:
            seconds = chosen_s
        elif seconds and sigma:
            seconds *= math.exp(sigma * normal(share(key, b"latency%d" % tried)))
        if seconds:
            await asyncio.sleep(seconds)

    async def script(self, spec: AnswerSpec, index: int, batch: bool = False) -> dict[str, Any] | None:
        """Call the program's `answers` function. Return None if it leaves the answer to the simulator."""
        reply = await self._ask_program(answer_spec.script_request(spec, index, batch))
        if "error" in reply:
            # A status that is neither retried nor cached: the user has to fix the function.
            raise Rejected(412, f"The answers function raised {reply['error']}")
        scripted: dict[str, Any] | None = reply["answer"]
        return scripted


def _malformed() -> bytes:
    return http.assemble(200, b'{"id": "SIMULATED", "choices": [{"index": 0, "mess')


def _elsewhere(request: web.BaseRequest) -> http.BuiltResponse:
    if request.method == "GET" and request.path in ("/openai/v1/models", "/compatible/v1/models"):
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "simulated"} for name in _MODELS]
        return http.BuiltResponse(http.assemble(200, orjson.dumps({"object": "list", "data": listed})))
    message = f"Invalid URL ({request.method} {request.path})"
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return http.BuiltResponse(http.assemble(404, orjson.dumps({"error": error})))
