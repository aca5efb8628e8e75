"""Amounts and times of every value have a form."""

from __future__ import annotations

import math

import pytest

from pllm_notebook.formatting import format_duration, format_usd, format_usd_or


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (-5.0, "-$5.00"),
        (-0.0483, "-$0.0483"),
        (-0.0, "$0"),
        (-0.0000001, "$0"),
        (math.nan, "cost unknown"),
        (math.inf, "$inf"),
        (-math.inf, "-$inf"),
    ],
)
def test_an_odd_amount_is_shown_for_what_it_is(amount: float, shown: str) -> None:
    assert format_usd(amount) == shown


def test_an_amount_that_is_no_number_is_unknown_in_the_caller_s_words() -> None:
    assert format_usd_or(math.nan, "?") == "?"


@pytest.mark.parametrize("seconds", [math.inf, -math.inf, math.nan])
def test_a_duration_without_an_end_is_unknown(seconds: float) -> None:
    assert format_duration(seconds) == "an unknown time"
