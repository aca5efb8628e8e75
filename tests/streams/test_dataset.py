"""`parse_dataset`: Parquet files in, part files out; what is there is neither read nor asked again."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import BudgetError, MissingPackageError, UnknownColumnError, UsageError
from pllm_notebook.sim import Simulator
from tests.streams.test_batches import Mark, answer


@pytest.fixture
def ready(cache_dir: Path, sim: Simulator) -> Simulator:
    sim.set(answers=answer, keep_requests=20_000)
    pllm.configure(servers={"here": sim.base_url("compatible")}, model="here:any", progress=False)
    return sim


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Two files: rows 0 to 24 in row groups of 7, and rows 25 to 34."""
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "a.parquet", range(25), row_group_size=7)
    write(folder / "b.parquet", range(25, 35))
    return f"{folder}/*.parquet"


def write(path: Path, numbers: range, **options: Any) -> None:
    pq.write_table(pa.table({"n": list(numbers), "t": [f"row {n}" for n in numbers]}), path, **options)


def ask(source: str, out: str | Path, **options: Any) -> Any:
    return pllm.parse_dataset(source, out, Mark, "{t}", **{"rows": 10, **options})


def table_of(dataset: Any) -> pa.Table:
    return dataset.scan().to_table()


def test_rows_are_complete_and_in_the_order_of_the_files(ready: Simulator, source: str, tmp_path: Path) -> None:
    ready.set(latency_s=0.01, latency_sigma=1.0)

    dataset = ask(source, tmp_path / "out")

    table = table_of(dataset)
    assert table.column_names == ["n", "t", "mark", "_pllm_status", "_pllm_error"]
    assert table["n"].to_pylist() == table["mark"].to_pylist() == list(range(35))
    assert set(table["_pllm_status"].to_pylist()) == {"ok"}
    assert [pq.read_metadata(path).num_rows for path in dataset.paths] == [10, 10, 5, 10]
    assert (dataset.written, dataset.rows, dataset.answered, dataset.failed) == (4, 35, 35, 0)


