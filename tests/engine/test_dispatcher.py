"""The dispatcher, on virtual time: exact moments, exact counts."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from pllm_notebook.engine import Limiter, UserRateLimit
from pllm_notebook.exceptions import MissingKeyError
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.pending_call import PendingCall
from pllm_notebook.protocols import TransportFault
from pllm_notebook.types import RawReply
from tests.engine.virtual import Calls, ModelServer, dispatcher_to, run_virtual

RESET = TransportFault(FailureKind.CONNECTION, "reset")
SERVER_ERROR = RawReply(500, {}, b"")


def keys(count: int) -> list[str]:
    return [str(n) for n in range(count)]


def test_every_call_ends_once_with_its_own_answer() -> None:
    async def main() -> list[str]:
        server = ModelServer(latency_s=lambda rng: rng.uniform(0.1, 2.0))
        calls = Calls(keys(200))
        dispatcher_to(server).attach(calls.queue)
        await calls.all()
        assert calls.order != sorted(calls.order)
        return [calls.results[n].result.text for n in range(200)]  # type: ignore[union-attr]

    assert run_virtual(main) == keys(200)


def test_no_more_calls_are_in_flight_than_the_run_allows() -> None:
    async def main() -> int:
        server = ModelServer()
        calls = Calls(keys(50), concurrency=7)
        dispatcher_to(server).attach(calls.queue)
        await calls.all()
        return server.peak

    assert run_virtual(main) == 7


def test_waiting_calls_do_not_wake_together() -> None:
    async def main() -> list[float]:
        server = ModelServer()
        calls = Calls(keys(5), concurrency=5)
        calls.queue.add_limit(UserRateLimit(requests_per_min=30.0))
        dispatcher_to(server).attach(calls.queue)
        await calls.all()
        return [round(start, 2) for start in server.starts]

    assert run_virtual(main) == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_a_failure_that_can_pass_is_sent_again_and_counts_as_an_attempt() -> None:
    async def main() -> Calls:
        calls = Calls(["a"])
        dispatcher_to(ModelServer(script={0: SERVER_ERROR, 1: RESET})).attach(calls.queue)
        await calls.all()
        return calls

    calls = run_virtual(main)

    assert calls.kinds() == ["ok"]
    assert calls.results[0].attempts == 3
    assert calls.results[0].maybe_paid == 1, "a reset may have been paid for, a 500 not"


def test_retries_end_and_the_last_failure_is_the_rows_own() -> None:
    async def main() -> tuple[Calls, int]:
        server = ModelServer(script=dict.fromkeys(range(10), SERVER_ERROR))
        calls = Calls(["a"], max_retries=2)
        dispatcher_to(server).attach(calls.queue)
        await calls.all()
        return calls, server.requests

    calls, requests = run_virtual(main)

    assert calls.kinds() == ["server_error"]
    assert requests == 3


def test_a_call_that_waits_to_be_sent_again_holds_no_slot() -> None:
    async def main() -> list[int]:
        server = ModelServer(script={0: SERVER_ERROR})
        calls = Calls(["bad", "b", "c"], concurrency=1)
        dispatcher_to(server).attach(calls.queue)
        await calls.all()
        return calls.order

    assert run_virtual(main) == [1, 0, 2]


def test_a_refusal_does_not_count_as_an_attempt() -> None:
    async def main() -> Calls:
        refused = RawReply(429, {"retry-after": "3"}, b"")
        calls = Calls(["a"], max_retries=1)
        dispatcher_to(ModelServer(script=dict.fromkeys(range(6), refused))).attach(calls.queue)
        await calls.all()
        return calls

    calls = run_virtual(main)

    assert calls.kinds() == ["ok"]
    assert calls.results[0].attempts == 7


def test_a_stated_wait_is_kept() -> None:
    async def main() -> list[float]:
        server = ModelServer(script={0: RawReply(429, {"retry-after": "30"}, b"")})
        calls = Calls(["a"])
        dispatcher_to(server).attach(calls.queue)
        await calls.all()
        return server.starts

    first, second = run_virtual(main)

    assert first == 0.0
    assert 30.0 <= second - first <= 33.5


def test_a_request_that_hangs_ends_at_its_time_limit() -> None:
    async def main() -> tuple[Calls, float]:
        calls = Calls(["a"], timeout_s=2.0, max_retries=0)
        dispatcher_to(ModelServer(latency_s=lambda rng: 1e9)).attach(calls.queue)
        await calls.all()
        return calls, asyncio.get_running_loop().time()

    calls, ended = run_virtual(main)

    assert calls.kinds() == ["timeout"]
    assert calls.results[0].maybe_paid == 1
    assert ended == 2.0


def test_requests_of_different_limits_each_end_at_their_own() -> None:
    async def main() -> list[float]:
        dispatcher = dispatcher_to(ModelServer(latency_s=lambda rng: 1e9))
        ended = []
        patient, hasty = Calls(["a", "b"], timeout_s=5.0, max_retries=0), Calls(["c"], timeout_s=2.0, max_retries=0)
        dispatcher.attach(patient.queue)
        await asyncio.sleep(1)
        dispatcher.attach(hasty.queue)
        for calls in (hasty, patient):
            await calls.all()
            ended.append(asyncio.get_running_loop().time())
            assert set(calls.kinds()) == {"timeout"}
        return ended

    assert run_virtual(main) == [3.0, 5.0]


def test_a_call_that_is_sent_again_after_its_time_limit_has_its_whole_time_again() -> None:
    async def main() -> tuple[Calls, float]:
        latencies = iter([1e9, 1.5])
        calls = Calls(["a"], timeout_s=2.0)
        dispatcher_to(ModelServer(latency_s=lambda rng: next(latencies))).attach(calls.queue)
        await calls.all()
        return calls, asyncio.get_running_loop().time()

    calls, ended = run_virtual(main)

    assert calls.kinds() == ["ok"]
    assert 3.5 < ended < 4.0


def test_a_run_stopped_at_the_moment_of_a_time_limit_is_cancelled() -> None:
    async def main() -> tuple[Calls, int]:
        calls = Calls(["a"], timeout_s=2.0, max_retries=0)
        dispatcher = dispatcher_to(ModelServer(latency_s=lambda rng: 1e9))
        dispatcher.attach(calls.queue)
        asyncio.get_running_loop().call_at(2.0, dispatcher.detach, calls.queue)
        await calls.all()
        await asyncio.sleep(0)
        return calls, len(asyncio.all_tasks())

    calls, tasks = run_virtual(main)

    assert calls.kinds() == ["cancelled"]
    assert tasks == 1


def test_the_task_of_a_call_that_has_landed_carries_the_next() -> None:
    async def main() -> int:
        server = ModelServer(latency_s=lambda rng: rng.uniform(0.1, 2.0))
        carriers = set()
        post = server.post

        async def noted(path: str, content: bytes) -> RawReply:
            carriers.add(asyncio.current_task())
            return await post(path, content)

        server.post = noted  # type: ignore[method-assign]
        calls = Calls(keys(200), concurrency=8)
        dispatcher_to(server).attach(calls.queue)
        await calls.all()
        return len(carriers)

    assert run_virtual(main) == 8


def test_a_row_that_cannot_pass_is_not_sent_again() -> None:
    async def main() -> tuple[Calls, int]:
        server = ModelServer(script={0: RawReply(400, {}, b"")})
        calls = Calls(["bad", "good"])
        dispatcher_to(server).attach(calls.queue)
        await calls.all()
        return calls, server.requests

    calls, requests = run_virtual(main)

    assert calls.kinds() == ["bad_request", "ok"]
    assert requests == 2


def test_equal_calls_of_two_runs_are_sent_once() -> None:
    async def main() -> tuple[Calls, Calls, int]:
        server = ModelServer()
        dispatcher = dispatcher_to(server)
        one, two = Calls(keys(20)), Calls(keys(20))
        dispatcher.attach(one.queue)
        dispatcher.attach(two.queue)
        await one.all()
        await two.all()
        return one, two, server.requests

    one, two, requests = run_virtual(main)

    assert one.kinds() == two.kinds() == ["ok"] * 20
    assert requests == 20
    results = [*one.results.values(), *two.results.values()]
    assert sum(result.joined is None for result in results) == requests  # each is paid for by one of them


def test_a_call_joins_none_whose_answer_may_be_cut_off_elsewhere() -> None:
    async def main() -> int:
        server = ModelServer()
        dispatcher = dispatcher_to(server)
        one, two = Calls(keys(5), output_limit=16), Calls(keys(5))
        dispatcher.attach(one.queue)
        dispatcher.attach(two.queue)
        await one.all()
        await two.all()
        return server.requests

    assert run_virtual(main) == 10


def test_a_run_joins_what_is_in_flight_even_when_no_more_may_leave() -> None:
    async def main() -> int:
        server = ModelServer()
        dispatcher = dispatcher_to(server, Limiter(window=4))
        first, second = Calls(keys(40)), Calls(keys(40))
        dispatcher.attach(first.queue)
        await asyncio.sleep(0.1)
        dispatcher.attach(second.queue)
        await first.all()
        await second.all()
        return server.requests

    assert run_virtual(main) == 40


def test_cancelling_one_run_leaves_the_call_it_shares_with_another() -> None:
    async def main() -> tuple[Calls, Calls, int]:
        server = ModelServer(latency_s=lambda rng: 5.0)
        dispatcher = dispatcher_to(server)
        one, two = Calls(["a"]), Calls(["a"])
        dispatcher.attach(one.queue)
        dispatcher.attach(two.queue)
        await asyncio.sleep(1)
        dispatcher.detach(one.queue)
        await two.all()
        await one.all()
        return one, two, server.requests

    one, two, requests = run_virtual(main)

    assert (one.kinds(), two.kinds(), requests) == (["cancelled"], ["ok"], 1)


def test_a_run_that_joins_a_cancelled_call_has_it_sent_again() -> None:
    async def main() -> Calls:
        dispatcher = dispatcher_to(ModelServer(latency_s=lambda rng: 5.0))
        one, two = Calls(["a"]), Calls(["a"])
        dispatcher.attach(one.queue)
        await asyncio.sleep(1)
        dispatcher.attach(two.queue)
        dispatcher.detach(one.queue)
        await two.all()
        return two

    assert run_virtual(main).kinds() == ["ok"]


def test_cancelling_ends_every_call_and_leaves_no_task() -> None:
    async def main() -> tuple[Calls, int, int]:
        server = ModelServer(latency_s=lambda rng: 5.0, script={0: SERVER_ERROR})
        dispatcher = dispatcher_to(server, Limiter(window=10))
        calls = Calls(keys(30))
        dispatcher.attach(calls.queue)
        await asyncio.sleep(5.1)  # one has failed and waits, ten or more are on the wire
        dispatcher.detach(calls.queue)
        await asyncio.sleep(1)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        return calls, len(tasks), server.in_flight

    calls, tasks, in_flight = run_virtual(main)

    assert set(calls.kinds()) == {"ok", "cancelled"}
    assert (tasks, in_flight) == (0, 0)


def test_a_run_cancelled_before_its_first_call_left_ends_all_the_same() -> None:
    async def main() -> Calls:
        dispatcher = dispatcher_to(ModelServer())
        calls = Calls(keys(3))
        dispatcher.attach(calls.queue)
        dispatcher._dispatch()  # tasks exist and have not taken their first step
        dispatcher.detach(calls.queue)
        await calls.all()
        return calls

    calls = run_virtual(main)

    assert calls.kinds() == ["cancelled"] * 3
    assert [calls.results[n].maybe_paid for n in range(3)] == [0, 0, 0]


def test_a_short_run_does_not_wait_behind_a_long_one() -> None:
    async def main() -> tuple[float, float]:
        dispatcher = dispatcher_to(ModelServer(), Limiter(window=4, max_window=4))
        long, short = Calls([f"long {n}" for n in range(400)]), Calls([f"short {n}" for n in range(4)])
        dispatcher.attach(long.queue)
        await asyncio.sleep(1)
        dispatcher.attach(short.queue)
        await short.all()
        at = asyncio.get_running_loop().time()
        await long.all()
        return at, asyncio.get_running_loop().time()

    short_ended, long_ended = run_virtual(main)

    assert short_ended <= 2.5
    assert long_ended >= 30


class Learners(Calls):
    """Calls whose requests change with each rejection."""

    def __init__(self, keys: list[str], **policy: Any) -> None:
        super().__init__(keys, **policy)
        self.rejected: list[bytes] = []

    def content(self, key: str) -> bytes:
        return f"{key}, {len(self.rejected)} learned".encode()

    def adapt(self, failure: Failure, content: bytes) -> bool:
        self.rejected.append(content)
        return True


def test_an_adapted_call_is_sent_again_at_once_and_not_counted() -> None:
    async def main() -> Learners:
        calls = Learners(["a"], max_retries=0)
        dispatcher_to(ModelServer(script={0: RawReply(400, {}, b"")}), adapt=calls.adapt).attach(calls.queue)
        await calls.all()
        return calls

    calls = run_virtual(main)

    assert calls.kinds() == ["ok"]
    assert calls.rejected == [b"a, 0 learned"]


def test_a_call_that_adapting_does_not_change_is_not_sent_again() -> None:
    class Fixed(Learners):
        def content(self, key: str) -> bytes:
            return b"fixed" if key == "fixed" else super().content(key)

    async def main() -> tuple[Fixed, int]:
        server = ModelServer(script=dict.fromkeys(range(2), RawReply(400, {}, b"")))
        calls = Fixed(["fixed", "a"])
        dispatcher_to(server, adapt=calls.adapt).attach(calls.queue)
        await calls.all()
        return calls, server.requests

    calls, requests = run_virtual(main)

    assert calls.kinds() == ["bad_request", "ok"]
    assert requests == 3
    assert (calls.results[0].attempts, calls.results[1].attempts) == (1, 2)


def test_a_call_that_cannot_be_built_again_has_that_as_its_failure(caplog: pytest.LogCaptureFixture) -> None:
    class Gone(Learners):
        def content(self, key: str) -> bytes:
            if self.rejected:
                raise OSError("the file is gone")
            return super().content(key)

    async def main() -> Gone:
        calls = Gone(["a"])
        dispatcher_to(ModelServer(script={0: RawReply(400, {}, b"")}), adapt=calls.adapt).attach(calls.queue)
        await calls.all()
        return calls

    with caplog.at_level(logging.CRITICAL, "pllm_notebook"):
        calls = run_virtual(main)

    assert calls.kinds() == ["input"]
    assert calls.errors == []


def test_replies_that_take_no_time_by_the_clock_are_replies() -> None:
    async def main() -> Calls:
        calls = Calls([str(n) for n in range(200)])
        dispatcher_to(ModelServer(latency_s=lambda rng: 0.0)).attach(calls.queue)
        await calls.all()
        return calls

    calls = run_virtual(main)

    assert calls.kinds() == ["ok"] * 200
    assert calls.errors == []


def test_a_source_that_had_nothing_is_not_asked_again_until_it_has_something() -> None:
    class Counted(Calls):
        asked = 0

        def next(self) -> PendingCall | None:
            self.asked += 1
            call = super().next()
            self.queue.is_empty = call is None
            return call

    async def main() -> tuple[Calls, list[int]]:
        calls = Counted(["a", "b"])
        dispatcher = dispatcher_to(ModelServer())
        dispatcher.attach(calls.queue)
        await calls.all()
        asked = [calls.asked]
        dispatcher.wake()
        await asyncio.sleep(10)
        asked.append(calls.asked)
        calls.keys.append("c")
        calls.queue.is_empty = False
        dispatcher.wake()
        await asyncio.sleep(10)
        return calls, asked

    calls, asked = run_virtual(main)

    assert asked == [3, 3]
    assert calls.kinds() == ["ok"] * 3


def test_few_adapted_calls_are_out_until_one_is_answered() -> None:
    async def main() -> tuple[Calls, list[float]]:
        server = ModelServer(script=dict.fromkeys(range(20), RawReply(400, {}, b"")))
        calls = Learners([str(n) for n in range(20)])
        dispatcher_to(server, adapt=calls.adapt).attach(calls.queue)
        await calls.all()
        return calls, server.starts

    calls, starts = run_virtual(main)

    adapted = starts[20:]
    assert calls.kinds() == ["ok"] * 20
    assert sum(start < adapted[0] + 0.3 for start in adapted) == 4
    assert max(adapted) < adapted[0] + 0.4


def test_no_adapted_call_is_sent_while_every_call_seems_to_be_refused() -> None:
    class Refused(Learners):
        def is_rejected(self) -> bool:
            return bool(self.results)

        def adapt(self, failure: Failure, content: bytes) -> bool:
            return super().adapt(failure, content) and len(self.rejected) <= 20

    async def main() -> tuple[Calls, int]:
        server = ModelServer(script=dict.fromkeys(range(100), RawReply(400, {}, b"")))
        calls = Refused([str(n) for n in range(20)])
        dispatcher = dispatcher_to(server, adapt=calls.adapt)
        dispatcher.attach(calls.queue)
        await asyncio.sleep(60)
        waiting = calls.queue.adapted
        dispatcher.detach(calls.queue)
        return calls, waiting

    calls, waiting = run_virtual(main)

    assert waiting == 16
    assert sorted(calls.kinds()) == ["bad_request"] * 4 + ["cancelled"] * 16


def test_a_server_that_cannot_be_adapted_to_is_not_asked_for_ever() -> None:
    async def main() -> tuple[Calls, int]:
        server = ModelServer(script=dict.fromkeys(range(100), RawReply(400, {}, b"")))
        calls = Learners(["a"])
        dispatcher_to(server, adapt=calls.adapt).attach(calls.queue)
        await calls.all()
        return calls, server.requests

    calls, requests = run_virtual(main)

    assert calls.kinds() == ["bad_request"]
    assert requests == 5


def test_a_fault_in_making_a_request_is_the_rows_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> Calls:
        calls = Calls(["a", "b"])
        calls.content = lambda key: b"b" if key == "b" else bytes(1 // 0)  # type: ignore[method-assign]
        dispatcher_to(ModelServer()).attach(calls.queue)
        await calls.all()
        return calls

    with caplog.at_level(logging.CRITICAL, "pllm_notebook"):
        calls = run_virtual(main)

    assert calls.kinds() == ["input", "ok"]


def test_a_dispatcher_that_cannot_connect_says_so_before_anything_is_sent() -> None:
    async def main() -> None:
        dispatcher = dispatcher_to(ModelServer())

        def no_key() -> ModelServer:
            raise MissingKeyError("openai", "OPENAI_API_KEY")

        dispatcher._endpoint = replace(dispatcher._endpoint, connect=no_key)
        with pytest.raises(MissingKeyError, match="OPENAI_API_KEY"):
            dispatcher.attach(Calls(["a"]).queue)

    run_virtual(main)


def test_closing_a_dispatcher_closes_its_connections() -> None:
    async def main() -> bool:
        server = ModelServer(latency_s=lambda rng: 100.0)
        dispatcher = dispatcher_to(server)
        dispatcher.attach(Calls(["a"]).queue)
        await asyncio.sleep(1)
        await dispatcher.aclose()
        return server.closed and server.in_flight == 0

    assert run_virtual(main)
