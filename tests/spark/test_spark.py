"""Spark's rows through its driver: `make spark`, which makes an environment with Spark of its own. Needs Java 17."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import BaseModel
from pyspark.sql import SparkSession

import pllm_notebook as pllm
from pllm_notebook.sim import Simulator

pytestmark = [
    pytest.mark.timeout(600),  # a session and its first task take a minute on a busy machine
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas"),
]

ROWS = 1_000


class Mark(BaseModel):
    """The number in the text."""

    mark: int


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """A session of two threads that tries a task four times, and refuses to collect more than 8 MB."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        SparkSession.builder.master("local[2,4]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.maxResultSize", "8m")
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.fixture
def ready(cache_dir: Path, sim: Simulator) -> Simulator:
    sim.set(answers=lambda request: {"mark": int(request.prompt.split()[-1])})
    pllm.configure(servers={"here": sim.base_url("compatible")}, model="here:any", progress=False)
    return sim


def test_rows_come_partition_by_partition_and_are_read_back_without_a_call(
    spark: Any, ready: Simulator, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    frame = spark.range(0, ROWS, 1, 4).selectExpr(
        "id AS n", "concat('row ', id) AS t", "array(id) AS several", "named_struct('a', id) AS nested"
    )

    dataset = pllm.parse_dataset(frame, out, Mark, "{t}", rows=300)
    sent = ready.stats().requests
    again = pllm.parse_dataset(frame, out, Mark, "{t}", rows=300)
    back = spark.read.parquet(str(out))

    table = dataset.scan().to_table()
    assert table["n"].to_pylist() == table["mark"].to_pylist() == list(range(ROWS))
    assert table["nested"].to_pylist()[-1] == {"a": ROWS - 1}
    assert (dataset.written, again.written) == (4, 0)
    assert back.count() == back.filter("mark = n AND several[0] = n AND nested.a = n").count() == ROWS
    assert ready.stats().requests == sent == ROWS


def test_more_than_the_driver_may_collect_is_streamed(spark: Any, ready: Simulator, tmp_path: Path) -> None:
    frame = spark.range(0, 60_000, 1, 12).selectExpr("concat('row ', id % 50) AS t", "repeat('x', 400) AS pad")

    dataset = pllm.parse_dataset(frame.coalesce(12), tmp_path / "out", Mark, "{t}")

    assert dataset.scan().count_rows() == 60_000
    assert ready.stats().requests == ready.stats().distinct == 50


def test_a_lost_python_worker_loses_no_row_and_pays_for_none_twice(
    spark: Any, ready: Simulator, tmp_path: Path
) -> None:
    lost = str(tmp_path / "lost")

    def once(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            if batch["id"].iloc[0] >= ROWS // 2 and not os.path.exists(lost):
                open(lost, "w").close()
                os._exit(1)
            yield pd.DataFrame({"n": batch["id"], "t": [f"row {n}" for n in batch["id"]]})

    frame = spark.range(0, ROWS, 1, 4).mapInPandas(once, "n long, t string")

    dataset = pllm.parse_dataset(frame, tmp_path / "out", Mark, "{t}", rows=300)

    table = dataset.scan().to_table()
    assert os.path.exists(lost)
    assert sorted(table["n"].to_pylist()) == list(range(ROWS))
    assert table["n"].to_pylist() == table["mark"].to_pylist()
    assert ready.stats().requests == ready.stats().distinct == ROWS
