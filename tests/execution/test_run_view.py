"""What displays are given of a run: its state as plain data, bounded whatever the run does."""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.execution import RunViewModel, RunViewUpdates, live_of, run_registry, view_model
from pllm_notebook.execution.run_view.field_charts import FieldCharts
from pllm_notebook.execution.run_view.head import Controls, head_of
from pllm_notebook.execution.run_view.pace import Pace
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.schema import OutputType
from pllm_notebook.sim import SimAnswer, SimRequest
from pllm_notebook.types import JobProgress
from tests.notebook.progress import at

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


class Facts(BaseModel):
    """Facts of a review."""

    mood: Literal["good", "bad"]
    stars: int
    price: float | None
    words: str
    again: bool


@pytest.fixture
def ready(cache_dir: Path) -> Iterator[Path]:
    def answer(request: SimRequest) -> Any:
        if "refuse" in request.prompt:
            return SimAnswer.refusal()
        return {"mood": "good", "stars": 4, "price": None, "words": "fine", "again": True}

    pllm.configure(sim={"answers": answer}, model="sim:openai")
    run_registry.forget_all()
    yield cache_dir
    run_registry.forget_all()


def finished(*texts: str, **given: Any) -> Any:
    # Of pandas' own strings, a lone surrogate could not be one.
    run = pd.DataFrame({"text": pd.Series(list(texts), dtype=object)}).llm.submit(Facts, "Read: {text}", **given)
    run.wait()
    return live_of(run)


def charts_of(values: list[Facts]) -> dict[str, dict[str, Any]]:
    charts = FieldCharts(OutputType.of(Facts))
    charts.count(values)
    return {chart["name"]: chart for chart in charts.charts()}


def facts(**given: Any) -> Facts:
    return Facts.model_construct(**{"mood": "good", "stars": 1, "price": 1.0, "words": "", "again": True} | given)


def test_a_snapshot_is_json_and_its_counts_add_up(ready: Path) -> None:
    run = finished("one", "two", "refuse")

    snapshot = json.loads(json.dumps(RunViewModel(run).snapshot(), allow_nan=False))

    head = snapshot["head"]
    assert (head["state"], head["total"], head["done"], head["failed"], head["pending"]) == ("done", 3, 2, 1, 0)
    assert {row["row"]: (row["status"], row["input"]) for row in snapshot["sample"]} == {
        0: ("ok", ["one"]), 1: ("ok", ["two"]), 2: ("failed", ["refuse"])
    }  # fmt: skip
    assert [(group["kind"], group["count"], group["rows"]) for group in snapshot["failures"]] == [("refusal", 1, [2])]
    assert all(row["simulated"] for row in snapshot["sample"])


def test_nothing_of_the_rows_is_in_a_model_without_texts(ready: Path) -> None:
    run = finished("a secret", "refuse the secret", progress="bar")

    model = RunViewModel(run)

    said = json.dumps(model.snapshot())
    assert "secret" not in said
    assert "fine" not in said
    assert model.explain(0) is None


def test_a_viewer_gets_what_changed_and_nothing_twice(ready: Path) -> None:
    run = finished("one", "two")
    model = RunViewModel(run)
    updates = RunViewUpdates(model)

    whole = updates.whole(0.0)
    later = updates.changes(run.progress(), 5.0)

    assert len(whole["sample"]) == 2
    assert "sample" not in later
    assert "fields" not in later


def test_a_viewer_is_sent_a_bounded_number_of_bytes(ready: Path) -> None:
    run = finished(*(f"{n} {'long ' * 500}" for n in range(60)))
    model = RunViewModel(run)
    updates = RunViewUpdates(model)
    updates.whole(0.0)
    sent = 0

    for tick in range(1, 41):
        for row in range(50):  # five hundred rows a second end
            model.sample.append((tick * 50 + row, row))
        sent += len(json.dumps(updates.changes(run.progress(), tick / 4)))

    assert sent / 10 < 50_000


