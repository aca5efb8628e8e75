"""A ceiling that several feeds keep together, on virtual time."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable

from pllm_notebook.engine import AccountRateLimit, UserRateLimit
from pllm_notebook.types import RawReply
from tests.engine.virtual import Calls, ModelServer, dispatcher_to, run_virtual

Post = Callable[[str, bytes], Awaitable[RawReply]]


def test_queues_of_several_dispatchers_share_one_rate() -> None:
    async def main() -> list[float]:
        ceiling = UserRateLimit(requests_per_min=60.0)
        servers = [ModelServer(), ModelServer()]
        both = [Calls(["a", "b", "c"]), Calls(["d", "e", "f"])]
        for server, calls in zip(servers, both, strict=True):
            calls.queue.add_limit(ceiling)
            dispatcher_to(server).attach(calls.queue)
        for calls in both:
            await calls.all()
        return sorted(round(start, 2) for server in servers for start in server.starts)

    assert run_virtual(main) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_later_queue_finds_what_the_earlier_one_has_left() -> None:
    async def main() -> list[float]:
        ceiling = UserRateLimit(requests_per_min=60.0)
        server = ModelServer(latency_s=lambda rng: 0.25)
        dispatcher = dispatcher_to(server)
        for key in ("a", "b", "c"):
            calls = Calls([key])
            calls.queue.add_limit(ceiling)
            dispatcher.attach(calls.queue)
            await calls.all()
        return [round(start, 2) for start in server.starts]

    assert run_virtual(main) == [0.0, 1.0, 2.0]


def test_a_ceiling_without_rates_keeps_nobody_back() -> None:
    async def main() -> list[float]:
        server = ModelServer()
        calls = Calls(["a", "b", "c"])
        calls.queue.add_limit(UserRateLimit())
        dispatcher_to(server).attach(calls.queue)
        await calls.all()
        return server.starts

    assert run_virtual(main) == [0.0, 0.0, 0.0]
    assert repr(UserRateLimit(requests_per_min=90.0)) == (
        "UserRateLimit(requests=90 a minute, tokens=none, in_flight=0, concurrency=None)"
    )


def test_requests_in_flight_of_several_dispatchers_are_counted_together() -> None:
    async def main() -> tuple[int, float]:
        ceiling = UserRateLimit(concurrency=3)
        servers = [ModelServer(), ModelServer()]
        both = [Calls([f"{name}{n}" for n in range(6)]) for name in "ab"]
        most = 0

        async def watched(path: str, content: bytes, post: Post) -> RawReply:
            nonlocal most
            most = max(most, 1 + sum(server.in_flight for server in servers))
            return await post(path, content)

        for server, calls in zip(servers, both, strict=True):
            server.post = functools.partial(watched, post=server.post)  # type: ignore[method-assign]
            calls.queue.add_limit(ceiling)
            dispatcher_to(server).attach(calls.queue)
        for calls in both:
            await calls.all()
        return most, asyncio.get_running_loop().time()

    most, took_s = run_virtual(main)

    assert most == 3
    assert round(took_s, 1) == 1.2  # twelve calls of 0.3 s, three at a time


def test_runs_of_one_account_keep_the_tightest_of_what_they_state_while_it_is_stated() -> None:
    account = AccountRateLimit()

    account.register(0.0, "a", (UserRateLimit(requests_per_min=120.0, concurrency=8),))
    account.register(0.0, "b", (UserRateLimit(requests_per_min=60.0),))
    both = account.requests.rate, account.concurrency
    account.unregister(1.0, "b")
    one = account.requests.rate, account.concurrency
    account.unregister(2.0, "a")

    assert both == (1.0, 8)
    assert one == (2.0, 8)
    assert (account.requests.rate, account.concurrency) == (None, None)


def test_a_run_that_follows_another_finds_what_that_one_took() -> None:
    account = AccountRateLimit()
    account.register(0.0, "a", (UserRateLimit(requests_per_min=120.0),))
    account.charge(0.0, 1.0)
    account.charge(0.0, 1.0)
    account.unregister(0.0, "a")

    account.register(0.25, "b", (UserRateLimit(requests_per_min=120.0),))

    assert account.wait_s(0.25, 1.0) == 0.25


def test_runs_of_one_account_send_no_more_together_than_the_tighter_rate() -> None:
    async def main() -> list[float]:
        account, server = AccountRateLimit(), ModelServer()
        both = [Calls([f"{name}{n}" for n in range(4)]) for name in "ab"]
        for calls, per_min in zip(both, (60.0, 600.0), strict=True):
            calls.queue.add_limit(UserRateLimit(requests_per_min=per_min))
            dispatcher = dispatcher_to(server)
            dispatcher.account = account
            dispatcher.attach(calls.queue)
        for calls in both:
            await calls.all()
        return server.starts

    starts = run_virtual(main)

    # At one a second, of which the first may leave at once.
    assert starts[-1] >= 6.9


def test_a_run_without_a_limit_of_its_own_is_neither_held_nor_counted() -> None:
    async def main() -> list[float]:
        account, server = AccountRateLimit(), ModelServer()
        tight, free = Calls(["a", "b"]), Calls([f"c{n}" for n in range(5)])
        tight.queue.add_limit(UserRateLimit(requests_per_min=60.0))
        for calls in (tight, free):
            dispatcher = dispatcher_to(server)
            dispatcher.account = account
            dispatcher.attach(calls.queue)
        await tight.all()
        await free.all()
        return [round(start, 1) for start in server.starts]

    assert run_virtual(main) == [0.0] * 6 + [1.0]
