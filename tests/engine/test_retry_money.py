"""A request that may have been paid is repeated only with money reserved for it, on virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

from pllm_notebook.failures import FailureKind
from pllm_notebook.pending_call import CallResult, PendingCall
from pllm_notebook.protocols import TransportFault
from pllm_notebook.types import RawReply
from tests.engine.virtual import Calls, ModelServer, dispatcher_to, run_virtual

RESET = TransportFault(FailureKind.CONNECTION, "reset")
SERVER_ERROR = RawReply(500, {}, b"")


class Paid(Calls):
    """Calls of a run that has money for some requests.

    Args:
        keys: One call each, in order.
        requests: Requests that it can pay for.

    Attributes:
        left: Requests that can still be paid for.
        reserved: Requests beyond each call's first that money was reserved for.
    """

    def __init__(self, keys: list[str], requests: int, **policy: Any) -> None:
        super().__init__(keys, **policy)
        self.left = requests
        self.reserved = 0

    def next(self) -> PendingCall | None:
        call = super().next() if self.left else None
        self.left -= call is not None
        return call

    def may_retry(self, call: PendingCall) -> bool:
        if not self.left:
            return False
        self.left -= 1
        self.reserved += 1
        return True

    def may_hedge(self, call: PendingCall) -> bool:
        return super().may_hedge(call) and self.may_retry(call)

    def done(self, call: PendingCall, result: CallResult) -> None:
        # What was answered cost nearly nothing.
        self.left += call.funded - result.maybe_paid
        super().done(call, result)


def test_requests_that_may_have_been_paid_are_never_more_than_the_money_is_for() -> None:
    async def main() -> tuple[Calls, int]:
        server = ModelServer(latency_s=lambda rng: 1e9)
        calls = Paid(["a", "b", "c"], 7, timeout_s=2.0, max_retries=9)
        dispatcher_to(server).attach(calls.queue)
        await calls.all()
        return calls, server.requests

    calls, requests = run_virtual(main)

    assert requests == 7
    assert calls.kinds() == ["timeout"] * 3
    assert all(result.over_budget for result in calls.results.values())
    assert sum(result.maybe_paid for result in calls.results.values()) == 7


def test_a_retry_waits_for_money_that_is_reserved_for_another_call() -> None:
    async def main() -> tuple[Calls, list[float]]:
        latencies = iter([1.0, 10.0, 1.0])
        server = ModelServer(latency_s=lambda rng: next(latencies), script={0: RESET})
        calls = Paid(["lost", "slow"], 2)
        dispatcher_to(server).attach(calls.queue)
        await calls.all()
        return calls, server.starts

    calls, starts = run_virtual(main)

    assert calls.kinds() == ["ok", "ok"]
    assert starts == [0.0, 0.0, 10.0]


def test_a_retry_waits_for_a_call_that_is_itself_to_be_sent_again() -> None:
    async def main() -> tuple[Calls, int]:
        server = ModelServer(script={0: RESET, 1: RawReply(429, {"retry-after": "30"}, b"")})
        calls = Paid(["lost", "refused"], 2)
        dispatcher_to(server).attach(calls.queue)
        await calls.all()
        return calls, server.requests

    calls, requests = run_virtual(main)

    assert calls.kinds() == ["ok", "ok"]
    assert calls.order == [1, 0]
    assert requests == 4


def test_a_failure_that_cost_nothing_needs_no_more_money() -> None:
    async def main() -> Calls:
        calls = Paid(["a"], 1, max_retries=3)
        dispatcher_to(ModelServer(script=dict.fromkeys(range(3), SERVER_ERROR))).attach(calls.queue)
        await calls.all()
        return calls

    assert run_virtual(main).kinds() == ["ok"]


def test_money_reserved_for_a_second_request_that_was_refused_pays_for_the_next() -> None:
    async def main() -> tuple[Paid, int]:
        latencies = iter([1.0] * 30 + [1e9, 1.0, 1.0])
        server = ModelServer(latency_s=lambda rng: next(latencies), script={31: SERVER_ERROR})
        calls = Paid([str(n) for n in range(31)], 32, timeout_s=5.0, hedge=True)
        dispatcher_to(server).attach(calls.queue)
        await calls.all()
        return calls, server.requests

    calls, requests = run_virtual(main)

    assert calls.kinds() == ["ok"] * 31
    assert calls.results[30].maybe_paid == 1
    assert (requests, calls.reserved) == (33, 1)


def test_what_has_no_money_is_cancelled_with_its_run() -> None:
    async def main() -> tuple[Calls, float]:
        latencies = iter([1.0, 1e5])
        calls = Paid(["lost", "slow"], 2, timeout_s=1e6)
        dispatcher = dispatcher_to(ModelServer(latency_s=lambda rng: next(latencies), script={0: RESET}))
        dispatcher.attach(calls.queue)
        await asyncio.sleep(100)
        assert calls.queue.waiting == 1
        dispatcher.detach(calls.queue)
        await calls.all()
        return calls, asyncio.get_running_loop().time()

    calls, ended = run_virtual(main)

    assert calls.kinds() == ["cancelled"] * 2
    assert ended == 100.0


def test_an_error_in_the_dispatcher_itself_ends_every_run() -> None:
    async def main() -> list[list[str]]:
        dispatcher = dispatcher_to(ModelServer())
        runs = [Calls(["one"]), Calls(["two"])]
        for calls in runs:
            dispatcher.attach(calls.queue)

        def broken(now: float, tokens: float) -> float:
            raise ZeroDivisionError("made up")

        dispatcher.limiter.wait_s = broken  # type: ignore[method-assign]
        await asyncio.sleep(1)
        return [[str(error) for error in calls.errors] for calls in runs]

    assert run_virtual(main) == [["made up"], ["made up"]]
