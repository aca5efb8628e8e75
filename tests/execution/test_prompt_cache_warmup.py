"""Warm first: one call writes the provider's cache, the rest wait for it, and never for long."""

from __future__ import annotations

from itertools import count

import pytest

from pllm_notebook.execution.prompt_cache_warmup import MAX_WAIT_S, Warmup

_numbers = count()


@pytest.fixture
def prefix() -> str:
    """A prefix that nobody has asked about yet: which ones are warm is known to the whole process."""
    return f"prefix {next(_numbers)}"


def test_the_rest_wait_until_the_first_call_is_answered(prefix: str) -> None:
    warmup = Warmup()

    assert not warmup.holds(0.0, 100)
    assert warmup.begin(0.0, prefix)
    assert warmup.begun
    assert warmup.holds(0.0, 99)
    assert warmup.holds(1.0, 99)
    warmup.ended(1.5, replied=True)

    assert not warmup.holds(1.5, 99)


def test_a_first_call_that_fails_holds_nobody(prefix: str) -> None:
    warmup = Warmup()
    warmup.begin(0.0, prefix)

    warmup.ended(0.1, replied=False)

    assert not warmup.holds(0.1, 99)


def test_a_slow_first_call_is_waited_for_no_longer_than_patience_lasts(prefix: str) -> None:
    warmup = Warmup()
    warmup.begin(5.0, prefix)

    assert warmup.holds(4.99 + MAX_WAIT_S, 99)
    assert not warmup.holds(5.0 + MAX_WAIT_S, 99)
    # Nor is it waited for again when the clock is asked twice.
    assert not warmup.holds(5.0, 99)


@pytest.mark.parametrize(("left", "held"), [(0, False), (1, False), (2, True)])
def test_two_calls_are_too_few_to_wait(prefix: str, left: int, held: bool) -> None:
    warmup = Warmup()
    warmup.begin(0.0, prefix)

    assert warmup.holds(0.0, left) is held


def test_without_a_prefix_nobody_waits() -> None:
    warmup = Warmup()

    assert not warmup.begin(0.0, None)
    assert not warmup.holds(0.0, 99)


def test_a_warm_prefix_is_not_waited_for_until_it_has_grown_cold(prefix: str) -> None:
    first = Warmup()
    first.begin(0.0, prefix)
    first.ended(2.0, replied=True)
    first.ended(100.0, replied=True)  # every reply reads it, and keeps it

    assert not Warmup().begin(399.9, prefix)
    assert Warmup().begin(400.0, prefix)
    assert Warmup().begin(399.9, f"{prefix}, another")


def test_a_failed_call_warms_nothing(prefix: str) -> None:
    first = Warmup()
    first.begin(0.0, prefix)
    first.ended(1.0, replied=False)

    assert Warmup().begin(1.0, prefix)
