"""The rate found by refusals alone: the first guess, the measure, the steps upward, and droughts."""

from __future__ import annotations

import itertools

import pytest

from pllm_notebook.engine.limits.inferred_rate import InferredRate


def charge(found: InferredRate, *times: float) -> int:
    """Let calls leave at these moments, and give the number of the last."""
    return [found.charge(at) for at in times][-1]


def every(step_s: float, start: float, count: int) -> list[float]:
    """Give *count* moments from *start* on."""
    return [start + n * step_s for n in range(count)]


def measured_at(rate: float) -> InferredRate:
    """A rate that two refusals 0.8 s apart have measured; the later one was heard of at 0.82 s."""
    found = InferredRate()
    found.refuse(0.02, 0.0, charge(found, 0.0))
    admitted = round(0.8 * rate)
    charge(found, *every(0.6 / admitted, 0.15, admitted))
    found.refuse(0.82, 0.8, charge(found, 0.8))
    return found


def test_nothing_is_limited_before_the_first_refusal() -> None:
    found = InferredRate()

    charge(found, *[0.0] * 10_000)

    assert (found.rate, found.wait_s(0.0)) == (None, 0.0)


def test_the_first_guess_is_what_was_admitted_over_the_time_that_it_took() -> None:
    found = InferredRate()

    nth = charge(found, *every(0.01, 0.0, 201))
    found.refuse(2.02, 2.0, nth)

    assert found.rate == pytest.approx(100.0)
    assert not found.measured


def test_a_first_burst_is_spread_over_half_a_second_and_no_less() -> None:
    found = InferredRate()

    nth = charge(found, *[0.0] * 101)
    found.refuse(0.02, 0.0, nth)

    assert found.rate == 200.0


def test_one_refusal_of_the_first_few_calls_does_not_make_a_provider_slow() -> None:
    found = InferredRate()

    found.refuse(0.02, 0.0, charge(found, 0.0))

    assert found.rate == 8.0


def test_between_two_refusals_exactly_what_flowed_in_was_admitted() -> None:
    found = measured_at(20.0)

    assert found.measured
    assert found.rate == pytest.approx(16 / 0.8)


def test_calls_refused_before_anyone_could_have_heard_are_one_group() -> None:
    found = measured_at(20.0)

    charge(found, 0.83, 0.84)
    first = charge(found, *every(0.04, 1.0, 10), 1.4)
    late = charge(found, 1.41, 1.415)
    found.refuse(1.42, 1.4, first)
    found.refuse(1.435, 1.415, late)

    assert found.rate == pytest.approx((16 + 12) / (0.8 + 0.6))  # the second of them measured nothing


def test_of_a_group_the_earliest_ends_the_stretch_whichever_is_heard_of_first() -> None:
    found = measured_at(20.0)

    earlier = charge(found, *every(0.04, 1.0, 12), 1.5)
    later = charge(found, 1.51)
    found.refuse(1.53, 1.51, later)
    found.refuse(1.54, 1.5, earlier)

    assert found.rate == pytest.approx((16 + 12) / (0.8 + 0.7))


def test_a_stretch_in_which_the_bucket_may_have_filled_up_is_no_measure() -> None:
    found = measured_at(20.0)

    nth = charge(found, *every(0.5, 1.0, 9), 10.0)
    rate = found.rate
    found.refuse(10.02, 10.0, nth)

    assert found.rate == rate


def test_each_step_upward_is_wider_than_the_one_before() -> None:
    found = measured_at(20.0)

    rates, at = [20.0], 1.0
    while at < 4.2:
        at += found.wait_s(at) + 1e-4
        found.charge(at)
        assert found.rate is not None
        if found.rate != rates[-1]:
            rates.append(found.rate)

    steps = [after / before - 1 for before, after in itertools.pairwise(rates)]
    assert steps == pytest.approx([0.01 * 1.5**n for n in range(len(steps))])
    assert len(steps) == 6  # one each half second


def test_a_run_that_sends_less_than_the_rate_does_not_raise_it() -> None:
    found = measured_at(40.0)

    charge(found, *every(0.5, 2.0, 30))

    assert found.rate == pytest.approx(40.0)


def test_in_a_drought_one_call_at_a_time_asks_ever_less_often() -> None:
    found = measured_at(20.0)

    at, gaps = 0.82, []
    for _ in range(14):
        wait = found.wait_s(at)
        at += wait
        gaps.append(wait)
        nth = found.charge(at)
        at += 0.02
        found.refuse(at, at - 0.02, nth)

    # The last of them were no longer apart than the longest hold.
    assert gaps[3:] == sorted(gaps[3:])
    assert gaps[-1] == pytest.approx(1.5)


def test_a_drought_ends_with_the_first_call_that_is_not_refused() -> None:
    found = measured_at(20.0)
    at = 0.82
    for _ in range(10):
        at += found.wait_s(at)
        nth = found.charge(at)
        at += 0.02
        found.refuse(at, at - 0.02, nth)

    at += found.wait_s(at)
    found.charge(at)  # it asks
    patience = found.wait_s(at)
    at += patience
    found.charge(at)  # nothing was heard of it: it was let in

    assert patience == pytest.approx(0.06)  # three times what a refusal takes
    assert found.wait_s(at) <= 1 / (found.rate or 0.0)


def test_where_calls_are_far_apart_a_refused_one_came_only_a_little_too_early() -> None:
    found = InferredRate()
    found.refuse(0.02, 0.0, charge(found, 0.0))

    found.refuse(8.02, 8.0, charge(found, *every(1.0, 0.5, 8), 8.0))

    assert found.rate == pytest.approx(1.0)
    assert found.wait_s(8.02) == pytest.approx(0.1)
