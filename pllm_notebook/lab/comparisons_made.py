"""How many questions were tried before one was chosen: comparisons are counted in the cache directory."""

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
    """What was tried on the way to a question.

    Attributes:
        comparisons: Different comparisons, made here, of this question or of those that it was compared with.
        with_labels: Those of them that had labels.
        questions: Different questions in them, this one among them.
        asked: Different questions that this cache directory's runs asked about columns of the same names, for fields of
            the same names; compared or not.
    """

    comparisons: int
    with_labels: int
    questions: int
    asked: int


def note_comparison(
    kind: str, runs: Sequence[Any], *, field: str | None = None, labels: int = 0, p: float | None = None
) -> None:
    """Count a comparison, so that a report can say how many were made.

    Args:
        kind: "compare", "race" or "improve".
        runs: The run of each side, live or recorded.
        field: That labels are of, None without labels.
        labels: How many counted.
        p: Of the test, None for none.
    """
    questions = tuple(identity_of_run(run) for run in runs)
    ComparisonLog(current_directory()).add(LoggedComparison(kind, questions, time.time(), field, labels, p))


def comparisons_of(source: Source) -> ComparisonsMade:
    """Return what was tried before the question of a run: what it was compared with, and what that was."""
    own = identity_of_run(source.run)
    made = list(ComparisonLog(current_directory()))
    connected, grows = {own}, True
    while grows:
        further = connected.union(*(one.questions for one in made if connected.intersection(one.questions)))
        grows = len(further) > len(connected)
        connected = further
    # A cell that is run again compares the same once more.
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
