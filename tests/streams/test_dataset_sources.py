"""`parse_dataset` of rows that stream: LazyFrames, and whatever streams Arrow data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.sim import Simulator
from tests.streams.test_dataset import ask, ready, source, table_of

__all__ = ["ready", "source"]


def test_a_lazy_frame_is_read_in_pieces_and_in_order(ready: Simulator, source: str, tmp_path: Path) -> None:
    lazy = pl.scan_parquet(source).filter(pl.col("n") >= 5).with_columns(kind=pl.lit("a", pl.Enum(["a", "b"])))

    dataset = ask(lazy, tmp_path / "out")

    table = table_of(dataset)
    assert table["n"].to_pylist() == table["mark"].to_pylist() == list(range(5, 35))
    assert set(table["kind"].to_pylist()) == {"a"}
    assert [pq.read_metadata(path).num_rows for path in dataset.paths] == [10, 10, 10]
    assert (dataset.written, dataset.rows) == (3, 30)


def test_a_repeated_stream_asks_only_about_rows_without_a_part(ready: Simulator, source: str, tmp_path: Path) -> None:
    first = ask(pl.scan_parquet(source), tmp_path / "out")
    sent = ready.stats().requests

    again = ask(pl.scan_parquet(source), tmp_path / "out")
    Path(first.paths[1]).unlink()
    last = ask(pl.scan_parquet(source), tmp_path / "out", cache="only")

    assert (again.written, again.paths) == (0, first.paths)
    assert (last.written, last.rows, last.paths) == (1, 10, first.paths)
    assert table_of(last)["mark"].to_pylist() == list(range(35))
    assert ready.stats().requests == sent


def test_a_changed_stream_sets_parts_of_other_rows_aside(ready: Simulator, tmp_path: Path) -> None:
    def rows(*numbers: int) -> pa.Table:
        return pa.table({"t": [f"row {n}" for n in numbers]})

    ask(rows(1, 2, 3, 4), tmp_path / "out", rows=2)
    sent = ready.stats().requests

    with pytest.warns(UserWarning, match=r"1 part of .* had rows that the source no longer has"):
        dataset = ask(rows(1, 2, 3, 5), tmp_path / "out", rows=2)

    assert table_of(dataset)["mark"].to_pylist() == [1, 2, 3, 5]
    assert pq.read_table(tmp_path / "out", partitioning=None)["mark"].to_pylist() == [1, 2, 3, 5]
    assert ready.stats().requests == sent + 1
    assert len(list((tmp_path / "out").glob("_part-*.old"))) == 1


@pytest.mark.parametrize("kind", ["table", "reader", "duckdb", "polars", "pandas"])
def test_what_streams_arrow_data_is_a_source(ready: Simulator, tmp_path: Path, kind: str) -> None:
    table = pa.table({"n": list(range(25)), "t": [f"row {n}" for n in range(25)]})
    made: dict[str, Any] = {
        "table": lambda: table,
        "reader": lambda: table.to_reader(max_chunksize=7),
        "duckdb": lambda: duckdb.connect().sql("SELECT range AS n, 'row ' || range AS t FROM range(25) ORDER BY n"),
        "polars": lambda: pl.from_arrow(table),
        "pandas": lambda: table.to_pandas(),
    }

    dataset = ask(made[kind](), tmp_path / "out")

    assert table_of(dataset)["mark"].to_pylist() == list(range(25))
    assert [pq.read_metadata(path).num_rows for path in dataset.paths] == [10, 10, 5]
    assert ask(made[kind](), tmp_path / "out").written == 0


def test_an_empty_stream_is_one_empty_part(ready: Simulator, tmp_path: Path) -> None:
    dataset = ask(pa.table({"n": pa.array([], pa.int64()), "t": pa.array([], pa.string())}), tmp_path / "out")

    assert table_of(dataset).num_rows == 0
    assert table_of(dataset).column_names == ["n", "t", "mark", "_pllm_status", "_pllm_error"]
    assert ready.stats().requests == 0


def test_another_kind_of_source_or_other_columns_are_refused(ready: Simulator, source: str, tmp_path: Path) -> None:
    ask(source, tmp_path / "files")
    ask(pl.scan_parquet(source), tmp_path / "lazy")
    sent = ready.stats().requests

    with pytest.raises(UsageError, match=r"source was null and is now .*Nothing was sent"):
        ask(pl.scan_parquet(source), tmp_path / "files")
    with pytest.raises(UsageError, match="source"):
        ask(pl.scan_parquet(source).with_columns(x=1), tmp_path / "lazy")

    assert ready.stats().requests == sent


def test_one_column_without_a_name_is_refused(ready: Simulator, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be streamed as an Arrow table"):
        pllm.parse_dataset(pa.chunked_array([["row 1"]]), tmp_path / "out", int, "{value}")
