"""Sources and directories of a dataset that are not what they should be: an error that says so, and nothing lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import FileError, NameClashError, UsageError
from pllm_notebook.sim import SimRequest, Simulator
from tests.streams.test_dataset import ask, ready, source, table_of, write

__all__ = ["ready", "source"]

Make = Callable[[Path], None]


def of_csv(place: Path) -> None:
    place.mkdir()
    (place / "a.csv").write_text("t\nx\n")


def of_partitions(place: Path) -> None:
    (place / "year=2024").mkdir(parents=True)
    write(place / "year=2024" / "a.parquet", range(3))


def with_a_column(name: str) -> Make:
    def make(place: Path) -> None:
        pq.write_table(pa.table({"t": ["row 1", "row 2"], name: [None, 5]}), place)

    return make


def of_two_columns_with_one_name(place: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["t", "t"]), place)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (Path.mkdir, UsageError, r"No Parquet file was found at .* Its files are those whose names end in \.parquet\."),
        (of_csv, UsageError, r"No Parquet file was found at .* Its files are those whose names end in \.parquet\."),
        (of_partitions, UsageError, r"Directories in it have some: give the pattern '.*/place/\*\*/\*\.parquet'\."),
        (lambda place: place.write_bytes(b""), UsageError, r"place cannot be read as Parquet: .*0 bytes\."),
        (lambda place: place.write_text("t\nx\n"), UsageError, r"place cannot be read as Parquet: .*\."),
        (lambda place: os.symlink("nowhere", place), UsageError, "No Parquet file was found"),
        (of_two_columns_with_one_name, UsageError, "has 2 columns named 't'"),
        (with_a_column("mark"), NameClashError, r"the rows already have columns of those names, which would be lost"),
        (with_a_column("_pllm_error"), UsageError, "have a column '_pllm_error', which the parts have too"),
    ],
)
def test_a_source_that_cannot_be_asked_is_refused_and_leaves_no_directory(
    ready: Simulator, tmp_path: Path, make: Make, error: type[UsageError], said: str
) -> None:
    make(tmp_path / "place")

    with pytest.raises(error, match=said) as caught:
        ask(str(tmp_path / "place"), tmp_path / "out")

    assert str(caught.value).endswith("Nothing was sent.")
    assert ready.stats().requests == 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", [{"error_column": "_pllm_error"}, {"columns": [], "prompt": None}])
def test_an_option_that_parts_could_not_keep_is_refused(
    ready: Simulator, source: str, tmp_path: Path, given: dict[str, Any]
) -> None:
    prompt = given.pop("prompt", "{t}")

    with pytest.raises(UsageError, match=r"Nothing was sent\.$"):
        pllm.parse_dataset(source, tmp_path / "out", bool, prompt, **given)

    assert not (tmp_path / "out").exists()


def test_a_column_of_a_results_name_is_replaced_only_when_that_is_said(ready: Simulator, tmp_path: Path) -> None:
    with_a_column("mark")(tmp_path / "in.parquet")

    table = table_of(ask(str(tmp_path / "in.parquet"), tmp_path / "out", replace=True))

    assert table["mark"].to_pylist() == [1, 2]


@pytest.mark.parametrize("name", ["a[1]", "what?", "all*"])
def test_a_path_that_is_there_is_no_pattern(ready: Simulator, tmp_path: Path, name: str) -> None:
    (tmp_path / name / "b.parquet").mkdir(parents=True)
    write(tmp_path / name / f"{name}.parquet", range(2))

    by_directory, by_file = (
        ask(str(place), tmp_path / f"out{at}")
        for at, place in enumerate((tmp_path / name, tmp_path / name / f"{name}.parquet"))
    )

    assert table_of(by_directory)["n"].to_pylist() == table_of(by_file)["n"].to_pylist() == [0, 1]


def test_a_pattern_reaches_the_files_of_partitions(ready: Simulator, tmp_path: Path) -> None:
    of_partitions(tmp_path / "in")

    assert table_of(ask(str(tmp_path / "in" / "**" / "*.parquet"), tmp_path / "out"))["n"].to_pylist() == [0, 1, 2]


def test_nested_columns_go_through(ready: Simulator, tmp_path: Path) -> None:
    table = pa.table(
        {
            "t": ["row 1", "row 2"],
            "list": [[1, None], []],
            "struct": [{"a": 1.0, "b": None}, None],
            "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
            "word": pa.array(["x", None]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")

    out = table_of(ask(str(tmp_path / "in.parquet"), tmp_path / "out"))

    assert out.select(table.column_names).to_pylist() == table.to_pylist()
    assert out["mark"].to_pylist() == [1, 2]


def test_a_directory_that_cannot_be_written_is_told_before_anything_is_sent(
    ready: Simulator, source: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")

    with pytest.raises(UsageError, match="file is a file, and parts are written to a directory"):
        ask(source, tmp_path / "file")
    for place in (tmp_path / "file" / "out", Path("/proc/none/out")):
        with pytest.raises(FileError, match=r"Nothing was sent\.$"):
            ask(source, place)

    assert ready.stats().requests == 0
    assert (tmp_path / "file").read_text() == "mine"


def test_another_name_of_the_sources_directory_is_not_written_to(ready: Simulator, source: str, tmp_path: Path) -> None:
    os.symlink(tmp_path / "in", tmp_path / "other")

    with pytest.raises(UsageError, match="the next call would read them"):
        ask(source, tmp_path / "other")

    assert sorted(os.listdir(tmp_path / "in")) == ["a.parquet", "b.parquet"]


def damage(path: Path) -> None:
    """Overwrite the pages of a file; its footer stays."""
    content = path.read_bytes()
    path.write_bytes(content[:30] + bytes(60) + content[90:])


def shorten(path: Path) -> None:
    write(path, range(2))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (damage, r"b\.parquet cannot be read as Parquet: .*\. What was answered is in the cache"),
        (shorten, r"b\.parquet has fewer rows than it had when this call began: .* What was answered is in the cache"),
        (Path.unlink, r"b\.parquet cannot be read as Parquet: .*\. What was answered is in the cache"),
    ],
)
def test_a_file_that_is_harmed_meanwhile_is_named_and_the_parts_before_it_stay(
    ready: Simulator, source: str, tmp_path: Path, harm: Make, said: str
) -> None:
    other = tmp_path / "in" / "b.parquet"

    def answer(request: SimRequest) -> dict[str, int]:
        number = int(request.prompt.split()[-1])
        if number == 0:
            harm(other)
        return {"mark": number}

    ready.set(answers=answer)
    # So that the second file is opened when the first row is answered.
    with pytest.raises(UsageError, match=said):
        ask(source, tmp_path / "out", rows=1, concurrency=1)

    made = pllm.open_dataset(tmp_path / "out")
    assert table_of(made)["n"].to_pylist()[:25] == list(range(25))


def test_a_part_that_is_damaged_is_named_and_not_its_directory(ready: Simulator, source: str, tmp_path: Path) -> None:
    dataset = ask(source, tmp_path / "out")
    Path(dataset.paths[0]).write_text("junk")

    for look in (dataset.scan, dataset.errors, dataset.progress, dataset.retry):
        with pytest.raises(UsageError, match=r"part-00000-\w+\.parquet cannot be read as Parquet: .*\. Delete it, and"):
            look()

    Path(dataset.paths[0]).unlink()
    assert ask(source, tmp_path / "out").written == 1


@pytest.mark.parametrize("files", [[1], [["a", 1, "s"]], [["a", 1, "s", "4"]], {}, 0])
def test_a_manifest_with_odd_files_is_no_manifest(ready: Simulator, source: str, tmp_path: Path, files: Any) -> None:
    import json

    ask(source, tmp_path / "out")
    path = tmp_path / "out" / "_pllm.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": files}))

    for call in (lambda: pllm.open_dataset(tmp_path / "out"), lambda: ask(source, tmp_path / "out")):
        with pytest.raises(UsageError, match="is not a manifest of a dataset"):
            call()
