"""The view model of a run that has only counts: a request file's run, which has no frame rows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from pllm_notebook.execution.explain import Explanation
from pllm_notebook.execution.live_run import LiveRun
from pllm_notebook.execution.run_view.head import Controls, head_of, jobs_of
from pllm_notebook.execution.run_view.pace import Pace
from pllm_notebook.execution.run_view.sample_row import NO_COLUMNS
from pllm_notebook.types import Progress

__all__ = ["CountsModel"]


class CountsModel:
    """A model (see `RunViewModel`) that has only a head, jobs and a pace, built from the counts given to a display."""

    run_id = ""
    texts = saves_rows = False
    run: LiveRun | None = None
    viewers: Sequence[Any] = ()

    def __init__(self) -> None:
        self.sample: deque[tuple[int, int]] = deque()
        self._controls = Controls(time.time())
        self._pace = Pace()
        self._progress: Progress | None = None

    def add_viewer(self, display: Any) -> None:
        """Do nothing: a file's run has only one display."""

    def collect(self, progress: Progress, now: float | None = None) -> None:
        """Take the current counts."""
        self._progress = progress
        self._pace.note(progress, time.monotonic() if now is None else now)

    def sections(self, progress: Progress, *, slow: bool = True) -> dict[str, Any]:
        """Return all sections but the sample."""
        return {
            "head": head_of(progress, self._controls),
            "columns": NO_COLUMNS,
            "pinned": [],
            "marks": {},
            "fields": [],
            "failures": [],
            "jobs": jobs_of(progress),
            "pace": self._pace.series(),
        }

    def own_sections(self) -> dict[str, Any]:
        """Return {}: there are no rows to pin or to mark."""
        return {}

    def sample_rows(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return []: there are no rows."""
        return []

    def snapshot(self) -> dict[str, Any]:
        """Return all sections for the counts of the last `collect`."""
        assert self._progress is not None
        return {"run": "", "texts": False, **self.sections(self._progress), "sample": []}

    def explain(self, row: int) -> Explanation | None:
        """Return None: there are no rows."""
        return None
