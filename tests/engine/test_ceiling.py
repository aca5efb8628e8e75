"""A ceiling that several feeds keep together, on virtual time."""

from __future__ import annotations

from pllm_notebook.engine import Ceiling
from tests.engine.virtual import Calls, ModelServer, lane_to, run_virtual


def test_feeds_of_several_lanes_keep_one_rate_together() -> None:
    async def main() -> list[float]:
        ceiling = Ceiling(requests_per_min=60.0)
        servers = [ModelServer(), ModelServer()]
        both = [Calls(["a", "b", "c"]), Calls(["d", "e", "f"])]
        for server, calls in zip(servers, both, strict=True):
            calls.feed.keep(ceiling)
            lane_to(server).attach(calls.feed)
        for calls in both:
            await calls.all()
        return sorted(round(start, 2) for server in servers for start in server.starts)

    assert run_virtual(main) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_feed_that_comes_later_finds_what_the_earlier_one_has_left() -> None:
    async def main() -> list[float]:
        ceiling = Ceiling(requests_per_min=60.0)
        server = ModelServer(latency_s=lambda rng: 0.25)
        lane = lane_to(server)
        for key in ("a", "b", "c"):
            calls = Calls([key])
            calls.feed.keep(ceiling)
            lane.attach(calls.feed)
            await calls.all()
        return [round(start, 2) for start in server.starts]

    assert run_virtual(main) == [0.0, 1.0, 2.0]


def test_a_ceiling_without_rates_keeps_nobody_back() -> None:
    async def main() -> list[float]:
        server = ModelServer()
        calls = Calls(["a", "b", "c"])
        calls.feed.keep(Ceiling())
        lane_to(server).attach(calls.feed)
        await calls.all()
        return server.starts

    assert run_virtual(main) == [0.0, 0.0, 0.0]
    assert repr(Ceiling(requests_per_min=90.0)) == "Ceiling(requests=90 a minute, tokens=none)"
