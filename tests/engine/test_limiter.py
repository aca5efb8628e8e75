"""The limiter: what it learns from what it is told, from refusals, and from another run."""

from __future__ import annotations

import pytest

from pllm_notebook.engine.limits.limiter import LearnedLimits, Limiter
from pllm_notebook.engine.limits.token_bucket import TokenBucket
from pllm_notebook.types import LimitReport


def test_an_unknown_bucket_makes_nobody_wait() -> None:
    bucket = TokenBucket()

    assert bucket.wait_s(0.0, 1e9) == 0.0


def test_a_bucket_is_charged_at_the_moment_of_leaving() -> None:
    bucket = TokenBucket(rate=2.0, capacity=2.0, level=2.0)

    waits = []
    for _ in range(4):
        waits.append(bucket.wait_s(0.0, 1.0))
        bucket.charge(0.0, 1.0)

    assert waits == [0.0, 0.0, 0.5, 1.0]


def test_a_need_beyond_the_capacity_waits_for_a_full_bucket_and_no_longer() -> None:
    bucket = TokenBucket(rate=1.0, capacity=10.0, level=0.0)

    assert bucket.wait_s(0.0, 1000.0) == 10.0


def test_a_settled_charge_gives_back_what_was_too_much() -> None:
    bucket = TokenBucket(rate=1.0, capacity=100.0, level=50.0)

    bucket.charge(0.0, 40.0)
    bucket.settle(30.0)

    assert (bucket.level, bucket.charged) == (40.0, 10.0)


def test_a_capacity_smaller_than_a_round_trip_does_not_starve() -> None:
    bucket = TokenBucket()
    bucket.observe(1.0, 0.0, 1.0, limit=600.0, remaining=0.0, reset_s=0.1)
    for n in range(100):  # a round trip of ten capacities, each reply as old as that
        now = 1.0 + n / 10
        bucket.charge(now, 1.0)
        bucket.observe(now, now - 1.0, bucket.charged - 10.0, limit=600.0, remaining=0.0, reset_s=0.1)

    assert bucket.wait_s(11.0, 1.0) < 0.2


def test_a_reply_that_is_older_than_the_last_says_nothing_new() -> None:
    bucket = TokenBucket()
    bucket.observe(2.0, 1.5, 2.0, limit=300.0, remaining=0.0, reset_s=None)

    level = bucket.level
    bucket.observe(2.0, 0.5, 1.0, limit=600.0, remaining=99.0, reset_s=None)

    assert (bucket.rate, bucket.level) == (5.0, level)


def test_the_time_until_it_is_full_tells_the_fraction_that_remaining_lacks() -> None:
    bucket = TokenBucket()

    for n in range(50):  # one request a second of a bucket that holds one: at each reply 0.75 has flowed in again
        bucket.charge(float(n), 1.0)
        bucket.observe(n + 0.75, float(n), bucket.charged, limit=60.0, remaining=0.0, reset_s=1.0)

    assert bucket.wait_s(49.75, 1.0) == pytest.approx(0.25, abs=0.01)


def test_a_refusal_shows_that_calls_in_flight_hide_tokens_which_are_not_yet_taken() -> None:
    bucket = TokenBucket(rate=100.0, capacity=1000.0, level=300.0)

    bucket.refuse(1.0, need=50.0, wait_s=0.0, ahead=400.0)
    bucket.observe(1.5, 1.0, 0.0, limit=6000.0, remaining=500.0, reset_s=None, ahead=400.0)

    assert bucket.hidden > 0.1
    assert bucket.level < 200.0


def test_a_refused_call_takes_nothing_from_the_bucket() -> None:
    limiter = Limiter()
    limiter.requests.fill(0.0, rate=1.0, capacity=10.0)
    permit = limiter.charge(0.0, 10.0)

    limiter.refused_at(0.0, permit, None, None)

    assert limiter.requests.level == 10.0


def refuse_all(limiter: Limiter, count: int, *, retry_after_s: float | None = None) -> None:
    """Let *count* calls leave at 0 and be refused at 0.5, all of them."""
    for permit in [limiter.charge(0.0, 10.0) for _ in range(count)]:
        limiter.refused_at(0.5, permit, None, retry_after_s)


def test_a_wait_stated_to_many_while_none_is_admitted_delays_all_calls() -> None:
    limiter = Limiter()

    refuse_all(limiter, 12, retry_after_s=4.0)

    assert limiter.paused_until == 4.5
    assert limiter.wait_s(0.5, 10.0) >= 4.0
    assert limiter.blocked_by(0.5) == "waiting 4 s, as the provider asks"


@pytest.mark.parametrize("stated_s", [None, 0.3, 1.0, 30.0])
def test_one_refusal_among_many_holds_nobody_back(stated_s: float | None) -> None:
    limiter = Limiter()
    permits = [limiter.charge(0.0, 10.0) for _ in range(40)]

    limiter.refused_at(0.02, permits[20], None, stated_s)

    assert limiter.wait_s(0.02, 10.0) == 0.0
    assert limiter.window == 32


def test_a_stated_second_which_may_be_rounded_up_pauses_nobody() -> None:
    limiter = Limiter()

    refuse_all(limiter, 12, retry_after_s=1.0)

    assert limiter.paused_until == 0.0


