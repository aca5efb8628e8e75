"""One request without the engine: on the loop that runs now, over a connection of its own."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import NamedTuple

import orjson

from pllm_notebook.engine import UserRateLimit
from pllm_notebook.engine.retry import PACED_REFUSALS, retried_as, retry_delay_s
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import CallSpec, RunBudget
from pllm_notebook.execution.budget import ModelBudget
from pllm_notebook.execution.call_spec import BYTES_PER_TOKEN, DEFAULT_OUTPUT_TOKENS
from pllm_notebook.execution.stop import failure_of
from pllm_notebook.protocols import Transport, TransportFault
from pllm_notebook.records import Failure, FailureKind, RawReply, Reply

__all__ = ["SendResult", "send"]

_MAX_ADAPTATIONS = 8


class SendResult(NamedTuple):
    """What a request came to, after all its attempts.

    Attributes:
        result: The reply, or the failure after the last attempt.
        raw: The last response as it came, None where there was none.
        attempts: Requests that were sent.
        latency_s: Of the last one.
        cost_usd: Of the reply, None for unknown.
    """

    result: Reply | Failure
    raw: RawReply | None
    attempts: int
    latency_s: float
    cost_usd: float | None


async def send(ask: CallSpec, make: Callable[[], bytes], run_budget: RunBudget) -> SendResult:
    """Send a request until there is an answer, or no use in sending it again.

    Args:
        ask: Whose target, options and ceiling it has.
        make: Makes the wire's bytes.
        run_budget: What it may cost.
    """
    try:
        transport = ask.target.connect()
    except PllmError as error:
        return SendResult(failure_of(error), None, 0, 0.0, None)
    try:
        return await _attempts(ask, transport, make, run_budget)
    finally:
        await transport.aclose()


async def _attempts(
    ask: CallSpec, transport: Transport, make: Callable[[], bytes], run_budget: RunBudget
) -> SendResult:
    options, target = ask.options, ask.target
    rate = ask.rate()
    budget = ModelBudget(run_budget, rate, ask.output_limit, target.label)
    expected = options.max_output_tokens or DEFAULT_OUTPUT_TOKENS
    sent = attempts = refusals = heals = 0
    refused_since = 0.0
    while True:
        content = make()  # anew each time: what the model refuses may have been learned meanwhile
        bound = budget.bound_usd(len(content))
        if not budget.admit(bound):
            told = f"Not sent: one more request could have passed max_cost_usd={options.max_cost_usd:g}."
            return SendResult(Failure(FailureKind.BUDGET, told), None, sent, 0.0, None)
        await _pace(ask.ceiling, len(content) / BYTES_PER_TOKEN + expected)
        sent += 1
        began = time.monotonic()
        result, raw = await _asked(ask, transport, content)
        latency = time.monotonic() - began
        if isinstance(result, Reply):
            cost = None if rate is None or result.usage is None else rate.cost_usd(result.usage)
            budget.settle(bound, 1, cost, 0)
            return SendResult(result, raw, sent, latency, cost)
        budget.settle(bound, 1, 0.0, int(result.kind.maybe_paid))
        if heals < _MAX_ADAPTATIONS and target.adapt(result, orjson.loads(content)):
            heals += 1
            continue
        limited = result.kind is FailureKind.RATE_LIMIT
        if limited and not refusals:
            refused_since = time.monotonic()
        refusals, attempts = refusals + limited, attempts + (not limited)
        delay = retry_delay_s(
            retried_as(result),
            attempts=attempts,
            # There is no limiter here that would wait: each refusal does.
            refusals=refusals + PACED_REFUSALS,
            retry_after_s=result.retry_after_s,
            max_retries=options.max_retries,
            draw=random.random(),
            refused_for_s=time.monotonic() - refused_since if refusals else 0.0,
        )
        if delay is None:
            return SendResult(result, raw, sent, latency, None)
        await asyncio.sleep(delay)


async def _asked(ask: CallSpec, transport: Transport, content: bytes) -> tuple[Reply | Failure, RawReply | None]:
    timeout_s = ask.options.timeout_s
    try:
        raw = await asyncio.wait_for(transport.post(ask.target.path, content), timeout_s)
    except TimeoutError:
        return Failure(FailureKind.TIMEOUT, f"No whole reply within timeout_s={timeout_s:g} s."), None
    except TransportFault as fault:
        return Failure(fault.kind, fault.message), None
    return ask.target.read(raw), raw


async def _pace(ceiling: UserRateLimit | None, tokens: float) -> None:
    """Wait until the caller's own limit has room, and take it."""
    if ceiling is None:
        return
    now = asyncio.get_running_loop().time()
    wait = ceiling.wait_s(now, tokens)
    ceiling.charge(now, tokens)  # before the wait, as of its end
    await asyncio.sleep(wait)
