"""Provider-independent batch jobs: creation, answers to due lines, cancellation and end."""

from __future__ import annotations

import asyncio
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from pllm_notebook.sim import answer_spec
from pllm_notebook.sim.batches.batch_faults import BatchFaults
from pllm_notebook.sim.batches.batch_io import packed
from pllm_notebook.sim.batches.sim_jobs import SimJob, SimLine, SimLineResult
from pllm_notebook.sim.draws import digest
from pllm_notebook.sim.fault_draw import MODEL_FAULTS, Faults
from pllm_notebook.sim.request_log import RequestLog
from pllm_notebook.sim.simulator_options import SimOptions
from pllm_notebook.sim.tokens import settle
from pllm_notebook.sim.wire_types import Rejected, SimWire

__all__ = ["Account", "BatchBackend", "Script"]

Script = Callable[[answer_spec.AnswerSpec, int, bool], Awaitable[dict[str, Any] | None]]

_MAX_CONCURRENT = 64
# A poll waits at most this long for the program's `answers` function. The job continues running.
_SCRIPT_TIMEOUT_S = 2.0
_BUSY = {
    "anthropic": (529, "Overloaded"),
    "google": (503, "The model is overloaded. Please try again later."),
}
_BUSY_ELSEWHERE = (500, "The server had an error while processing your request. Sorry about that!")


@dataclass(slots=True, eq=False)
class Account:
    """Files and jobs of one key at one provider, oldest first."""

    files: dict[str, Any] = field(default_factory=dict)
    jobs: dict[str, SimJob] = field(default_factory=dict)