def test_what_a_refusal_alone_tells_is_not_believed_where_replies_tell_nothing() -> None:
    limiter = Limiter()
    limiter.replied(0.3, limiter.charge(0.0, 10.0), None, 10.0)

    limiter.refused_at(0.5, limiter.charge(0.4, 10.0), LimitReport(60.0, 0.0, 30.0), 1.0)

    assert limiter.requests.rate is None


def test_what_a_refusal_alone_tells_ends_with_the_first_reply_that_does_not_tell_it() -> None:
    limiter = Limiter()
    limiter.refused_at(0.02, limiter.charge(0.0, 10.0), LimitReport(60.0, 0.0, 30.0), 1.0)
    told = limiter.requests.rate

    limiter.replied(1.5, limiter.charge(1.1, 10.0), None, 10.0)

    assert (told, limiter.requests.rate) == (1.0, None)


def test_a_reported_limit_ends_with_the_eighth_reply_that_does_not_report_it() -> None:
    limiter = Limiter()
    limiter.replied(0.3, limiter.charge(0.0, 10.0), LimitReport(600.0, 9.0, 0.1), 10.0)

    rates = []
    for n in range(8):
        limiter.replied(n + 1.3, limiter.charge(n + 1.0, 10.0), None, 10.0)
        rates.append(limiter.requests.rate)

    assert rates == [10.0] * 7 + [None]


def test_a_refusal_does_not_let_a_later_reply_promise_its_place_again() -> None:
    bucket = TokenBucket(rate=1.0, capacity=100.0, level=50.0)
    before = bucket.charge(0.0, 1.0)  # of a call that will be refused
    then = bucket.charge(0.0, 1.0)  # of one whose reply says what was left
    bucket.refund(1.0, before)

    bucket.observe(0.0, 0.0, then, limit=60.0, remaining=40.0, reset_s=None)

    assert bucket.level == pytest.approx(49.0 + 0.25 * (40.0 - 49.0))


def test_tokens_are_charged_as_estimated_and_settled_as_used() -> None:
    limiter = Limiter()
    report = LimitReport(None, None, None, 60_000.0, 60_000.0, 0.0)
    permit = limiter.charge(0.0, 100.0)
    limiter.replied(1.0, permit, report, 300.0)

    permit = limiter.charge(1.0, 100.0)

    assert permit.tokens == 300.0  # three times the estimate, as the first reply took
    before = limiter.tokens.charged
    limiter.replied(2.0, permit, None, 120.0)
    assert before - limiter.tokens.charged == 180.0


def test_a_reported_limit_opens_the_window_at_once() -> None:
    limiter = Limiter()
    permit = limiter.charge(0.0, 10.0)

    limiter.replied(2.0, permit, LimitReport(6_000.0, 5_999.0, 0.01), None)

    assert limiter.window == pytest.approx(1.5 * 100 * 2.0)


def test_it_says_which_limit_holds_calls_back() -> None:
    limiter = Limiter()
    assert limiter.blocked_by(0.0) == ""

    limiter.requests.fill(0.0, rate=5000 / 60, capacity=1.0)
    limiter.charge(0.0, 10.0)

    assert limiter.blocked_by(0.0) == "at the provider's limit: 5,000 requests a minute"


def test_what_one_run_learned_the_next_begins_with() -> None:
    first = Limiter()
    permit = first.charge(0.0, 10.0)
    first.replied(0.3, permit, LimitReport(600.0, 9.0, 0.1), 10.0)

    second = Limiter()
    second.restore(100.0, first.export())

    sent = 0
    while second.wait_s(100.0, 10.0) == 0.0:
        second.charge(100.0, 10.0)
        sent += 1
    assert sent == 10  # the bucket's worth, and not the first window's
    assert second.window == first.window


def test_a_learned_rate_is_the_first_guess_at_the_first_refusal() -> None:
    limiter = Limiter()
    limiter.restore(0.0, LearnedLimits(inferred_per_min=1200.0))
    assert limiter.wait_s(0.0, 1.0) == 0.0  # the bucket may be full: nothing is held back before a refusal

    limiter.refused_at(0.1, limiter.charge(0.0, 1.0), None, None)

    assert limiter.inferred.rate == 20.0


def test_a_stated_second_holds_no_request_back_for_longer_than_its_bucket_lacks() -> None:
    limiter = Limiter()
    limiter.requests.fill(0.0, rate=10.0, capacity=10.0)
    permit = limiter.charge(0.0, 10.0)

    limiter.refused_at(0.0, permit, LimitReport(600.0, 0.0, 1.0), retry_after_s=1.0)

    assert limiter.requests.wait_s(0.0, 1.0) <= 0.1


def test_owed_tokens_are_waited_for_as_stated() -> None:
    limiter = Limiter()
    limiter.tokens.fill(0.0, rate=100.0, capacity=100.0)
    permit = limiter.charge(0.0, 10.0)

    limiter.refused_at(0.0, permit, LimitReport(None, None, None, 6_000.0, 0.0, 2.0), retry_after_s=1.0)

    assert limiter.tokens.wait_s(0.0, 10.0) >= 1.0
