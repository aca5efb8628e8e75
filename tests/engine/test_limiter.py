"""The limiter: the rules it follows, and how close to a modelled provider's limit it comes."""

from __future__ import annotations

import asyncio
import math

import pytest

from pllm_notebook.engine.limiter import Bucket, Limiter
from pllm_notebook.records import LimitReport
from tests.engine.virtual import Calls, ModelServer, lane_to, run_virtual

ROWS = 2_000


def test_an_unknown_bucket_makes_nobody_wait() -> None:
    bucket = Bucket()

    assert bucket.wait_s(0.0, 1e9) == 0.0


def test_a_bucket_is_charged_at_the_moment_of_leaving() -> None:
    bucket = Bucket(rate=2.0, capacity=2.0, level=2.0)

    waits = []
    for _ in range(4):
        waits.append(bucket.wait_s(0.0, 1.0))
        bucket.charge(0.0, 1.0)

    assert waits == [0.0, 0.0, 0.5, 1.0]


def test_a_need_beyond_the_capacity_waits_for_a_full_bucket_and_no_longer() -> None:
    bucket = Bucket(rate=1.0, capacity=10.0, level=0.0)

    assert bucket.wait_s(0.0, 1000.0) == 10.0


def test_a_settled_charge_gives_back_what_was_too_much() -> None:
    bucket = Bucket(rate=1.0, capacity=100.0, level=50.0)

    bucket.charge(0.0, 40.0)
    bucket.settle(30.0)

    assert (bucket.level, bucket.charged) == (40.0, 10.0)


def test_a_capacity_smaller_than_a_round_trip_does_not_starve() -> None:
    bucket = Bucket()
    bucket.hear(1.0, 0.0, 1.0, limit=600.0, remaining=0.0, reset_s=0.1)
    for n in range(100):  # a round trip of ten capacities, each reply as old as that
        now = 1.0 + n / 10
        bucket.charge(now, 1.0)
        bucket.hear(now, now - 1.0, bucket.charged - 10.0, limit=600.0, remaining=0.0, reset_s=0.1)

    assert bucket.wait_s(11.0, 1.0) < 0.2


def test_a_refusal_with_a_wait_and_no_headers_pauses_everybody() -> None:
    limiter = Limiter()
    stamp = limiter.charge(0.0, 10.0)

    limiter.refused_at(0.5, stamp, None, retry_after_s=4.0)

    assert limiter.wait_s(0.5, 10.0) == 4.0


def test_one_overload_halves_the_window_once_however_many_report_it() -> None:
    limiter = Limiter(window=32)

    for _ in range(20):
        limiter.overloaded(1.0, None)

    assert limiter.window == 16


def test_tokens_are_charged_as_estimated_and_settled_as_used() -> None:
    limiter = Limiter()
    report = LimitReport(None, None, None, 60_000.0, 60_000.0, 0.0)
    stamp = limiter.charge(0.0, 100.0)
    limiter.replied(1.0, stamp, report, 300.0)

    stamp = limiter.charge(1.0, 100.0)
    before = limiter.tokens.charged
    limiter.replied(2.0, stamp, None, 300.0)

    assert limiter.tokens.charged - before == pytest.approx(300.0 - 100.0 * 1.1)


@pytest.mark.parametrize(
    ("tells", "burst_s", "rpm", "most_refused", "least"),
    [
        ("full", 1.0, 6_000, 6, 0.95),
        ("full", 1.0, 600, 30, 0.95),
        ("retry_after", 1.0, 6_000, 90, 0.95),
        ("nothing", 1.0, 6_000, 90, 0.95),
        ("nothing", 0.2, 6_000, 90, 0.60),
    ],
)
def test_a_run_comes_close_to_a_limit_it_was_not_told(
    tells: str, burst_s: float, rpm: float, most_refused: int, least: float
) -> None:
    async def main() -> tuple[float, int, set[str]]:
        server = ModelServer(
            rpm=rpm, burst_s=burst_s, tells=tells, latency_s=lambda rng: rng.lognormvariate(math.log(0.3), 0.5)
        )
        calls = Calls([str(n) for n in range(ROWS)])
        lane_to(server).attach(calls.feed)
        await calls.all()
        return asyncio.get_running_loop().time(), server.refused, set(calls.kinds())

    took, refused, kinds = run_virtual(main)

    ideal = ROWS / (rpm / 60) - burst_s
    assert kinds == {"ok"}
    assert refused <= most_refused
    assert ideal / took >= least
