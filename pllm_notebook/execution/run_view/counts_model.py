"""The model of what has counts alone: a request file's run, whose lines are not those of a frame."""

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
    """A model (see `RunViewModel`) with a head and a pace, made of what a display is given anyway."""

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
        """Do nothing: a file's run is shown in one place."""

    def collect(self, progress: Progress, now: float | None = None) -> None:
        """Take the counts of this moment."""
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
        """Return nothing: there are no rows to pin or to mark."""
        return {}

    def sample_rows(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return nothing: there are no rows."""
        return []

    def snapshot(self) -> dict[str, Any]:
        """Return all sections as they were when the counts were last given."""
        assert self._progress is not None
        return {"run": "", "texts": False, **self.sections(self._progress), "sample": []}

    def explain(self, row: int) -> Explanation | None:
        """Return nothing: there are no rows."""
        return None
