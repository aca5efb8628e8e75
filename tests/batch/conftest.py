from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pllm_notebook.batch import Journal
from pllm_notebook.batch.journal_database import JournalDatabase


class Clock:
    """A wall clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Iterator[Journal]:
    """An empty journal below `tmp_path`."""
    numbers = iter(range(1000))
    journal = Journal(JournalDatabase(str(tmp_path)), clock, lambda: f"job{next(numbers)}")
    yield journal
    journal.close()