class Crowded:
    """A model of a million rows of which ten thousand end each second, with all that a view can have of anything."""

    run_id, viewers = "crowded", ()

    def __init__(self) -> None:
        self.sample: deque[tuple[int, int]] = deque(maxlen=50)
        self.ended = 0

    def sections(self, progress: Any, *, slow: bool = True) -> dict[str, Any]:
        head = head_of(progress, Controls(0.0))
        bars = [{"label": "ä" * 160, "count": self.ended + n} for n in range(8)]
        fields = [{"name": f"field {n}", "kind": "categories", "bars": bars} for n in range(12)]
        failures = [{"kind": f"kind {n}", "count": self.ended, "message": "ü" * 500, "rows": []} for n in range(24)]
        jobs = [
            {"job": f"{n:08x}", "state": "running", "answered": self.ended, "message": "x" * 200} for n in range(90)
        ]
        pace = {"every_s": 1.0, "rows": [self.ended + n for n in range(120)], "usd": [0.1234] * 120, "held": []}
        whole = {
            "fields": fields,
            "failures": failures,
            "jobs": jobs,
            "pace": pace,
            "pinned": self.sample_rows(range(20)),
        }
        return {"head": head, **(whole if slow else {})}

    def sample_rows(self, rows: Any) -> list[dict[str, Any]]:
        return [{"row": row, "label": str(row), "input": ["é" * 160] * 6, "values": ["ö" * 160] * 12} for row in rows]

    def snapshot(self) -> dict[str, Any]:
        return {"sample": [], **self.sections(at(total=1_000_000))}

    def tick(self, ended: int) -> None:
        self.sample.extend((row + 1, row) for row in range(max(self.ended, ended - 50), ended))
        self.ended = ended


@pytest.mark.parametrize("rows_per_s", [20, 400, 10_000])
def test_in_any_second_a_viewer_is_sent_less_than_60_kb_whatever_the_rate(rows_per_s: int) -> None:
    model: Any = Crowded()
    updates = RunViewUpdates(model)
    updates.whole(0.0)
    sent: list[tuple[float, int]] = []
    times: Counter[str] = Counter()

    for tick in range(1, 401):  # a hundred seconds, as often as a display looks
        now, ended = tick / 4, tick * rows_per_s // 4
        model.tick(ended)
        changes = updates.changes(at(total=1_000_000, done=ended * 9 // 10, failed=ended // 10), now)
        times.update(list(changes))
        message = {"method": "custom", "content": {"changes": changes}}
        sent.append((now, len(json.dumps(message, ensure_ascii=False).encode())))

    seconds = [sum(size for when, size in sent if start < when <= start + 1) for start in (n / 4 for n in range(396))]
    assert max(seconds) < 60_000
    # Nothing waits for good, and the head never.
    assert min(times[name] for name in ("fields", "failures", "jobs", "pace", "sample")) > 10
    assert times["head"] == 400


def test_categories_are_counted_in_their_own_order_and_missing_values_beside() -> None:
    charts = charts_of([facts(mood="bad"), facts(mood="bad", price=None), facts(again=False)])

    assert charts["mood"]["bars"] == [{"label": "good", "count": 1}, {"label": "bad", "count": 2}]
    assert charts["again"]["bars"] == [{"label": "yes", "count": 2}, {"label": "no", "count": 1}]
    assert (charts["price"]["counted"], charts["price"]["missing"]) == (3, 1)


def test_bars_and_the_others_add_up_however_many_values_there_are() -> None:
    chart = charts_of([facts(mood=f"mood {n}") for n in range(1_200)])["mood"]

    assert len(chart["bars"]) == 8
    assert sum(bar["count"] for bar in chart["bars"]) + chart["more"] == chart["counted"] == 1_200


def test_few_whole_numbers_have_a_bar_each_and_others_share_bins() -> None:
    charts = charts_of([facts(stars=stars, price=stars * 1.37) for stars in (1, 5, 5, 3)])

    assert [(bar["label"], bar["count"]) for bar in charts["stars"]["bars"]] == [
        ("1", 1), ("2", 0), ("3", 1), ("4", 0), ("5", 2)
    ]  # fmt: skip
    assert sum(bar["count"] for bar in charts["price"]["bars"]) == 4
    assert (charts["price"]["low"], charts["price"]["mean"]) == (1.37, pytest.approx(4.795))


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 10**400, 1e308, "x", [1]])
def test_odd_numbers_spoil_no_chart(odd: Any) -> None:
    charts = charts_of([facts(stars=2), facts(stars=odd, price=odd)])

    assert json.dumps(charts, allow_nan=False)
    assert charts["stars"]["bars"] == [{"label": "2", "count": 1}]


