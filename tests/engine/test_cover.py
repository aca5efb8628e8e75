"""A request that may have been paid is repeated only with money put by for it, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pllm_notebook.engine import Job, Landing
from pllm_notebook.protocols import TransportFault
from pllm_notebook.records import FailureKind, RawReply
from tests.engine.virtual import Calls, ModelServer, lane_to, run_virtual

RESET = TransportFault(FailureKind.CONNECTION, "reset")
SERVER_ERROR = RawReply(500, {}, b"")


class Money:
    """A run's money, in requests.

    Args:
        calls: The run; its calls are settled here as they land.
        requests: That it can pay for.

    Attributes:
        left: Requests that can still be paid for.
        covered: Requests beyond each call's first that money was put by for.
    """

    def __init__(self, calls: Calls, requests: int) -> None:
        self.left = requests
        self.covered = 0
        self._take = calls.feed.source
        calls.feed.source, calls.feed.cover = self._source, self.cover

    def _source(self) -> Job | None:
        if not self.left:
            return None
        job = self._take()
        if job is not None:
            self.left -= 1
            done, job.done = job.done, lambda job, landing: self._settle(job, landing, done)
        return job

    def cover(self, job: Job) -> bool:
        if not self.left:
            return False
        self.left -= 1
        self.covered += 1
        return True

    def _settle(self, job: Job, landing: Landing, done: Callable[[Job, Landing], None]) -> None:
        # What was answered cost nearly nothing.
        self.left += job.covered - landing.maybe_paid
        done(job, landing)


def test_requests_that_may_have_been_paid_are_never_more_than_the_money_is_for() -> None:
    async def main() -> tuple[Calls, int]:
        server = ModelServer(latency_s=lambda rng: 1e9)
        calls = Calls(["a", "b", "c"], timeout_s=2.0, max_retries=9)
        Money(calls, 7)
        lane_to(server).attach(calls.feed)
        await calls.all()
        return calls, server.requests

    calls, requests = run_virtual(main)

    assert requests == 7
    assert calls.kinds() == ["timeout"] * 3
    assert all(landing.short for landing in calls.landed.values())
    assert sum(landing.maybe_paid for landing in calls.landed.values()) == 7


def test_a_retry_waits_for_money_that_another_call_has_put_by() -> None:
    async def main() -> tuple[Calls, list[float]]:
        latencies = iter([1.0, 10.0, 1.0])
        server = ModelServer(latency_s=lambda rng: next(latencies), script={0: RESET})
        calls = Calls(["lost", "slow"])
        Money(calls, 2)
        lane_to(server).attach(calls.feed)
        await calls.all()
        return calls, server.starts

    calls, starts = run_virtual(main)

    assert calls.kinds() == ["ok", "ok"]
    assert starts == [0.0, 0.0, 10.0]


def test_a_retry_waits_for_a_call_that_is_itself_to_be_sent_again() -> None:
    async def main() -> tuple[Calls, int]:
        server = ModelServer(script={0: RESET, 1: RawReply(429, {"retry-after": "30"}, b"")})
        calls = Calls(["lost", "refused"])
        Money(calls, 2)
        lane_to(server).attach(calls.feed)
        await calls.all()
        return calls, server.requests

    calls, requests = run_virtual(main)

    assert calls.kinds() == ["ok", "ok"]
    assert calls.order == [1, 0]
    assert requests == 4


def test_a_failure_that_cost_nothing_needs_no_more_money() -> None:
    async def main() -> Calls:
        calls = Calls(["a"], max_retries=3)
        Money(calls, 1)
        lane_to(ModelServer(script=dict.fromkeys(range(3), SERVER_ERROR))).attach(calls.feed)
        await calls.all()
        return calls

    assert run_virtual(main).kinds() == ["ok"]


def test_money_put_by_for_a_second_request_that_was_refused_pays_for_the_next() -> None:
    async def main() -> tuple[Calls, Money, int]:
        latencies = iter([1.0] * 30 + [1e9, 1.0, 1.0])
        server = ModelServer(latency_s=lambda rng: next(latencies), script={31: SERVER_ERROR})
        calls = Calls([str(n) for n in range(31)], timeout_s=5.0)
        money = Money(calls, 32)
        calls.feed.spare = lambda job: calls.feed.source() is None and money.cover(job)
        lane_to(server).attach(calls.feed)
        await calls.all()
        return calls, money, server.requests

    calls, money, requests = run_virtual(main)

    assert calls.kinds() == ["ok"] * 31
    assert calls.landed[30].maybe_paid == 1
    assert (requests, money.covered) == (33, 1)


def test_what_has_no_money_is_cancelled_with_its_run() -> None:
    async def main() -> tuple[Calls, float]:
        latencies = iter([1.0, 1e5])
        calls = Calls(["lost", "slow"], timeout_s=1e6)
        Money(calls, 2)
        lane = lane_to(ModelServer(latency_s=lambda rng: next(latencies), script={0: RESET}))
        lane.attach(calls.feed)
        await asyncio.sleep(100)
        assert calls.feed.waiting == 1
        lane.detach(calls.feed)
        await calls.all()
        return calls, asyncio.get_running_loop().time()

    calls, ended = run_virtual(main)

    assert calls.kinds() == ["cancelled"] * 2
    assert ended == 100.0


def test_a_fault_of_the_lane_itself_is_told_to_every_run() -> None:
    async def main() -> list[str]:
        told: list[str] = []
        lane = lane_to(ModelServer())
        for name in ("one", "two"):
            calls = Calls([name])
            calls.feed.fault = lambda error, name=name: told.append(f"{name}: {error}")
            lane.attach(calls.feed)

        def broken(now: float, tokens: float) -> float:
            raise ZeroDivisionError("made up")

        lane.limiter.wait_s = broken  # type: ignore[method-assign]
        await asyncio.sleep(1)
        return told

    told = run_virtual(main)

    assert sorted(told) == ["one: made up", "two: made up"]
