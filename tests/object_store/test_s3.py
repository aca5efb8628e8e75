"""Datasets and shared answers in S3, as an emulator on this machine has it: `make s3`, in an environment of its own.

The requests are those of s3fs and botocore over HTTP; the buckets, their listings and their refusals are moto's.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import dask.dataframe as dd
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from moto.server import ThreadedMotoServer
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.sim import Simulator
from pllm_notebook.store import close_stores, open_store

BUCKET = "team"
ROWS = 50


class Mark(BaseModel):
    """The number in the text."""

    mark: int


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An emulator of S3 on a free port of loopback."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket, with where it is and its keys in the environment, as boto reads them."""
    for name, value in (
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    s3fs.S3FileSystem.clear_instance_cache()
    yield client
    for found in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=found["Key"])
    client.delete_bucket(Bucket=BUCKET)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def ready(cache_dir: Path, sim: Simulator) -> Simulator:
    sim.set(answers=lambda request: {"mark": int(request.prompt.split()[-1])})
    pllm.configure(servers={"here": sim.base_url("compatible")}, model="here:any", progress=False)
    return sim


def names(s3: Any, prefix: str = "") -> list[str]:
    return [found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]


def write(name: str, numbers: range) -> None:
    table = pa.table({"n": list(numbers), "t": [f"row {n}" for n in numbers]})
    with s3fs.S3FileSystem().open(f"{BUCKET}/{name}", "wb") as file:
        pq.write_table(table, file)


def ask(**options: Any) -> Any:
    return pllm.parse_dataset(f"s3://{BUCKET}/in/*.parquet", f"s3://{BUCKET}/out", Mark, "{t}", rows=10, **options)


@pytest.fixture
def source(s3: Any) -> None:
    write("in/a.parquet", range(35))
    write("in/b.parquet", range(35, ROWS))


def test_a_dataset_is_read_from_a_bucket_and_written_to_it_in_order(ready: Simulator, s3: Any, source: None) -> None:
    dataset = ask()

    table = dataset.scan().to_table()
    assert table["n"].to_pylist() == table["mark"].to_pylist() == list(range(ROWS))
    assert ready.stats().requests == ROWS
    assert len(names(s3, "out/part-")) == 6
    assert "out/_pllm.json" in names(s3)


def test_a_repeated_call_sends_nothing_and_makes_the_parts_that_are_missing(
    ready: Simulator, s3: Any, source: None
) -> None:
    ask()
    lost = names(s3, "out/part-")[1]
    s3.delete_object(Bucket=BUCKET, Key=lost)

    again = ask()

    assert (again.written, ready.stats().requests) == (1, ROWS)
    assert lost in names(s3, "out/part-")
    assert pllm.open_dataset(f"s3://{BUCKET}/out").progress().answered == ROWS
    assert ask().written == 0


def test_a_file_that_has_changed_is_refused(ready: Simulator, s3: Any, source: None) -> None:
    ask()
    write("in/b.parquet", range(35, ROWS + 1))

    with pytest.raises(UsageError, match=r"in/b\.parquet has changed.*Nothing was sent"):
        ask()

    assert ready.stats().requests == ROWS


def test_rows_that_failed_are_asked_again_and_their_parts_replaced(ready: Simulator, s3: Any, source: None) -> None:
    ready.set(answers=lambda request: {"mark": "none"} if request.prompt == "row 7" else {"mark": 1})
    with pytest.warns(UserWarning, match=r"1 of 50 rows"):
        ask(max_repairs=0)
    ready.set(answers=lambda request: {"mark": 2})

    retried = pllm.open_dataset(f"s3://{BUCKET}/out").retry(["schema"], response_format=Mark)

    assert (retried.written, retried.rows) == (1, 1)
    assert pllm.open_dataset(f"s3://{BUCKET}/out").errors().num_rows == 0


def test_a_lazy_frame_and_a_dask_frame_are_written_to_a_bucket(ready: Simulator, s3: Any) -> None:
    texts = [f"row {n}" for n in range(20)]

    lazy = pllm.parse_dataset(pl.LazyFrame({"t": texts}), f"s3://{BUCKET}/lazy", Mark, "{t}", rows=10)
    frame = dd.from_pandas(pd.DataFrame({"t": texts}), npartitions=2)
    answered = frame.llm.parse(Mark, "{t}", to=f"s3://{BUCKET}/dask").compute()

    assert lazy.scan().to_table()["mark"].to_pylist() == answered["mark"].tolist() == list(range(20))
    assert len(names(s3, "lazy/part-")) == len(names(s3, "dask/part-")) == 2
    assert ready.stats().requests == 20


JOB = """
import sys
import pllm_notebook as pllm
from tests.object_store.test_s3 import Mark
def answer(request):
    return {"mark": int(request.prompt.split()[-1])}
pllm.configure(sim={"answers": answer}, model="sim:openai", progress=False, cache_dir=sys.argv[1])
pllm.parse_dataset("s3://team/in/*.parquet", "s3://team/out", Mark, "{t}", rows=10)
"""


def test_another_process_finds_the_parts(ready: Simulator, s3: Any, source: None, tmp_path: Path) -> None:
    for machine in ("first", "second"):
        subprocess.run([sys.executable, "-c", JOB, str(tmp_path / machine)], check=True)
        before = {found["Key"]: found["LastModified"] for found in s3.list_objects_v2(Bucket=BUCKET)["Contents"]}
        if machine == "first":
            first = before

    assert before == first


def test_answers_are_shared_through_a_bucket(ready: Simulator, s3: Any, tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": [f"row {n}" for n in range(ROWS)]})
    for machine in ("first", "second"):
        pllm.configure(cache_dir=tmp_path / machine, cache_share=f"s3://{BUCKET}/answers")
        out = frame.llm.parse(Mark, "{t}")
        close_stores()  # the end of a process ships what is left

    assert out["mark"].tolist() == list(range(ROWS))
    assert out.llm.status.tolist() == ["cached"] * ROWS
    assert ready.stats().requests == ROWS
    assert all(name.startswith("answers/seg-") for name in names(s3, "answers/"))


def test_a_bucket_that_is_not_there_is_a_warning_and_the_run_goes_on(
    ready: Simulator, s3: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pllm.configure(cache_share="s3://nobody/answers")

    out = pd.DataFrame({"t": ["row 1"]}).llm.parse(Mark, "{t}")

    assert out["mark"].tolist() == [1]
    share = open_store().share
    assert share is not None
    with pytest.raises(FileNotFoundError):
        share.ship()
    pllm.configure(cache_share=None)
