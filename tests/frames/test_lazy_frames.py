"""LazyFrames: what Polars does not need is not asked. Calls are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import NameClashError, UnknownColumnError, UsageError
from pllm_notebook.execution import live_of
from pllm_notebook.sim import SimRequest


class Mark(BaseModel):
    """The number of letters."""

    mark: int


@pytest.fixture
def calls(cache_dir: Path) -> list[str]:
    asked: list[str] = []

    def answer(request: SimRequest) -> Any:
        asked.append(request.prompt)
        return {"mark": int(request.prompt)}

    pllm.configure(model="sim:openai", sim={"answers": answer})
    return asked


def answer_alone(request: SimRequest) -> Any:
    return {"mark": int(request.prompt)}


def rows(total: int = 60) -> pl.LazyFrame:
    return pl.LazyFrame({"t": [str(n) for n in range(total)], "g": [n % 3 for n in range(total)]})


def test_the_schema_costs_no_call(calls: list[str]) -> None:
    lazy = rows().llm.parse(Mark, "{t}")

    assert dict(lazy.collect_schema()) == {"t": pl.String, "g": pl.Int64, "mark": pl.Int64}
    assert lazy.explain()
    assert calls == []


def test_the_head_asks_its_rows_alone(calls: list[str]) -> None:
    out = rows().llm.parse(Mark, "{t}").head(5).collect()

    assert out["mark"].to_list() == [0, 1, 2, 3, 4]
    assert sorted(calls) == ["0", "1", "2", "3", "4"]


def test_unused_answers_are_not_asked_for(calls: list[str]) -> None:
    assert rows().llm.parse(Mark, "{t}").select("g").collect().height == 60
    assert calls == []


def test_text_is_lazy_too(calls: list[str]) -> None:
    pllm.configure(sim={"answers": lambda request: f"said {request.prompt}"})

    lazy = rows().llm.complete("{t}", column="said")

    assert lazy.collect_schema()["said"] == pl.String
    assert pllm.runs() == []
    assert lazy.head(2).collect()["said"].to_list() == ["said 0", "said 1"]


def test_what_is_said_of_answers_is_said_of_collected_rows(calls: list[str]) -> None:
    with pytest.raises(UsageError, match=r"lf\.llm\.parse\(…\)\.collect\(\)\.llm\.errors\. Nothing was sent\.$"):
        _ = rows().llm.errors
    with pytest.raises(UsageError, match=r"\.collect\(\)\.llm\.explain\(…\)\."):
        rows().llm.explain(0)

    assert rows(3).llm.parse(Mark, "{t}").collect().llm.status.to_list() == ["ok"] * 3


def test_a_filter_on_input_columns_comes_before_the_question(calls: list[str]) -> None:
    out = rows().llm.parse(Mark, "{t}").filter(pl.col("g") == 1).select("mark").collect()

    assert out["mark"].to_list() == list(range(1, 60, 3))
    assert len(calls) == 20


def test_a_filter_on_answers_comes_after_it(calls: list[str]) -> None:
    out = rows().llm.parse(Mark, "{t}").filter(pl.col("mark") >= 57).collect()

    assert out["t"].to_list() == ["57", "58", "59"]
    assert len(calls) == 60


def test_a_self_join_pays_once(calls: list[str]) -> None:
    lazy = rows().llm.parse(Mark, "{t}")

    joined = lazy.join(lazy, on="t").collect()

    assert joined.sort("mark")["mark_right"].to_list() == list(range(60))
    assert len(calls) == 60


def test_a_sink_writes_all_rows_in_order(calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pllm_notebook.frames.polars.lazy._ROWS", 7)
    pllm.configure(sim={"answers": answer_alone})  # without what changes between runs, which is part of a key
    rows().llm.parse(Mark, "{t}").sink_parquet(tmp_path / "out.parquet")

    assert pl.read_parquet(tmp_path / "out.parquet")["mark"].to_list() == list(range(60))
    assert sum(run.progress().done for run in pllm.runs()) == 60
    assert rows().llm.parse(Mark, "{t}").collect().height == 60
    assert sum(run.progress().done for run in pllm.runs()) == 60


def test_what_cannot_be_asked_is_refused_before_rows_are_collected(calls: list[str]) -> None:
    with pytest.raises(UnknownColumnError, match="Did you mean 't'"):
        rows().llm.parse(Mark, "{tt}")
    with pytest.raises(NameClashError):
        rows().rename({"g": "mark"}).llm.parse(Mark, "{t}")
    with pytest.raises(UsageError, match=r"lf\.collect\(\)\.llm\.submit\(…\)"):
        rows().llm.submit(Mark, "{t}")
    assert calls == []


def test_an_estimate_sends_nothing_and_a_preview_few(calls: list[str]) -> None:
    assert rows().llm.estimate(Mark, "{t}").calls == 60
    assert calls == []
    assert pllm.preview(rows(), Mark, "{t}", rows=2).estimate.rows == 60
    assert len(calls) == 2


def test_without_batches_of_polars_rows_are_collected_and_sliced(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(pl.LazyFrame, "collect_batches")

    assert rows().llm.parse(Mark, "{t}").collect()["mark"].to_list() == list(range(60))
    assert len(calls) == 60


def test_a_ceiling_holds_for_all_batches_together(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pllm_notebook.frames.polars.lazy._ROWS", 20)

    assert rows().llm.parse(Mark, "{t}", max_cost_usd=10).collect()["mark"].to_list() == list(range(60))
    ceilings = [live_of(run).spec.options.max_cost_usd for run in pllm.runs()]
    assert ceilings == sorted(ceilings, reverse=True)
    assert len(set(ceilings)) == 3
