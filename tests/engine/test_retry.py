"""When a failed request is sent again, as a table."""

from __future__ import annotations

import pytest

from pllm_notebook.engine.retry import paced_refusals, retry_delay_s, with_wait
from pllm_notebook.failures import Failure, FailureKind


def delay(kind: FailureKind, **kw: object) -> float | None:
    given = {"attempts": 1, "refusals": 0, "retry_after_s": None, "max_retries": 5, "draw": 1.0} | kw
    return retry_delay_s(kind, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if not kind.retried])
def test_what_cannot_pass_is_never_sent_again(kind: FailureKind) -> None:
    assert delay(kind) is None


def test_waits_double_up_to_eight_seconds() -> None:
    waits = [delay(FailureKind.SERVER, attempts=n, max_retries=9) for n in range(1, 9)]

    assert waits == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_calls_that_failed_together_do_not_return_together() -> None:
    assert delay(FailureKind.SERVER, draw=0.0) == 0.125
    assert delay(FailureKind.SERVER, draw=0.5) == 0.1875


def test_attempts_end() -> None:
    assert delay(FailureKind.TIMEOUT, attempts=5) is not None
    assert delay(FailureKind.TIMEOUT, attempts=6) is None


def test_a_call_refused_for_the_first_times_without_a_stated_wait_goes_when_the_limiter_lets_it() -> None:
    assert [delay(FailureKind.RATE_LIMIT, refusals=n) for n in (1, 2, 3, 4)] == [0.0, 0.0, 0.0, 0.25]


def test_refusals_that_chance_explains_make_no_call_wait_on_its_own() -> None:
    assert [paced_refusals(share) for share in (0.0, 0.01, 0.05, 0.2, 0.3, 0.4, 1.0)] == [3, 3, 5, 9, 12, 16, 3]

    waits = [delay(FailureKind.RATE_LIMIT, refusals=n, paced=paced_refusals(0.2)) for n in (4, 9, 10, 11)]

    assert waits == [0.0, 0.0, 0.25, 0.5]


def test_a_stated_wait_is_kept_where_calls_are_refused_at_random() -> None:
    assert delay(FailureKind.RATE_LIMIT, refusals=4, paced=12, retry_after_s=5.0, draw=0.0) == 5.0


@pytest.mark.parametrize("stated_s", [0.3, 1.0, 10.0, 600.0])
@pytest.mark.parametrize("refusals", [1, 4, 40])
def test_a_stated_wait_is_kept_by_its_call_from_the_first_refusal_on(stated_s: float, refusals: int) -> None:
    assert delay(FailureKind.RATE_LIMIT, refusals=refusals, retry_after_s=stated_s, draw=0.0) == stated_s


def test_calls_with_the_same_stated_time_return_within_a_tenth_of_a_second_after_it() -> None:
    assert delay(FailureKind.RATE_LIMIT, refusals=1, retry_after_s=0.3, draw=1.0) == 0.3 + 0.3 * 0.1
    assert delay(FailureKind.RATE_LIMIT, refusals=1, retry_after_s=55.0, draw=1.0) == 55.1


def test_a_wait_that_a_person_should_decide_about_is_not_waited() -> None:
    assert delay(FailureKind.RATE_LIMIT, refusals=1, retry_after_s=3600.0) is None


def test_nobody_waits_for_an_hour_where_other_calls_pass() -> None:
    assert delay(FailureKind.RATE_LIMIT, refusals=1, retry_after_s=3600.0, others_pass=True) == 0.25


def test_refusals_are_not_attempts_but_do_not_go_on_for_ever() -> None:
    many = {"attempts": 0, "refusals": 500, "max_retries": 1}

    assert delay(FailureKind.RATE_LIMIT, refused_for_s=119.0, **many) is not None
    assert delay(FailureKind.RATE_LIMIT, refused_for_s=121.0, **many) is None


def test_a_limit_that_lets_others_through_fails_no_row_for_ten_minutes() -> None:
    assert delay(FailureKind.RATE_LIMIT, refusals=500, refused_for_s=599.0, others_pass=True) is not None
    assert delay(FailureKind.RATE_LIMIT, refusals=500, refused_for_s=601.0, others_pass=True) is None


def test_no_retries_means_none_for_refusals_too() -> None:
    assert delay(FailureKind.RATE_LIMIT, refusals=1, max_retries=0) is None


@pytest.mark.parametrize("kind", [FailureKind.RATE_LIMIT, FailureKind.OVERLOADED])
def test_a_wait_that_is_too_long_is_named_in_the_failure(kind: FailureKind) -> None:
    short, long = (Failure(kind, "Slow down", retry_after_s=wait_s) for wait_s in (600.0, 3900.0))

    assert with_wait(short) is short
    told = "Slow down. The provider asks to wait 1 h 05 min, and a run waits 10 min 00 s at most."
    assert getattr(with_wait(long), "message", None) == told
