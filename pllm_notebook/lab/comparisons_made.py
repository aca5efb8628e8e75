"""Count the comparisons made in the cache directory: how many questions were tried before one was chosen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pllm_notebook.frames.kept_calibrations import identity_of_run
from pllm_notebook.frames.provenance import Source
from pllm_notebook.frames.registered_run import RegisteredRun
from pllm_notebook.store import ComparisonLog, LoggedComparison, current_directory

__all__ = ["ComparisonsMade", "comparisons_of", "note_comparison"]


@dataclass(frozen=True, slots=True)
class ComparisonsMade:
    """The recorded comparisons that involve a question.

    Attributes:
        comparisons: Number of distinct comparisons of this question, or of questions that it was compared with.
        with_labels: How many of them had labels.
        questions: Number of distinct questions in them, including this one.
        asked: Number of distinct questions in this cache directory about columns and fields with the same names,
            compared or not.
    """

    comparisons: int
    with_labels: int
    questions: int
    asked: int


def note_comparison(
    kind: str, runs: Sequence[Any], *, field: str | None = None, labels: int = 0, p: float | None = None
) -> None:
    """Record a comparison, so that a report can state how many were made.

    Args:
        kind: "compare", "race" or "improve".
        runs: The run of each side, live or recorded.
        field: The field that the labels are for. None without labels.
        labels: How many labels counted.
        p: p of the test. None without a test.
    """
    questions = tuple(identity_of_run(run) for run in runs)
    ComparisonLog(current_directory()).add(LoggedComparison(kind, questions, time.time(), field, labels, p))


def comparisons_of(source: Source) -> ComparisonsMade:
    """Return all recorded comparisons that involve the question of a run, directly or through other questions."""
    own = identity_of_run(source.run)
    made = list(ComparisonLog(current_directory()))
    connected, grows = {own}, True
    while grows:
        further = connected.union(*(one.questions for one in made if connected.intersection(one.questions)))
        grows = len(further) > len(connected)
        connected = further
    # Running a cell again repeats the same comparison.
    different = {
        (one.kind, frozenset(one.questions), one.field) for one in made if connected.intersection(one.questions)
    }
    fields = [column.name for column in source.made]
    asked = {
        identity_of_run(run)
        for run in RegisteredRun.newest_first()
        if tuple(run.header["asked"]) == source.asked and [one["name"] for one in run.header["made"]] == fields
    }
    return ComparisonsMade(
        comparisons=len(different),
        with_labels=sum(1 for _, _, field in different if field is not None),
        questions=len(connected),
        asked=len(asked | {own}),
    )
