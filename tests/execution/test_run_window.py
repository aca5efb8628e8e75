"""A window of runs: what it starts, what it holds, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator

from pllm_notebook.execution import RunSum, RunWindow
from tests.execution.counted_runs import CountedPiece, CountedRun


def pieces(started: list[CountedRun], rows: int = 10, in_flight: int = 0) -> Iterator[CountedPiece]:
    while True:
        started.append(CountedRun(rows, rows, in_flight))
        yield CountedPiece(started[-1])


def test_pieces_are_started_until_enough_rows_are_open() -> None:
    started: list[CountedRun] = []
    window, source = RunWindow[CountedPiece](25), pieces(started)

    window.fill(source)
    window.fill(source)
    assert len(started) == 3
    started[0].left = 4
    window.fill(source)

    assert len(started) == 4


def test_twice_the_calls_on_the_wire_are_open() -> None:
    started: list[CountedRun] = []
    window, source = RunWindow[CountedPiece](5), pieces(started)
    window.fill(source)
    started[0].in_flight = 10

    window.fill(source)

    assert [run.left for run in started] == [10, 10]


def test_a_late_row_does_not_fill_the_memory() -> None:
    started: list[CountedRun] = []
    window, source = RunWindow[CountedPiece](10), pieces(started)

    for _ in range(20):
        window.fill(source)
        for run in started:
            run.left = 1 if run is started[0] else 0

    assert len(started) == 3
    assert window.head is started[0]


def test_pieces_are_taken_in_order_or_as_they_end() -> None:
    started: list[CountedRun] = []
    window = RunWindow[CountedPiece](30)
    window.fill(pieces(started))
    started[1].left = 0

    over = window.take_over()
    first = window.take()

    assert [piece.run for piece in over] == [started[1]]
    assert first.run is started[0]
    assert window.runs == [started[2]]


def test_an_error_of_the_source_comes_after_what_was_started() -> None:
    def source() -> Iterator[CountedPiece]:
        yield CountedPiece(CountedRun(10, 10))
        raise OSError("the disk is gone")

    window = RunWindow[CountedPiece](30)
    window.fill(source())

    assert (window.wants_more, window.is_over, len(window.runs)) == (False, False, 1)
    window.take()
    window.no_more()
    assert (window.is_over, str(window.error)) == (True, "the disk is gone")


def test_a_window_that_is_stopped_cancels_what_goes_and_starts_nothing() -> None:
    started: list[CountedRun] = []
    window, source = RunWindow[CountedPiece](15), pieces(started)
    window.fill(source)
    started[0].left, started[1].alive = 0, False  # its loop is gone, and cannot be called

    left = window.abandon()
    window.fill(source)

    assert [run.state for run in started] == ["cancelled", "running"]
    assert left == [started[1]]
    assert (window.is_over, window.runs) == (True, [])


def test_runs_that_share_their_money_count_what_is_reserved_once() -> None:
    whole = RunSum()
    whole.add(CountedRun(5, 0, reserved_usd=1.0).progress())
    going = [CountedRun(10, 4, in_flight=2, note=note, reserved_usd=0.5) for note in ("at the limit", "at the limit")]

    counts = whole.including([*going, CountedRun(10, 10, in_flight=1, note="waiting 3 s", reserved_usd=0.5)])

    assert counts is not None
    assert (counts.total, counts.done, counts.in_flight) == (35, 17, 5)
    assert (counts.reserved_usd, counts.note) == (0.5, "at the limit; waiting 3 s")
