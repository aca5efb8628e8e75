"""Whatever goes wrong on a reply's way in, its call ends, it counts as perhaps paid, and nothing stays in flight."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.engine.virtual import Calls, ModelServer, dispatcher_to, run_virtual


def broken(*args: Any, **named: Any) -> Any:
    raise ZeroDivisionError("made up")


def ask_twice(spoil: Any, mend: Any) -> tuple[Calls, Calls, int]:
    """Ask the same call while the dispatcher is spoiled, and once it is mended."""

    async def main() -> tuple[Calls, Calls, int]:
        dispatcher = dispatcher_to(ModelServer())
        spoil(dispatcher)
        first = Calls(["a", "b"], max_retries=0)
        dispatcher.attach(first.queue)
        await asyncio.wait_for(first.all(), 100)
        left = dispatcher.in_flight + len(dispatcher._table.by_key)
        mend(dispatcher)
        second = Calls(["a", "b"], max_retries=0)
        dispatcher.attach(second.queue)
        await asyncio.wait_for(second.all(), 100)
        return first, second, left

    return run_virtual(main)


@pytest.mark.parametrize(
    ("what", "kind"), [("read", "malformed_reply"), ("limits", "ok")], ids=["the reply", "its headers"]
)
def test_what_cannot_be_read_is_the_failure_of_its_call(what: str, kind: str) -> None:
    kept: list[Any] = []

    def spoil(dispatcher: Any) -> None:
        kept.append(dispatcher._endpoint)
        dispatcher._endpoint = replace(dispatcher._endpoint, **{what: broken})

    first, second, left = ask_twice(spoil, lambda dispatcher: setattr(dispatcher, "_endpoint", kept[0]))

    assert first.kinds() == [kind] * 2
    assert [result.maybe_paid for result in first.results.values()] == [int(kind != "ok")] * 2
    assert second.kinds() == ["ok"] * 2
    assert left == 0


def test_what_a_transport_raises_is_a_connection_that_may_have_been_paid_for() -> None:
    kept: list[Any] = []

    def spoil(dispatcher: Any) -> None:
        dispatcher._transport = dispatcher._endpoint.connect()
        kept.append(dispatcher._transport.post)
        dispatcher._transport.post = broken

    first, second, left = ask_twice(spoil, lambda dispatcher: setattr(dispatcher._transport, "post", kept[0]))

    assert first.kinds() == ["connection"] * 2
    assert [result.maybe_paid for result in first.results.values()] == [1, 1]
    assert second.kinds() == ["ok"] * 2
    assert left == 0


def test_a_completion_that_fails_halfway_leaves_no_request_for_others_to_join() -> None:
    def spoil(dispatcher: Any) -> None:
        dispatcher.limiter.replied = broken
        dispatcher.limiter.ended = broken

    def mend(dispatcher: Any) -> None:
        del dispatcher.limiter.replied, dispatcher.limiter.ended

    first, second, left = ask_twice(spoil, mend)

    assert first.kinds() == ["malformed_reply"] * 2
    assert [result.maybe_paid for result in first.results.values()] == [1, 1]
    assert second.kinds() == ["ok"] * 2
    assert left == 0