def test_a_finished_dataset_sends_nothing_and_reads_no_row(
    ready: Simulator, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask(source, tmp_path / "out")
    before = {path: os.stat(path).st_mtime_ns for path in first.paths}
    sent = ready.stats().requests

    monkeypatch.setattr(pq, "ParquetFile", None)
    again = ask(source, tmp_path / "out")

    assert ready.stats().requests == sent
    assert (again.written, again.paths) == (0, first.paths)
    assert {path: os.stat(path).st_mtime_ns for path in again.paths} == before


def test_only_missing_parts_are_made_and_from_the_cache(ready: Simulator, source: str, tmp_path: Path) -> None:
    first = ask(source, tmp_path / "out")
    whole, sent = table_of(first), ready.stats().requests
    os.remove(first.paths[1])
    os.remove(first.paths[3])

    again = ask(source, tmp_path / "out")

    assert (again.written, again.rows, again.paths) == (2, 20, first.paths)
    assert table_of(again).drop_columns("_pllm_status") == whole.drop_columns("_pllm_status")
    assert ready.stats().requests == sent


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.5}, r"temperature was null and is now 0\.5"),
        ({"rows": 5}, "rows was 10 and is now 5"),
        ({"model": "here:other"}, 'model was "here:any" and is now "here:other"'),
        ({"status": False}, "status was true and is now false"),
    ],
)
def test_another_question_is_refused_with_what_differs(
    ready: Simulator, source: str, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    ask(source, tmp_path / "out")
    sent = ready.stats().requests

    with pytest.raises(UsageError, match=message + r"\. .*Nothing was sent"):
        ask(source, tmp_path / "out", **change)

    assert ready.stats().requests == sent


def test_another_prompt_type_or_file_is_refused(ready: Simulator, source: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ask(source, out)
    sent = ready.stats().requests

    with pytest.raises(UsageError, match="prompt was"):
        pllm.parse_dataset(source, out, Mark, "Read {t}", rows=10)
    with pytest.raises(UsageError, match="schema differs"):
        pllm.parse_dataset(source, out, dict[str, int], "{t}", rows=10)
    write(tmp_path / "in" / "c.parquet", range(3))
    with pytest.raises(UsageError, match=r"c\.parquet is new"):
        ask(source, out)
    os.remove(tmp_path / "in" / "c.parquet")
    write(tmp_path / "in" / "b.parquet", range(25, 36))
    with pytest.raises(UsageError, match=r"b\.parquet has changed"):
        ask(source, out)

    assert ready.stats().requests == sent


def test_options_of_sending_may_change(ready: Simulator, source: str, tmp_path: Path) -> None:
    ask(source, tmp_path / "out")

    again = ask(source, tmp_path / "out", concurrency=2, max_cost_usd=5, max_retries=1, timeout_s=9, errors="raise")

    assert again.written == 0


def test_a_part_that_the_money_did_not_suffice_for_is_not_written(
    cache_dir: Path, sim: Simulator, tmp_path: Path
) -> None:
    sim.set(answers=answer)
    pllm.configure(servers={"here": sim.base_url("compatible")}, progress=False)
    write(tmp_path / "in.parquet", range(600))
    asked = {"source": str(tmp_path / "in.parquet"), "out": tmp_path / "out", "model": "sim:openai", "concurrency": 4}

    with pytest.raises(BudgetError, match="max_cost_usd was reached"):
        ask(**asked, max_cost_usd=0.002)
    parts = sorted((tmp_path / "out").glob("*.parquet"))
    left = [status for part in parts for status in pq.read_table(part)["_pllm_status"].to_pylist()]
    dataset = ask(**asked, max_cost_usd=5)

    assert len(parts) < 60
    assert "not_sent" not in left
    assert table_of(dataset)["n"].to_pylist() == list(range(600))
    assert dataset.written == 60 - len(parts)


def test_a_failed_row_is_in_its_part_with_its_message(ready: Simulator, tmp_path: Path) -> None:
    pq.write_table(pa.table({"t": ["row 1", "bad 2", None]}), tmp_path / "in.parquet")

    with pytest.warns(UserWarning, match="1 of 3 rows failed") as seen:
        dataset = ask(str(tmp_path / "in.parquet"), tmp_path / "out")

    table = table_of(dataset)
    assert table["mark"].to_pylist() == [1, None, None]
    assert table["_pllm_status"].to_pylist() == ["ok", "failed", "skipped"]
    assert [message is None for message in table["_pllm_error"].to_pylist()] == [True, False, True]
    assert table["_pllm_error"][1].as_py().startswith("refusal: ")
    assert (dataset.answered, dataset.failed, dataset.skipped) == (1, 1, 1)
    assert seen[0].filename == __file__


def test_parts_without_status_have_the_fields_alone(ready: Simulator, source: str, tmp_path: Path) -> None:
    assert table_of(ask(source, tmp_path / "out", status=False)).column_names == ["n", "t", "mark"]


def test_an_exploded_row_has_its_status_on_each_line(ready: Simulator, tmp_path: Path) -> None:
    ready.set(answers=lambda request: [1] * int(request.prompt.split()[-1]))
    pq.write_table(pa.table({"t": ["row 2", "row 3"]}), tmp_path / "in.parquet")

    dataset = pllm.parse_dataset(tmp_path / "in.parquet", tmp_path / "out", list[int], "{t}", explode=True)

    assert table_of(dataset)["t"].to_pylist() == ["row 2"] * 2 + ["row 3"] * 3
    assert table_of(dataset)["_pllm_status"].to_pylist() == ["ok"] * 5


def test_an_empty_file_is_an_empty_part_of_the_same_columns(ready: Simulator, source: str, tmp_path: Path) -> None:
    pq.write_table(pq.read_schema(tmp_path / "in" / "a.parquet").empty_table(), tmp_path / "in" / "c.parquet")

    dataset = ask(source, tmp_path / "out")

    schemas = [pq.read_schema(path) for path in dataset.paths]
    assert len(schemas) == 5
    assert all(schema.equals(schemas[0]) for schema in schemas)


def test_columns_that_differ_between_files_are_refused(ready: Simulator, source: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": ["1"], "t": ["row 1"]}), tmp_path / "in" / "c.parquet")

    with pytest.raises(UsageError, match=r"column 'n' is int64 in .*a\.parquet and string in .*c\.parquet"):
        ask(source, tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_a_question_that_cannot_be_asked_leaves_no_manifest(ready: Simulator, source: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownColumnError, match="'text'"):
        pllm.parse_dataset(source, tmp_path / "out", Mark, "{text}")

    assert not (tmp_path / "out").exists()
    assert ask(source, tmp_path / "out").rows == 35


def test_a_dataset_on_another_file_system_resumes(ready: Simulator) -> None:
    files = fsspec.filesystem("memory")
    for name, numbers in (("a", range(12)), ("b", range(12, 20))):
        with files.open(f"/here/in/{name}.parquet", "wb") as file:
            pq.write_table(pa.table({"n": list(numbers), "t": [f"row {n}" for n in numbers]}), file)
    try:
        first = ask("memory://here/in/*.parquet", "memory://here/out")
        files.rm(first.paths[1])
        sent = ready.stats().requests
        again = ask("memory://here/in/*.parquet", "memory://here/out")

        assert table_of(again)["mark"].to_pylist() == list(range(20))
        assert (first.written, again.written, ready.stats().requests) == (3, 1, sent)
    finally:
        files.rm("/here", recursive=True)


@pytest.mark.parametrize(("module", "package"), [("pyarrow.parquet", "pyarrow"), ("fsspec.core", "fsspec")])
def test_a_missing_package_is_named_with_its_extra(
    ready: Simulator, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(UsageError, match=r"pllm_notebook\[dataset\]") as raised:
        ask(source, tmp_path / "out")

    assert package in str(raised.value)
    assert isinstance(raised.value, MissingPackageError) == (package == "pyarrow")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rows": 0}, "rows is a whole number of at least 1"),
        ({"source": "none/*.parquet"}, r"No Parquet file was found at 'none/\*\.parquet'"),
        ({"source": 5}, "not int"),
        ({"source": []}, "given no file"),
        ({"mode": "batch", "wait": False}, "leave wait= out"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(
    ready: Simulator, source: str, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        ask(**{"source": source, "out": tmp_path / "out", **given})


def test_a_directory_with_other_files_is_not_written_to(ready: Simulator, source: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the next call would read them"):
        ask(source, tmp_path / "in")
    with pytest.raises(UsageError, match="no manifest"):
        ask(str(tmp_path / "in" / "a.parquet"), write_beside(tmp_path))


def write_beside(tmp_path: Path) -> Path:
    (tmp_path / "other").mkdir()
    write(tmp_path / "other" / "x.parquet", range(1))
    return tmp_path / "other"


@pytest.mark.parametrize("read", ["scan", "errors"])
def test_a_part_that_is_gone_is_named(ready: Simulator, source: str, tmp_path: Path, read: str) -> None:
    dataset = ask(source, tmp_path / "out")
    Path(dataset.paths[1]).unlink()

    with pytest.raises(UsageError, match=r"The part .*part-.* is no longer there\. Repeat the call of parse_dataset"):
        getattr(dataset, read)()

    left = pllm.open_dataset(tmp_path / "out")
    assert left.scan().to_table()["n"].to_pylist() == [*range(10), *range(20, 35)]
    assert not left.progress().is_complete
    assert ask(source, tmp_path / "out").written == 1


@pytest.mark.parametrize(
    "content",
    ["{}", "[]", "", "{", '{"format": 1}', '{"format": 1, "prompt": "", "schema": {}, "options": [], "rows": 1}'],
)
def test_what_is_no_manifest_opens_no_dataset(cache_dir: Path, tmp_path: Path, source: str, content: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "_pllm.json").write_text(content)

    for call in (lambda: pllm.open_dataset(out), lambda: ask(source, out, model="sim:openai")):
        with pytest.raises(UsageError, match="is not a manifest of a dataset"):
            call()
