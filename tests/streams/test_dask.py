"""`ddf.llm` of Dask: the cluster makes rows, one process asks, and what it wrote survives every worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import pandas as pd
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster

import pllm_notebook as pllm
from pllm_notebook.exceptions import UnknownColumnError, UsageError
from pllm_notebook.sim import SimRequest, Simulator
from pllm_notebook.streams.dask_source import DaskSource
from tests.streams.test_batches import Mark
from tests.streams.test_dataset import ready

__all__ = ["ready"]

ROWS = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two workers in processes of their own, of which one may be killed; they end with the tests of this file."""
    with dask.config.set({"distributed.worker.daemon": True}):
        made = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True)
    yield made
    made.close()


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster, set_as_default=True) as made:
        yield made


def frame(rows: int = ROWS, npartitions: int = 8) -> Any:
    numbers = list(range(rows))
    frame = pd.DataFrame({"n": numbers, "t": [f"row {n}" for n in numbers]}, index=[10 * n for n in numbers])
    return dd.from_pandas(frame, npartitions=npartitions)


def parts(out: Path) -> list[Path]:
    return sorted(out.glob("part-*.parquet"))


def test_importing_the_package_loads_no_dask_and_either_order_registers() -> None:
    code = (
        "import sys, pllm_notebook; assert 'dask' not in sys.modules;"
        "import dask.dataframe as dd; assert callable(dd.DataFrame.llm.parse)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_a_directory_it_refuses_and_says_why(ready: Simulator) -> None:
    with pytest.raises(UsageError, match=r"paid for each time\. Pass to=.*preview.*Nothing was sent"):
        frame().llm.parse(Mark, "{t}")
    with pytest.raises(UsageError, match=r"ddf\.head\(10\)\.llm\.submit"):
        frame().llm.submit(Mark, "{t}")
    with pytest.raises(
        UsageError, match=r"paid for each time\. Pass to=.*ddf\['text'\]\.llm\.parse\(…, to='answers'\)"
    ):
        frame()["t"].llm.parse(Mark, "{value}")
    with pytest.raises(UsageError, match=r"llm\.complete\(…, to='answers'\)"):
        frame().llm.complete("{t}")

    assert ready.stats().requests == 0


def test_what_cannot_be_asked_is_refused_from_the_columns_alone(ready: Simulator, tmp_path: Path) -> None:
    def fail(partition: pd.DataFrame) -> pd.DataFrame:
        raise AssertionError("A partition was computed.")

    with pytest.raises(UnknownColumnError, match="'text'"):
        frame().map_partitions(fail, meta=frame()._meta).llm.parse(Mark, "{text}", to=tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_a_frame_comes_back_in_its_order_with_its_index_and_divisions(ready: Simulator, tmp_path: Path) -> None:
    asked = frame(rows=35, npartitions=2)

    answered = asked.llm.parse(Mark, "{t}", to=tmp_path / "out", rows=10)
    sent = ready.stats().requests
    whole = answered.compute()

    assert whole.index.tolist() == [10 * n for n in range(35)]
    assert whole["n"].tolist() == whole["mark"].tolist() == list(range(35))
    assert (answered.npartitions, answered.known_divisions) == (4, True)
    assert [path.name[:22] for path in parts(tmp_path / "out")] == [
        "part-00000-00000of0000", "part-00000-00001of0000", "part-00001-00000of0000", "part-00001-00001of0000"
    ]  # fmt: skip
    assert sent == ready.stats().requests == 35


def test_a_finished_frame_computes_no_partition_and_sends_nothing(ready: Simulator, tmp_path: Path) -> None:
    computed = tmp_path / "computed"
    computed.mkdir()

    def counted(partition: pd.DataFrame, to: str) -> pd.DataFrame:
        Path(to, str(partition["n"].iloc[0])).touch()
        return partition

    asked = frame(rows=40, npartitions=4).map_partitions(counted, str(computed), meta=frame()._meta)
    asked.llm.parse(Mark, "{t}", to=tmp_path / "out")
    for path in computed.iterdir():
        path.unlink()
    parts(tmp_path / "out")[2].unlink()
    sent = ready.stats().requests

    again = asked.llm.parse(Mark, "{t}", to=tmp_path / "out")

    assert [path.name for path in computed.iterdir()] == ["20"]
    assert again.compute()["mark"].tolist() == list(range(40))
    assert ready.stats().requests == sent


def test_without_a_prompt_the_index_is_no_data(ready: Simulator, tmp_path: Path) -> None:
    ready.set(answers=lambda request: {"mark": 1})

    frame(rows=2, npartitions=1).llm.parse(Mark, to=tmp_path / "out")

    said = str([request["body"] for request in ready.requests()])
    assert "row 1" in said
    assert "__null_dask_index__" not in said


def test_a_preview_asks_the_first_rows_and_an_estimate_none(ready: Simulator) -> None:
    estimate = frame().llm.estimate(Mark, "{t}")
    sent = ready.stats().requests
    preview = frame().llm.preview(Mark, "{t}", rows=3)

    assert (estimate.rows, estimate.calls, sent) == (ROWS, ROWS, 0)
    assert preview.frame["mark"].tolist() == [0, 1, 2]
    assert (preview.estimate.cached, preview.estimate.calls) == (3, ROWS - 3)
    assert ready.stats().requests == 3


def test_text_is_written_beside_the_rows(ready: Simulator, tmp_path: Path) -> None:
    ready.set(answers=lambda request: f"said {request.prompt}")

    answered = frame(rows=3).llm.complete("{t}", column="said", to=tmp_path / "out")

    assert answered.compute()["said"].tolist() == ["said row 0", "said row 1", "said row 2"]


def test_a_column_alone_gives_a_series_with_its_index(ready: Simulator, tmp_path: Path) -> None:
    texts = frame(rows=4, npartitions=2)["t"]

    ready.set(answers=lambda request: {"value": request.prompt.endswith(("1?", "3?"))})
    flags = texts.llm.parse(bool, "{value}?", column="odd", to=tmp_path / "flags")
    ready.set(answers=lambda request: f"said {request.prompt}")
    said = texts.llm.complete("{t}!", to=tmp_path / "said")

    assert isinstance(flags, dd.Series)
    assert (flags.name, flags.compute().tolist()) == ("odd", [False, True, False, True])
    assert flags.compute().index.tolist() == [0, 10, 20, 30]
    assert said.compute().tolist() == [f"said row {n}!" for n in range(4)]


def test_a_column_alone_gives_a_frame_where_the_answer_has_fields(ready: Simulator, tmp_path: Path) -> None:
    texts = frame(rows=4, npartitions=2)["t"]

    whole = texts.llm.parse(Mark, "{value}", to=tmp_path / "out", status=False).compute()

    assert whole.columns.tolist() == ["t", "mark"]
    assert whole["mark"].tolist() == list(range(4))
    assert (texts.llm.estimate(Mark, "{value}").cached, texts.llm.estimate(Mark, "{value}!").calls) == (4, 4)
    assert texts.llm.preview(Mark, "{value}", rows=2).frame["mark"].tolist() == [0, 1]


def test_what_was_computed_knows_the_runs_of_its_parts(ready: Simulator, tmp_path: Path) -> None:
    whole = frame(rows=6, npartitions=3).llm.parse(Mark, "{t}", to=tmp_path / "out").compute()

    assert whole.llm.status.tolist() == ["ok"] * 6
    assert whole.llm.errors.empty


def test_a_column_of_mixed_values_is_named(ready: Simulator, tmp_path: Path) -> None:
    with dask.config.set({"dataframe.convert-string": False}):
        mixed = dd.from_pandas(pd.DataFrame({"t": ["row 1", 2]}), npartitions=1)

        with pytest.raises(UsageError, match=r"cannot be written to Parquet.*column t"):
            mixed.llm.parse(Mark, "{t}", to=tmp_path / "out")

    assert ready.stats().requests == 0


def test_killed_workers_lose_no_row_and_pay_for_none_twice(ready: Simulator, client: Client, tmp_path: Path) -> None:
    """Twins are in the first and the last partition; a worker is killed when a third of the rows is answered."""
    reached, killed = threading.Event(), threading.Event()
    count = 0

    def answered(request: SimRequest) -> Any:
        nonlocal count
        count += 1
        if count == ROWS // 3:
            reached.set()
        if count > ROWS // 3:
            killed.wait(60)
        return {"mark": int(request.prompt.split()[-1]) % (ROWS - 10)}

    def kill() -> None:
        reached.wait(60)
        for pid in list(client.run(os.getpid).values())[:1]:
            os.kill(pid, signal.SIGKILL)
        killed.set()

    ready.set(answers=answered)
    numbers = [n % (ROWS - 10) for n in range(ROWS)]
    asked = dd.from_pandas(pd.DataFrame({"n": numbers, "t": [f"row {n}" for n in numbers]}), npartitions=6)
    thread = threading.Thread(target=kill)
    thread.start()

    whole = asked.llm.parse(Mark, "{t}", to=tmp_path / "out", rows=20, concurrency=8).compute()

    thread.join()
    assert killed.is_set()
    assert whole["n"].tolist() == whole["mark"].tolist() == numbers
    assert ready.stats().requests == ready.stats().distinct == ROWS - 10


def test_one_large_partition_is_asked_in_pieces(ready: Simulator, client: Client, tmp_path: Path) -> None:
    skewed = dd.concat([frame(rows=100, npartitions=1), frame(rows=2, npartitions=2)], interleave_partitions=False)

    skewed.llm.parse(Mark, "{t}", to=tmp_path / "out", rows=30)

    assert [pq.read_metadata(path).num_rows for path in parts(tmp_path / "out")] == [30, 30, 30, 10, 1, 1]
    assert pllm.open_dataset(tmp_path / "out").progress().answered == 102


def test_a_partition_in_more_parts_than_five_digits_is_found_again_in_their_order() -> None:
    source = DaskSource(frame(rows=1, npartitions=1), rows=30)
    (piece,) = source.pieces(())
    names = [piece.name.replace("00000of00001", f"{number:05d}of100001") for number in range(100_001)]

    assert [one.name for one in source.pieces(set(names))] == names
    assert [one.name for one in source.pieces(set(names[1:]))] == [piece.name]


def test_a_partition_that_fails_ends_the_call_after_what_was_asked(ready: Simulator, tmp_path: Path) -> None:
    def fail(partition: pd.DataFrame) -> pd.DataFrame:
        if partition["n"].iloc[0] == 20:
            raise RuntimeError("This partition is lost.")
        return partition

    asked = frame(rows=40, npartitions=4).map_partitions(fail, meta=frame()._meta)

    with pytest.raises(RuntimeError, match="This partition is lost"):
        asked.llm.parse(Mark, "{t}", to=tmp_path / "out")

    assert len(parts(tmp_path / "out")) == 2
    assert pllm.open_dataset(tmp_path / "out").progress().answered == ready.stats().requests == 20