def test_charts_of_many_numbers_keep_their_counts_by_an_even_sample() -> None:
    charts = charts_of([facts(stars=n % 4) for n in range(40_000)])

    assert [bar["count"] for bar in charts["stars"]["bars"]] == pytest.approx([10_000] * 4, rel=0.05)


def test_a_long_run_has_as_many_points_as_a_short_one() -> None:
    pace = Pace()

    for second in range(10_000):
        pace.note(at(total=100_000, done=second * 10, cost_usd=second * 0.001), float(second))

    series = pace.series()
    assert len(series["rows"]) <= 120
    assert series["every_s"] * len(series["rows"]) == pytest.approx(10_000, rel=0.05)
    assert set(series["rows"]) == {10.0}


def test_all_views_of_a_run_share_one_model(ready: Path) -> None:
    run = finished("one", "two")

    assert view_model(run) is view_model(run)
    assert len(view_model(run).snapshot()["sample"]) == 2


def test_views_of_one_run_share_what_a_browser_may_be_sent(ready: Path) -> None:
    class Viewer:
        pass

    run = finished(*(f"{n} {'long ' * 500}" for n in range(60)))
    model, viewers = RunViewModel(run), [Viewer() for _ in range(4)]
    for viewer in viewers:
        model.add_viewer(viewer)
    updates = [RunViewUpdates(model) for _ in viewers]
    for one in updates:
        one.whole(0.0)
    sent = 0

    for tick in range(1, 41):
        for row in range(50):
            model.sample.append((tick * 50 + row, row))
        sent += sum(len(json.dumps(one.changes(run.progress(), tick / 4))) for one in updates)

    assert sent / 10 < 60_000


def test_failures_that_are_listed_are_those_that_the_head_counts(ready: Path) -> None:
    run = finished("one", "refuse", "refuse too", "\ud800")
    updates = RunViewUpdates(RunViewModel(run))
    updates.whole(0.0)
    run.table.count_failed(Failure(FailureKind.TIMEOUT, "No answer in 60 s."), 3)

    changes = updates.changes(run.progress(), 0.01)

    assert changes["head"]["failed"] == sum(group["count"] for group in changes["failures"]) == 6
    assert {group["kind"]: group["count"] for group in changes["failures"]} == {"refusal": 2, "input": 1, "timeout": 3}


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        ({"state": "running", "failed": 4}, (0, "")),
        ({"state": "done", "done": 196, "failed": 4}, (3, "Retry 3 rows")),
        ({"state": "cancelled", "done": 100, "failed": 4}, (99, "Go on with 99 rows")),
        ({"state": "done", "total": 3, "unit": "prompt", "not_sent": 3, "failed": 0}, (6, "Retry 6 prompts")),
    ],
)
def test_retry_says_how_many_it_sends(progress: dict[str, Any], expected: tuple[int, str]) -> None:
    head = head_of(at(**progress), Controls(0.0, can_retry=True, retryable=3))

    assert (head["can"]["retry"], head["retry"]) == expected


def test_a_batch_waits_for_its_jobs_and_stopping_names_what_goes_on(ready: Path) -> None:
    job = JobProgress("dbc3f0a1", "running", 200, 12, 0, 100.0, 86_500.0, 0.12, is_open=True)
    going = head_of(at(is_batch=True, jobs=(job,), note="batch jobs: 1 running"), Controls(0.0))
    left = head_of(at(is_batch=True, jobs=(job,), state="cancelled"), Controls(0.0, can_retry=True))

    assert (going["state"], going["says"]) == ("waiting", "waiting for batch job dbc3f0a1")
    assert (going["stop"], going["projected_usd"]) == ("Stop waiting", 0.12)
    assert going["stop_says"] == (
        "Wait no longer. 1 batch job goes on at the provider (dbc3f0a1) and will cost about $0.1200."
    )
    assert (left["state"], left["says"], left["retry"]) == ("submitted", "submitted, not waiting", "Wait again")
