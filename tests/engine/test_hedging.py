"""Stragglers sent a second time, on virtual time: when it is done, what it costs, and how it ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from pllm_notebook.engine import Limiter, UserRateLimit
from pllm_notebook.failures import FailureKind
from pllm_notebook.pending_call import PendingCall
from pllm_notebook.protocols import TransportFault
from pllm_notebook.types import RawReply
from tests.engine.virtual import Calls, ModelServer, dispatcher_to, run_virtual

COMMON = 30


def heavy_tailed(rng: random.Random) -> float:
    return rng.lognormvariate(0.0, 1.0) * (10 if rng.random() < 0.01 else 1)


def in_turn(*latencies_s: float) -> Callable[[random.Random], float]:
    """COMMON requests take a second each; those after them what is said."""
    left = iter([1.0] * COMMON + list(latencies_s))
    return lambda rng: next(left)


class Hedged(Calls):
    """Calls of a run that may be sent a second time, if it can pay for that."""

    def __init__(self, count: int, *, affords: bool = True, hedge: bool = True, **policy: Any) -> None:
        super().__init__([str(n) for n in range(count)], hedge=hedge, **policy)
        self._affords = affords

    def may_hedge(self, call: PendingCall) -> bool:
        return self._affords and super().may_hedge(call)


async def to_end(server: ModelServer, calls: Calls) -> float:
    dispatcher_to(server, Limiter(window=1000)).attach(calls.queue)
    await calls.all()
    return asyncio.get_running_loop().time()


def test_a_run_of_heavy_tailed_calls_ends_sooner_for_a_few_requests_more() -> None:
    async def main(hedge: bool) -> tuple[float, int]:
        server = ModelServer(latency_s=heavy_tailed)
        calls = Hedged(3000, concurrency=256, hedge=hedge)
        ended = await to_end(server, calls)
        assert calls.kinds() == ["ok"] * 3000
        assert [calls.results[n].result.text for n in range(3000)] == calls.keys  # type: ignore[union-attr]
        return ended, server.requests

    without, requests_without = run_virtual(lambda: main(False))
    hedged, requests = run_virtual(lambda: main(True))

    assert hedged < 0.8 * without
    assert requests_without == 3000
    assert 3000 < requests <= 1.02 * 3000


def test_the_first_answer_counts_and_the_other_request_is_cancelled_and_maybe_paid() -> None:
    async def main() -> tuple[Calls, ModelServer, float]:
        server = ModelServer(latency_s=in_turn(100.0, 1.0))
        calls = Hedged(COMMON + 1)
        ended = await to_end(server, calls)
        await asyncio.sleep(0)
        return calls, server, ended

    calls, server, ended = run_virtual(main)

    straggler = calls.results[COMMON]
    assert (straggler.attempts, straggler.maybe_paid) == (2, 1)
    assert calls.queue.hedges == 1
    assert 2.0 <= ended <= 2.01, "a 99th percentile of one second, and one second more"
    assert (server.requests, server.in_flight, calls.queue.in_flight) == (COMMON + 2, 0, 0)


def test_two_answers_at_one_time_make_one_result() -> None:
    async def main() -> tuple[Calls, int]:
        server = ModelServer(latency_s=in_turn(3.0, 3.0 - 1.0 - 1e-4))
        calls = Hedged(COMMON + 1)
        dispatcher = dispatcher_to(server, Limiter(window=1000))
        dispatcher.attach(calls.queue)
        await calls.all()
        await asyncio.sleep(1)
        assert len(asyncio.all_tasks()) == 1
        return calls, dispatcher.in_flight

    calls, in_flight = run_virtual(main)

    assert calls.order.count(COMMON) == 1, "and the double asserts that a call ends once"
    assert in_flight == 0


def test_without_the_money_for_it_nothing_is_sent_twice() -> None:
    async def main() -> tuple[int, float]:
        server = ModelServer(latency_s=in_turn(50.0))
        ended = await to_end(server, Hedged(COMMON + 1, affords=False))
        return server.requests, ended

    assert run_virtual(main) == (COMMON + 1, 50.0)


def test_a_call_is_sent_a_second_time_and_never_a_third() -> None:
    async def main() -> tuple[int, float]:
        server = ModelServer(latency_s=in_turn(50.0, 50.0, 0.1))
        ended = await to_end(server, Hedged(COMMON + 1))
        return server.requests, ended

    assert run_virtual(main) == (COMMON + 2, 50.0)


def test_fewer_than_twenty_replies_make_no_call_count_as_hanging() -> None:
    async def main() -> int:
        latencies = iter([1.0] * 19 + [30.0])
        server = ModelServer(latency_s=lambda rng: next(latencies))
        await to_end(server, Hedged(20))
        return server.requests

    assert run_virtual(main) == 20


def test_a_second_request_waits_while_anything_else_is_to_be_sent_again() -> None:
    async def main() -> list[float]:
        refused = RawReply(429, {"retry-after": "20"}, b"")
        server = ModelServer(latency_s=in_turn(50.0, 1.0, 1.0, 1.0), script={COMMON + 1: refused})
        await to_end(server, Hedged(COMMON + 2))
        return server.starts[COMMON + 2 :]

    again, hedge = run_virtual(main)

    assert again >= 20.0
    assert again <= hedge <= again + 0.01, "as soon as that is on the wire"


def test_a_second_request_keeps_the_runs_own_ceilings() -> None:
    async def main(**queue: object) -> list[float]:
        server = ModelServer(latency_s=in_turn(500.0, 1.0))
        calls = Hedged(COMMON + 1, timeout_s=1e6, **queue)
        if not queue:
            calls.queue.add_limit(UserRateLimit(requests_per_min=20.0))
        await to_end(server, calls)
        return server.starts[COMMON:]

    (first, second) = run_virtual(main)
    alone = run_virtual(lambda: main(concurrency=1))

    assert second - first == pytest.approx(3.0, abs=1e-3)
    assert len(alone) == 1


def test_after_a_failure_of_one_request_the_other_is_waited_for() -> None:
    async def main() -> tuple[Calls, int]:
        reset = TransportFault(FailureKind.CONNECTION, "reset")
        server = ModelServer(latency_s=in_turn(10.0, 5.0), script={COMMON + 1: reset})
        calls = Hedged(COMMON + 1, max_retries=0)
        await to_end(server, calls)
        return calls, server.requests

    calls, requests = run_virtual(main)

    assert calls.kinds() == ["ok"] * (COMMON + 1)
    assert (calls.results[COMMON].attempts, calls.results[COMMON].maybe_paid) == (2, 1)
    assert requests == COMMON + 2


async def hanging_then(second_s: float) -> tuple[Calls, float]:
    """A straggler that hangs and whose second request takes *second_s*, each of the two for four seconds at most."""
    calls = Hedged(COMMON + 1, timeout_s=4.0, max_retries=0)
    ended = await to_end(ModelServer(latency_s=in_turn(100.0, second_s)), calls)
    return calls, ended


def test_each_of_two_requests_has_a_time_limit_of_its_own() -> None:
    calls, ended = run_virtual(lambda: hanging_then(3.5))

    assert calls.kinds() == ["ok"] * (COMMON + 1)
    assert 4.5 <= ended <= 4.51


def test_both_requests_failing_is_one_failed_attempt() -> None:
    calls, ended = run_virtual(lambda: hanging_then(100.0))

    assert calls.kinds() == [*["ok"] * COMMON, "timeout"]
    assert (calls.results[COMMON].attempts, calls.results[COMMON].maybe_paid) == (2, 2)
    assert 5.0 <= ended <= 5.01


def test_cancelling_a_hedged_run_leaves_no_task() -> None:
    async def main() -> tuple[Calls, int, ModelServer, int]:
        server = ModelServer(latency_s=in_turn(100.0, 100.0))
        dispatcher = dispatcher_to(server, Limiter(window=1000))
        calls = Hedged(COMMON + 1)
        dispatcher.attach(calls.queue)
        await asyncio.sleep(3)
        assert server.in_flight == 2
        dispatcher.detach(calls.queue)
        await calls.all()
        await asyncio.sleep(0)
        return calls, len(asyncio.all_tasks() - {asyncio.current_task()}), server, dispatcher.in_flight  # type: ignore[arg-type]

    calls, tasks, server, in_flight = run_virtual(main)

    assert calls.kinds()[COMMON] == "cancelled"
    assert calls.results[COMMON].maybe_paid == 2
    assert (tasks, server.in_flight, in_flight, calls.queue.in_flight) == (0, 0, 0, 0)


def test_a_run_that_shares_a_call_has_its_answer_when_the_one_that_hedged_stops() -> None:
    async def main() -> tuple[Calls, Calls, ModelServer]:
        server = ModelServer(latency_s=in_turn(10.0, 100.0))
        dispatcher = dispatcher_to(server, Limiter(window=1000))
        hedging, other = Hedged(COMMON + 1), Calls([str(COMMON)])
        dispatcher.attach(hedging.queue)
        await asyncio.sleep(0.5)
        dispatcher.attach(other.queue)
        await asyncio.sleep(2.5)
        assert server.in_flight == 2
        dispatcher.detach(hedging.queue)
        await asyncio.sleep(0)
        assert server.in_flight == 1
        await other.all()
        await hedging.all()
        return hedging, other, server

    hedging, other, server = run_virtual(main)

    assert other.kinds() == ["ok"]
    assert hedging.kinds()[COMMON] == "cancelled"
    assert (server.in_flight, hedging.queue.in_flight, other.queue.in_flight) == (0, 0, 0)


def test_a_run_that_joins_a_hedged_call_shares_its_first_answer() -> None:
    async def main() -> tuple[Calls, int]:
        server = ModelServer(latency_s=in_turn(100.0, 5.0))
        dispatcher = dispatcher_to(server, Limiter(window=1000))
        hedging, joining = Hedged(COMMON + 1), Calls([str(COMMON)])
        dispatcher.attach(hedging.queue)
        await asyncio.sleep(2)
        dispatcher.attach(joining.queue)
        await joining.all()
        await hedging.all()
        return joining, server.requests

    joining, requests = run_virtual(main)

    assert joining.kinds() == ["ok"]
    assert requests == COMMON + 2
