"""No stretch of a window's length has more beginnings than were allowed."""

from __future__ import annotations

import pytest

from pllm_notebook.exceptions import UsageError
from pllm_notebook.sessions import Throttler


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_calls_beyond_a_window_are_given_slots_in_later_ones() -> None:
    throttler = Throttler(3, 10.0, clock=Clock())

    assert throttler.book(8) == [100.0, 100.0, 100.0, 110.0, 110.0, 110.0, 120.0, 120.0]


def test_a_window_slides() -> None:
    clock = Clock()
    throttler = Throttler(2, 10.0, clock=clock)
    throttler.book()
    clock.now = 104.0
    throttler.book()
    clock.now = 107.0

    assert throttler.book(3) == [110.0, 114.0, 120.0]


def test_two_who_book_are_not_told_the_same_slot() -> None:
    throttler = Throttler(1, 60.0, clock=Clock())

    assert [throttler.book(), throttler.book()] == [[100.0], [160.0]]


@pytest.mark.parametrize(("most", "window"), [(0, 1.0), (True, 1.0), (1.5, 1.0), (1, 0.0), (1, float("nan")), (1, "1")])
def test_a_throttler_without_a_pace_is_refused(most: int, window: float) -> None:
    with pytest.raises(UsageError, match=r"(max_requests_per_window|window_seconds) is .*Nothing was sent\."):
        Throttler(most, window)
