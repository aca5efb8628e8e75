"""Whatever goes wrong on a reply's way in, its call ends, it counts as perhaps paid, and nothing stays in flight."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.engine.virtual import Calls, ModelServer, lane_to, run_virtual


def broken(*args: Any, **named: Any) -> Any:
    raise ZeroDivisionError("made up")


def ask_twice(spoil: Any, mend: Any) -> tuple[Calls, Calls, int]:
    """Ask the same call while the lane is spoiled, and once it is mended."""

    async def main() -> tuple[Calls, Calls, int]:
        lane = lane_to(ModelServer())
        spoil(lane)
        first = Calls(["a", "b"], max_retries=0)
        first.feed.fault = lambda error: None
        lane.attach(first.feed)
        await asyncio.wait_for(first.all(), 100)
        left = lane.in_flight + len(lane._traffic.flights)
        mend(lane)
        second = Calls(["a", "b"], max_retries=0)
        lane.attach(second.feed)
        await asyncio.wait_for(second.all(), 100)
        return first, second, left

    return run_virtual(main)


@pytest.mark.parametrize(
    ("what", "kind"), [("_read", "malformed_reply"), ("_limits", "ok")], ids=["the reply", "its headers"]
)
def test_what_cannot_be_read_is_the_failure_of_its_call(what: str, kind: str) -> None:
    kept: list[Any] = []

    def spoil(lane: Any) -> None:
        kept.append(getattr(lane, what))
        setattr(lane, what, broken)

    first, second, left = ask_twice(spoil, lambda lane: setattr(lane, what, kept[0]))

    assert first.kinds() == [kind] * 2
    assert [landing.maybe_paid for landing in first.landed.values()] == [int(kind != "ok")] * 2
    assert second.kinds() == ["ok"] * 2
    assert left == 0


def test_what_a_transport_raises_is_a_connection_that_may_have_been_paid_for() -> None:
    kept: list[Any] = []

    def spoil(lane: Any) -> None:
        lane._transport = lane._connect()
        kept.append(lane._transport.post)
        lane._transport.post = broken

    first, second, left = ask_twice(spoil, lambda lane: setattr(lane._transport, "post", kept[0]))

    assert first.kinds() == ["connection"] * 2
    assert [landing.maybe_paid for landing in first.landed.values()] == [1, 1]
    assert second.kinds() == ["ok"] * 2
    assert left == 0


def test_a_landing_that_fails_halfway_leaves_no_flight_for_others_to_join() -> None:
    def spoil(lane: Any) -> None:
        lane.limiter.replied = broken
        lane.limiter.ended = broken

    def mend(lane: Any) -> None:
        del lane.limiter.replied, lane.limiter.ended

    first, second, left = ask_twice(spoil, mend)

    assert first.kinds() == ["malformed_reply"] * 2
    assert [landing.maybe_paid for landing in first.landed.values()] == [1, 1]
    assert second.kinds() == ["ok"] * 2
    assert left == 0
