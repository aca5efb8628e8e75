"""How many calls may be in flight: it widens while that buys throughput, and narrows when there is a line."""

from __future__ import annotations

from pllm_notebook.engine.limits.concurrency_window import ConcurrencyWindow, SendGroup


def round_trip(window: ConcurrencyWindow, latency_s: float, rounds: int = 1) -> None:
    """Fill the window, and answer all of it after *latency_s*."""
    for _ in range(rounds):
        count = int(window.size)
        groups: list[SendGroup] = [window.sent(count) for _ in range(count)]
        for group in groups:
            window.replied(group, latency_s)


def test_it_grows_by_half_and_more_each_round_trip_while_latency_stays() -> None:
    window = ConcurrencyWindow(32, 1000)

    round_trip(window, 0.3, rounds=6)

    assert window.size > 32 * 1.5**6


def test_it_never_passes_the_widest() -> None:
    window = ConcurrencyWindow(4, 4)

    round_trip(window, 0.3, rounds=10)

    assert window.size == 4


def test_it_does_not_grow_where_a_limit_and_not_the_window_holds_calls_back() -> None:
    window = ConcurrencyWindow(32, 1000)

    for _ in range(500):
        window.replied(window.sent(3), 0.3)

    assert window.size == 32


def test_a_line_in_front_of_the_server_stops_its_growth() -> None:
    window = ConcurrencyWindow(32, 1000)

    for _ in range(40):  # 64 slots: beyond them calls wait for each other
        round_trip(window, 0.3 * max(1.0, window.size / 64))

    assert 64 <= window.size <= 128


def test_a_window_that_turns_out_too_wide_is_narrowed() -> None:
    window = ConcurrencyWindow(32, 1000)
    round_trip(window, 0.3, rounds=5)
    wide = window.size

    for _ in range(40):  # others have come: there are but 32 slots left for us
        round_trip(window, 0.3 * max(1.0, window.size / 32))

    assert 32 <= window.size <= wide / 2


def test_answers_that_take_longer_by_themselves_do_not_narrow_it_for_good() -> None:
    window = ConcurrencyWindow(32, 1000)
    round_trip(window, 0.3, rounds=5)
    wide = window.size

    round_trip(window, 3.0, rounds=20)

    assert window.size >= wide


def test_one_overload_halves_it_once_however_many_report_it() -> None:
    window = ConcurrencyWindow(32, 1000)

    for _ in range(20):
        window.overloaded(1.0)

    assert window.size == 16


def test_many_requests_in_a_row_without_an_answer_in_time_halve_it_and_single_ones_do_not() -> None:
    window = ConcurrencyWindow(32, 1000)

    for _ in range(100):
        window.timed_out(1.0, window.sent(32))
        window.replied(window.sent(32), 0.3)
    single = window.size
    for _ in range(100):
        window.timed_out(2.0, window.sent(32))

    assert single >= 32
    assert window.size == single / 2
