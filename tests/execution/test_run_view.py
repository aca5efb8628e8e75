"""What displays are given of a run: its state as plain data, bounded whatever the run does."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.execution import RunViewModel, RunViewUpdates, run_registry
from pllm_notebook.execution.run_view.field_charts import FieldCharts
from pllm_notebook.execution.run_view.pace import Pace
from pllm_notebook.schema import OutputType
from pllm_notebook.sim import SimAnswer, SimRequest
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
    run = pd.DataFrame({"text": list(texts)}).llm.submit(Facts, "Read: {text}", **given)
    run.wait()
    return run


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


def test_categories_are_counted_in_their_own_order_and_missing_values_beside() -> None:
    charts = charts_of([facts(mood="bad"), facts(mood="bad", price=None), facts(again=False)])

    assert charts["mood"]["bars"] == [{"label": "good", "count": 1}, {"label": "bad", "count": 2}]
    assert charts["again"]["bars"] == [{"label": "yes", "count": 2}, {"label": "no", "count": 1}]
    assert (charts["price"]["counted"], charts["price"]["missing"]) == (3, 1)


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
