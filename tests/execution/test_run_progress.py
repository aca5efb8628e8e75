"""Counts and pace of a run: what is said of the time left rests on more than a first burst."""

from __future__ import annotations

from pllm_notebook.execution.progress import RunProgress


def test_a_time_left_is_said_when_rows_have_ended_for_some_seconds() -> None:
    progress = RunProgress(0.0)
    said = []

    # Two seconds without an answer, then a burst, then 10 rows a second.
    for now, rows in ((0.0, 0), (1.0, 0), (2.0, 0), (2.1, 40), (3.0, 49), (12.0, 139), (13.0, 149), (20.0, 219)):
        progress.done = rows
        progress.sample(now)
        said.append(progress.eta_s(1_000))

    assert said[:3] == [None, None, None]
    assert said[-1] == (1_000 - 219) / 10
    progress.done = 1_000
    assert progress.eta_s(1_000) == 0.0


def test_a_pace_of_a_few_rows_or_of_a_moment_is_no_time_left() -> None:
    few, brief = RunProgress(0.0), RunProgress(0.0)
    for progress, then, rows in ((few, 60.0, 4), (brief, 1.9, 400)):
        progress.sample(0.0)
        progress.done = rows
        progress.sample(then)

    assert (few.eta_s(1_000), brief.eta_s(1_000)) == (None, None)
    assert few.rows_per_s > 0


def test_what_a_pause_took_is_not_part_of_the_pace() -> None:
    progress = RunProgress(0.0)
    progress.sample(0.0)
    progress.done = 100
    progress.sample(10.0)
    progress.finish(10.0)

    progress.resume(1_000.0)

    assert progress.eta_s(1_000) is None
    assert progress.elapsed_s(1_001.0) == 11.0
