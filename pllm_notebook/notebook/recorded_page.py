"""The page of a run that is not in memory: its line, its failures by kind, and a chart of each field."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import FieldCharts, recorded_lines
from pllm_notebook.frames.recorded_run import RecordedRun
from pllm_notebook.notebook.view_page import ended_page, with_lines

__all__ = ["recorded_page"]

# Maximum number of answers in the charts. If there are more, an even sample is used.
_MOST_CHARTED = 2_000


def recorded_page(run: RecordedRun) -> dict[str, Any]:
    """Return the MIME bundle of a recorded run. Answers are read from the cache, and nothing is sent."""
    counts, *further = recorded_lines(run.header, run.state)
    snapshot = {"run": "", "jobs": [], "failures": _failures(run), "fields": _charts(run)}
    mark = " SIMULATED" if run.header["simulated"] else ""
    page = ended_page(snapshot, f"Run {run.id}{mark}. {counts}", "")
    return with_lines(page, further)


def _failures(run: RecordedRun) -> list[dict[str, Any]]:
    """Return the failures by kind, in the form of a run's view (see `execution.run_view`)."""
    record = run.record
    if record is None:
        return []
    failed: dict[int, int] = {}
    numbers = record.failure.tolist()
    for row, number in enumerate(numbers):
        if number:
            failed.setdefault(number, row)
    counts, known = Counter(numbers), run.failures_of(list(failed.values()))
    price = run.retry_usd
    return [
        {
            "kind": known[row]["kind"],
            "count": counts[number],
            "message": known[row]["message"] or "",
            "price_usd": None if price is None else price * counts[number],
        }
        for number, row in sorted(failed.items(), key=lambda one: -counts[one[0]])
    ]


def _charts(run: RecordedRun) -> list[dict[str, Any]]:
    try:
        answers = run.answers()
    except PllmError:  # the answers are not values, or the rows were not recorded
        return []
    assert run.record is not None
    rows = range(len(run.record))
    found = answers.values_of(rows[:: len(rows) // _MOST_CHARTED + 1])
    charts = FieldCharts(answers.output)
    charts.count([value[0] for value in found if value is not None])
    return charts.charts()