class BatchBackend:
    """All jobs of all accounts. A job advances only when it is polled: nothing here runs on a timer.

    Args:
        options: The current options.
        request_log: Log that counts the answered lines.
        script: Calls the program's `answers` function.
    """

    def __init__(self, options: SimOptions, request_log: RequestLog, script: Script) -> None:
        self._script = script
        self._scripted = False
        self._batch_faults = BatchFaults()
        self._accounts: dict[tuple[str, str], Account] = {}
        self._ahead_s = 0.0
        self.request_log = request_log
        self.set(options, False, ())

    def set(self, options: SimOptions, scripted: bool, named: Sequence[str]) -> None:
        """Apply new options; *named* are those just set."""
        self.options = options
        self._scripted = scripted
        self._seed = options.seed % (1 << 120)
        self._faults = Faults(options)
        self._batch_faults.arm(options, named)

    def reset(self, request_log: RequestLog) -> None:
        """Drop all jobs, files and draws, and reset the clock."""
        for job in self._jobs():
            if job.work is not None:
                # It would count its answers in the new log.
                job.work.cancel()
        self.request_log = request_log
        self._accounts = {}
        self._ahead_s = 0.0
        self._batch_faults = BatchFaults()
        self._batch_faults.arm(self.options, tuple(self.options.as_json()))

    def now(self) -> float:
        """Return the current time of the simulator's clock, in seconds since the epoch."""
        return time.time() + self._ahead_s

    def advance(self, seconds: float) -> None:
        """Advance the clock by *seconds*."""
        self._ahead_s += seconds

    def account(self, place: str, key: str) -> Account:
        """Return the account of *key*."""
        return self._accounts.setdefault((place, key), Account())

    def refuse(self) -> None:
        """Refuse to create a job if the options require it. Raises `Rejected`."""
        if self._batch_faults.strikes("batch_create_500", self.options, self._seed):
            raise Rejected(500, "The server had an error while processing your request. Sorry about that!")

    def loses(self) -> bool:
        """Return whether the response to a creation is lost."""
        return self._batch_faults.strikes("batch_create_lost", self.options, self._seed)

    def fails(self) -> bool:
        """Return whether a job fails validation as a whole."""
        return self._batch_faults.strikes("batch_fail", self.options, self._seed)

    def open(
        self,
        account: Account,
        wire: SimWire,
        lines: Sequence[SimLine],
        *,
        prefix: str,
        window_s: float,
        given: dict[str, Any],
        model: str = "",
        errors: Any = None,
    ) -> SimJob:
        """Create a job. *errors* are the reasons for which it will fail as a whole, None if it will not."""
        options, now = self.options, self.now()
        self._batch_faults.assign(lines, options, self._seed)
        job = SimJob(
            # Not derived from the seed, so that a job of an earlier simulator is not mistaken for one of this one.
            id=prefix + secrets.token_hex(16),
            wire=wire,
            model=model,
            lines=lines,
            given=given,
            created_at=now,
            ends_at=now + options.batch_s,
            expires_at=now + window_s,
            listed_at=now + options.batch_lag_s,
            cancel_s=options.batch_cancel_s,
            unknown=options.batch_unknown,
            order=self._batch_faults.order(lines, options, self._seed),
            errors=errors,
        )
        account.jobs[job.id] = job
        self.request_log.batch_jobs += 1
        return job

    def listed(self, account: Account) -> list[SimJob]:
        """Return the account's jobs that are listed by now, newest first."""
        now = self.now()
        return [job for job in reversed(account.jobs.values()) if job.listed_at <= now]

    async def look(self, jobs: Collection[SimJob]) -> None:
        """Bring *jobs* up to date."""
        working = set()
        for job in jobs:
            if job.closed_at is None and len(job.results) < job.due(self.now()):
                if job.work is None or job.work.done():
                    job.work = asyncio.create_task(self._answer_due(job))
                working.add(job.work)
        if working:
            # `wait` rather than `await`: a disconnecting client must not cancel the work for others.
            await asyncio.wait(working, timeout=_SCRIPT_TIMEOUT_S)
        for job in jobs:
            job.close(self.now())

    async def look_at_all(self) -> None:
        """Bring every job up to date."""
        await self.look(self._jobs())

    def _jobs(self) -> list[SimJob]:
        return [job for account in self._accounts.values() for job in account.jobs.values()]

    def cancel(self, job: SimJob) -> None:
        """Request the cancellation of a job. Does nothing if it has ended or its cancellation was requested before."""
        if job.closed_at is None and job.cancelled_at is None:
            job.cancelled_at = self.now()

    async def _answer_due(self, job: SimJob) -> None:
        while (end := job.due(self.now())) > (start := len(job.results)):
            some = range(start, min(end, start + _MAX_CONCURRENT))
            job.results += await asyncio.gather(*[self._answer(job, job.lines[at], at) for at in some])

    async def _answer(self, job: SimJob, line: SimLine, at: int) -> SimLineResult:
        number = digest(self._seed, job.id.encode(), at.to_bytes(8, "big"))[:12].hex()
        try:
            if line.planned_fault == "missing":
                return SimLineResult(line.custom_id, "missing")
            if line.planned_fault == "expire":
                return SimLineResult(line.custom_id, "expired")
            if line.planned_fault == "error":
                raise Rejected(*_BUSY.get(job.wire.provider, _BUSY_ELSEWHERE))
            if line.planned_fault == "fail":
                raise Rejected(400, "SIMULATED failure of validation.")
            return await self._reply(job, line, number)
        except Rejected as error:
            rejected = error
        except Exception as error:
            traceback.print_exc()
            rejected = Rejected(500, f"The simulator failed: {error!r}. This is its own fault.")
        body = packed(job.wire.error(rejected, number))
        return SimLineResult(line.custom_id, "failed", number, rejected.status, body, rejected.message)

    async def _reply(self, job: SimJob, line: SimLine, number: str) -> SimLineResult:
        body = answer_spec.parse(line.body)
        if job.model and isinstance(body, dict) and body.get("model") not in (None, job.model, f"models/{job.model}"):
            raise Rejected(400, f"The request names {body['model']}, and its batch models/{job.model}.", param="model")
        ask = answer_spec.read(job.wire, body, job.model, self.options)
        spec = answer_spec.spec_of(ask, self._seed)
        tried = self.request_log.try_of(spec.identity)
        fault = spec.fitting(self._faults.draw(spec.key, tried))
        fault = fault if fault in MODEL_FAULTS else ""
        if fault:
            self.request_log.faults[fault] += 1
        index = self.request_log.ask_line()
        scripted = await self._script(spec, index, True) if self._scripted else None
        if scripted is not None and scripted["kind"] == "status" and scripted["body"] is not None:
            words = packed(orjson.dumps(scripted["body"]))
            return SimLineResult(line.custom_id, "failed", number, scripted["code"], words, words.decode())
        if scripted is not None and scripted["kind"] in ("status", "malformed", "reset", "hang"):
            # A batch line has no connection of its own that could fail, so these become provider errors.
            code = scripted["code"] if scripted["kind"] == "status" else 500
            raise Rejected(code, f"SIMULATED {scripted['kind']} {code}")
        made = answer_spec.answer(spec, fault, scripted)
        tokens = settle(ask, made, spec.input_tokens, (scripted or {}).get("usage") or {}, self.options)
        tokens.batch = True
        self.request_log.answer_line(spec.identity, tokens.input, tokens.output)
        self.request_log.charge(job.wire.provider, ask.model, tokens)
        job.spent.input += tokens.input
        job.spent.output += tokens.output
        job.spent.cached += tokens.cached
        job.spent.reasoning += tokens.reasoning
        return SimLineResult(line.custom_id, "answered", number, 200, packed(job.wire.write(ask, made, tokens, number)))
