"""The view model of a run: snapshots as JSON data for displays.

The model is the same for the widget, an HTML page and a line of text. It is built from what a run records anyway:
each display update calls `collect`, which takes the calls that have ended since the last one and does a bounded amount
of work, however many they are. Cells are cut to a readable length and are never HTML.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

from pllm_notebook.execution.explain import Explanation
from pllm_notebook.execution.live_run import LiveRun
from pllm_notebook.execution.results import ResultTable
from pllm_notebook.execution.run_view.failure_groups import FailureGroups
from pllm_notebook.execution.run_view.field_charts import FieldCharts
from pllm_notebook.execution.run_view.head import controls_of, head_of, jobs_of
from pllm_notebook.execution.run_view.pace import Pace
from pllm_notebook.execution.run_view.sample_row import NO_COLUMNS, SampleRows, row_name
from pllm_notebook.runtime import Locked, Slot
from pllm_notebook.types import Progress

__all__ = ["MOST_SAMPLE_ROWS", "RunViewModel", "view_model"]

MOST_SAMPLE_ROWS = 50
"""Maximum number of rows in the live sample."""

_MOST_PINNED = 20
_MOST_MARKS = 500

# Maximum number of answers that are counted per update; of more answers, an even sample is counted.
_MOST_COUNTED = 1_000
# Maximum number of attempts, off the loop, to get sections that are consistent with each other.
_MOST_LOOKS = 20


class _Models(Locked):
    """The view models of this process's runs."""

    def __init__(self) -> None:
        super().__init__()
        self.by_run: weakref.WeakKeyDictionary[LiveRun, RunViewModel] = weakref.WeakKeyDictionary()


_MODELS: Slot[_Models] = Slot("view models", _Models)


def view_model(run: LiveRun) -> RunViewModel:
    """Return the model of a run. All of its views share one model, since a run reports its calls to only one."""
    known = _MODELS.value
    with known.lock:
        model = known.by_run.get(run)
        if model is None:
            model = known.by_run[run] = RunViewModel(run)
        return model


class RunViewModel:
    """The model of one run's views. It refers to the run weakly; any thread may use it.

    The docstring of `execution.run_view` describes the data.

    Args:
        run: The run, running or ended.

    Attributes:
        run_id: The run's id.
        texts: Whether it may contain text of rows, answers and messages: not with `progress="bar"`.
        saves_rows: Whether the page for the saved notebook may contain sample rows.
        sample: Sequence number and position of the rows that ended last, newest last.
    """

    def __init__(self, run: LiveRun) -> None:
        options = run.spec.options
        self.run_id = run.id
        self.texts = texts = options.progress != "bar"
        self.saves_rows = texts and options.save_rows
        self._run = weakref.ref(run)
        self._rows = SampleRows(run)
        self._charts = FieldCharts(run.spec.output)
        self._failures = FailureGroups(texts=texts)
        self._pace = Pace()
        self._next = 0
        self.sample: deque[tuple[int, int]] = deque(maxlen=MOST_SAMPLE_ROWS)
        # The user's pins and marks, in insertion order; the oldest ones are dropped.
        self._pinned: dict[int, None] = {}
        self._marks: dict[int, str] = {}
        self._arrivals = run.table.watch()
        self._lock = threading.RLock()
        self._viewers: weakref.WeakSet[Any] = weakref.WeakSet()

    @property
    def run(self) -> LiveRun | None:
        """The run; None once nothing else refers to it."""
        return self._run()

    @property
    def viewers(self) -> list[Any]:
        """The displays that were registered with `add_viewer` and still exist."""
        with self._lock:
            return list(self._viewers)

    def add_viewer(self, display: Any) -> None:
        """Register a display that shows the model. It is held weakly."""
        with self._lock:
            self._viewers.add(display)

    def collect(self, progress: Progress, now: float | None = None) -> None:
        """Take the calls that have ended since the last call of `collect`. Cheap."""
        with self._lock:
            run = self.run
            if run is not None:
                self._collect(run.table)
            self._pace.note(progress, time.monotonic() if now is None else now)

    def sections(self, progress: Progress, *, slow: bool = True) -> dict[str, Any]:
        """Return the sections that are sent as a whole: all except the sample.

        Args:
            progress: The run's current counts.
            slow: Whether to include sections other than the head.
        """
        run = self.run
        if run is None:
            return {}
        head = {"head": head_of(progress, controls_of(run))}
        if not slow:
            return head
        with self._lock:
            return head | {
                "columns": self._rows.columns if self.texts else NO_COLUMNS,
                **self.own_sections(),
                "fields": self._charts.charts() if self.texts else [],
                "failures": [
                    group | {"labels": [row_name(run.rows, row) for row in group["rows"]]}
                    for group in self._failures.groups(run.table, progress)
                ],
                "jobs": jobs_of(progress),
                "pace": self._pace.series(),
            }

    def pin(self, row: int, *, pinned: bool) -> None:
        """Pin a row next to the sample, or unpin it."""
        with self._lock:
            self._pinned.pop(row, None)
            if pinned:
                self._pinned[row] = None
                _keep_newest(self._pinned, _MOST_PINNED)

    def mark(self, row: int, mark: str) -> None:
        """Show that the user marked a row "right" or "wrong"; "" removes the mark."""
        with self._lock:
            self._marks.pop(row, None)
            if mark:
                self._marks[row] = mark
                _keep_newest(self._marks, _MOST_MARKS)

    def own_sections(self) -> dict[str, Any]:
        """Return the sections that `pin` and `mark` change."""
        with self._lock:
            return {
                "pinned": self.sample_rows(list(self._pinned)),
                "marks": {str(row): mark for row, mark in self._marks.items()},
            }

    def sample_rows(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return sample rows, in the given order; [] if texts must not be shown or the run is gone."""
        run = self.run
        return [self._rows.row(run, row) for row in rows] if self.texts and run is not None else []

    def snapshot(self) -> dict[str, Any]:
        """Return all current sections, consistent with each other: the head counts the listed failures."""
        run = self.run
        assert run is not None
        self.collect(run.progress())
        for _ in range(_MOST_LOOKS):
            progress = run.progress()
            sections = self.sections(progress)
            if sum(group["count"] for group in sections["failures"]) == progress.failed:
                break
        rows = dict.fromkeys(row for _, row in reversed(list(self.sample)))
        return {"run": self.run_id, "texts": self.texts, **sections, "sample": self.sample_rows(list(rows))}

    def explain(self, row: int) -> Explanation | None:
        """Return everything about one row; None if texts must not leave the kernel or the run is gone."""
        run = self.run
        return run.explain(row) if run is not None and self.texts else None

    def _collect(self, table: ResultTable) -> None:
        calls = self._arrivals.take()
        for call in calls[-MOST_SAMPLE_ROWS:]:
            self._next += 1
            self.sample.append((self._next, table.first_row[call]))
        answers = []
        for call in calls[:: len(calls) // _MOST_COUNTED + 1]:
            outcome = table.outcomes[call]
            if outcome is None:  # it is being sent again
                continue
            if outcome.failure is None:
                answers.append(outcome.value)
            else:
                self._failures.note(table.first_row[call], outcome.failure.kind)
        if self.texts and answers:
            self._charts.count(answers)


def _keep_newest(rows: dict[int, Any], most: int) -> None:
    while len(rows) > most:
        del rows[next(iter(rows))]
