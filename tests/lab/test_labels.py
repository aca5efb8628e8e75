"""Labels belong to the content of a row: any frame that has it finds them, and a kill loses none that was stored."""

from __future__ import annotations

import os
import sqlite3
import textwrap
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook.exceptions import FileError, PllmError, StoreError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.frames.libraries import table_of
from pllm_notebook.frames.stored_labels import LabelNote, label_cells, stored_labels
from pllm_notebook.store import Label, LabelFile
from tests.forked import Forked
from tests.frames.frame_libraries import LIBRARIES, FrameKit


class Review(BaseModel):
    """A review."""

    mood: Literal["good", "bad"]
    stars: int


@pytest.fixture
def frame(cache_dir: Path) -> pd.DataFrame:
    pllm.configure(sim={"answers": lambda request: {"mood": "good", "stars": 3}}, model="sim:openai")
    return pd.DataFrame({"text": ["a", "b", "c", "a"], "gold": ["good", "bad", None, "good"]})


@pytest.fixture(params=LIBRARIES, ids=repr)
def kit(request: pytest.FixtureRequest) -> FrameKit:
    kit: FrameKit = request.param
    return kit


def labels_of(frame: Any, field: str = "mood") -> list[Any]:
    table = table_of(frame)
    assert table is not None
    return [None if label is None else label.value for label in stored_labels(table, field)]


def test_a_columns_labels_outlive_frame_and_prompt(frame: pd.DataFrame) -> None:
    out = frame.llm.parse(Review, "A {text}")

    assert out.llm.label("gold", field="mood") == 2  # equal rows share one

    run_registry.forget_all()
    other = pd.DataFrame({"more": [1, 2, 3], "text": ["c", "b", "a"]})
    asked = other.llm.parse(Review, "B {text} {more}")
    assert labels_of(asked) == [None, "bad", "good"]
    result = asked.llm.evaluate(against="labels", field="mood")
    assert (result.answered, result.accuracy, result.against) == (2, 0.5, "labels")
    assert asked.llm.evaluate(against="labels").field == "mood"  # the only field with labels
    compared = asked.llm.compare(out, against="labels")
    assert (compared.labelled.field, compared.labelled.labels) == ("mood", 2)


def test_every_library_finds_the_same_labels(cache_dir: Path, kit: FrameKit) -> None:
    pllm.configure(sim={"answers": lambda request: {"mood": "good", "stars": 3}}, model="sim:openai")
    pd.DataFrame({"text": ["a", "b"], "mood": ["good", "bad"]}).llm.label("mood", columns=["text"], by="me")

    made = kit.frame({"text": ["b", "c", "a"]})

    assert labels_of(made) == ["bad", None, "good"]
    out = kit.llm(made).parse(Review, "A {text}")
    assert kit.llm(out).evaluate(against="labels").accuracy == 0.5


def test_corrected_cells_become_labels(frame: pd.DataFrame) -> None:
    out = frame.llm.parse(Review, "A {text}")
    out.loc[1, "mood"] = "bad"
    out.loc[2, "stars"] = 5

    assert out.llm.label(by="me") == 2

    made = pllm.labels().frame
    assert list(zip(made["field"], made["value"], made["drawn_by"], made["by"], strict=True)) == [
        ("mood", '"bad"', "corrected", "me"),
        ("stars", "5", "corrected", "me"),
    ]
    assert made["pi"].isna().all()
    assert list(made["row"]) == ['{"text":"b"}', '{"text":"c"}']
    assert list(made["run"]) == [out.attrs["pllm_run"]] * 2


def test_the_newest_label_counts_and_undoing_brings_the_older_back(frame: pd.DataFrame, cache_dir: Path) -> None:
    note = LabelNote("me", "random", 0.1)
    label_cells(["text"], ["a"], {"mood": "good"}, note)
    (second,) = label_cells(["text"], ["a"], {"mood": "bad"}, note)
    label_cells(["text"], ["b"], {"mood": "bad"}, LabelNote("you"))

    assert labels_of(frame[["text"]]) == ["bad", "bad", None, "bad"]
    LabelFile(str(cache_dir)).remove([second])
    assert labels_of(frame[["text"]]) == ["good", "bad", None, "good"]
    assert [label.by for label in pllm.labels(by="you")] == ["you"]
    assert [(label.pi, label.drawn_by) for label in pllm.labels(by="me")] == [(0.1, "random")]
    assert pllm.labels.remove(pllm.labels(by="you")) == 1
    assert labels_of(frame[["text"]]) == ["good", None, None, "good"]


@pytest.mark.parametrize("name", ["labels.parquet", "labels.csv"])
def test_labels_go_to_another_cache_directory(frame: pd.DataFrame, tmp_path: Path, name: str) -> None:
    frame.llm.parse(Review, "A {text}").llm.label("gold", field="mood", by="me", drawn_by="random", pi=0.25)
    label_cells(["text"], ["c"], {"stars": 2}, LabelNote("you", note="a line\nand, another"))
    before = list(pllm.labels())

    assert pllm.labels.export(tmp_path / name) == 3
    pllm.configure(cache_dir=tmp_path / "other")
    assert pllm.labels.import_(tmp_path / name) == 3
    assert pllm.labels.import_(tmp_path / name) == 0

    def plain(label: Label) -> tuple[Any, ...]:
        return (label.columns, label.content, label.field, label.value, label.by, label.drawn_by, label.pi, label.note,
                label.run, label.row, round(label.at, 3))  # fmt: skip

    assert [plain(label) for label in pllm.labels()] == [plain(label) for label in before]


def test_a_name_that_no_label_has_is_named(frame: pd.DataFrame, tmp_path: Path) -> None:
    label_cells(["text"], ["a"], {"mood": "good"}, LabelNote("me"))
    kept = tmp_path / "labels.csv"
    pllm.labels.export(kept)
    before = kept.read_bytes()
    there = "There are labels of 'mood' by 'me'."

    assert repr(pllm.labels("mod")) == f"There are no labels of the field 'mod'. Did you mean 'mood'? {there}"
    assert repr(pllm.labels("mood", by="you")) == f"There are no labels of the field 'mood' by 'you'. {there}"
    with pytest.raises(UsageError, match=r"of the field 'mod'\. .*Nothing was written\.$"):
        pllm.labels.export(kept, field="mod")
    with pytest.warns(UserWarning, match=rf"no labels by 'you'\. {there} Nothing was deleted\.$"):
        assert pllm.labels.remove(pllm.labels(by="you")) == 0
    with pytest.raises(UsageError, match=r"by= is text"):
        pllm.labels(by=5)  # type: ignore[arg-type]
    assert kept.read_bytes() == before
    assert len(pllm.labels()) == 1


def test_an_export_that_fails_leaves_the_older_file(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_cells(["text"], ["a"], {"mood": "good"}, LabelNote("me"))
    kept = tmp_path / "labels.csv"
    pllm.labels.export(kept)
    before = kept.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left on device"):
        pllm.labels.export(kept)

    assert kept.read_bytes() == before
    assert [path.name for path in tmp_path.glob("*labels*")] == ["labels.csv"]  # and no half of it


def test_what_is_unclear_is_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    out = frame.llm.parse(Review, "A {text}")

    with pytest.raises(UsageError, match="several fields, and none is named 'gold'"):
        out.llm.label("gold")
    with pytest.raises(UsageError, match=r"no field 'moods'.*Did you mean 'mood'"):
        out.llm.label("gold", field="moods")
    with pytest.raises(UsageError, match="pass columns= with those that a prompt uses"):
        pd.DataFrame({"x": [1], "y": [2], "gold": ["good"]}).llm.label("gold")
    with pytest.raises(PllmError, match="No known run"):
        pd.DataFrame({"x": [1]}).llm.label()
    with pytest.raises(UsageError, match="a probability above 0"):
        out.llm.label("gold", field="mood", pi=0)
    with pytest.raises(UsageError, match="has no label of a row and field of this frame"):
        out.llm.evaluate(against="labels")
    with pytest.raises(UsageError, match=r"\.parquet or \.csv"):
        pllm.labels.export(tmp_path / "labels.xlsx")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="holds no labels"):
        pllm.labels.import_(tmp_path / "other.csv")
    with pytest.raises(FileError, match=r"^There is no file 'absent.csv'"):
        pllm.labels.import_(tmp_path / "absent.csv")
    assert len(pllm.labels()) == 0


def test_labels_that_the_type_does_not_have_are_no_labels(frame: pd.DataFrame) -> None:
    out = frame.llm.parse(Review, "A {text}")

    with pytest.raises(UsageError, match="Did you mean 'good' for 'Good'"):
        out.assign(gold="Good").llm.label("gold", field="mood")
    assert len(pllm.labels()) == 0
    with pytest.warns(UserWarning, match="1 of 4 labels in 'gold' are not values of 'mood'"):
        out.assign(gold=["good", "bad", "Good", "good"]).llm.label("gold", field="mood")


def test_unlike_labels_of_equal_rows_are_reported(frame: pd.DataFrame) -> None:
    out = frame.llm.parse(Review, "A {text}")

    with pytest.warns(UserWarning, match="1 label of rows whose .'text'. are equal, and whose values are not"):
        assert out.assign(gold=["good", "bad", None, "bad"]).llm.label("gold", field="mood") == 2
    assert labels_of(out) == ["good", "bad", None, "good"]


def test_a_damaged_file_of_labels_is_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "labels.parquet").write_text("junk")

    with pytest.raises(UsageError, match="Nothing was stored"):
        pllm.labels.import_(tmp_path / "labels.parquet")


def test_a_column_named_labels_is_that_column(frame: pd.DataFrame) -> None:
    out = frame.rename(columns={"gold": "labels"}).llm.parse(Review, "A {text}")

    assert out.llm.evaluate(against="labels", field="mood").answered == 3


def test_a_killed_process_loses_no_label_that_was_stored(tmp_path: Path) -> None:
    program = f"""
        import sys
        from pllm_notebook.store import Label, LabelFile

        file = LabelFile({str(tmp_path)!r})
        for n in range(10**9):
            file.add([Label(("text",), n, "mood", "good", "me", 0.0)])
            print(n, flush=True)
    """
    process = Forked(["-c", textwrap.dedent(program)], os.environ)
    stored = [int(process.stdout.readline()) for _ in range(20)]
    process.kill()
    stored += [int(line) for line in process.stdout if line.endswith(b"\n")]
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()

    kept = [label.content for label in LabelFile(str(tmp_path)).current()]

    assert kept[: len(stored)] == stored
    assert len(kept) <= len(stored) + 1


def test_two_processes_label_at_once(tmp_path: Path) -> None:
    program = f"""
        import sys
        from pllm_notebook.store import Label, LabelFile

        for n in range(20):
            LabelFile({str(tmp_path)!r}).add([Label(("text",), n, "mood", "good", sys.argv[1], 0.0)])
    """
    both = [Forked(["-c", textwrap.dedent(program), name], os.environ, piped=False) for name in ("me", "you")]

    assert [process.wait() for process in both] == [0, 0]
    assert len(LabelFile(str(tmp_path)).current()) == 40


def test_a_damaged_file_is_left_alone_and_reported(tmp_path: Path) -> None:
    file = LabelFile(str(tmp_path))
    file.add([Label(("text",), 2**64 - 1, "mood", "good", "me", time.time())])
    assert file.current()[0].content == 2**64 - 1
    Path(file.path).write_bytes(b"not a database, and long enough to be taken for one" * 100)

    with pytest.raises(StoreError, match="could not be read or written"):
        file.current()
    with pytest.raises(StoreError, match="could not be read or written"):
        file.add([Label(("text",), 1, "mood", "good", "me", 0.0)])
    assert Path(file.path).read_bytes().startswith(b"not a database")


def test_a_later_versions_file_is_refused(tmp_path: Path) -> None:
    file = LabelFile(str(tmp_path))
    file.add([Label(("text",), 1, "mood", "good", "me", 0.0)])
    with closing(sqlite3.connect(file.path)) as connection, connection:
        connection.execute("PRAGMA user_version = 9")

    with pytest.raises(StoreError, match="later version"):
        file.current()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("stars", 9, "maximum 5"), ("stars", "many", "a whole number"), ("mood", "goood", "is one of"),
     ("said", 5, "is text")],
)  # fmt: skip
def test_a_corrected_cell_that_is_no_answer_is_no_label(cache_dir: Path, column: str, value: Any, message: str) -> None:
    class Bounded(BaseModel):
        """A review."""

        mood: Literal["good", "bad"]
        stars: int = Field(ge=1, le=5)
        said: str

    answer = {"mood": "good", "stars": 3, "said": "x"}
    pllm.configure(sim={"answers": lambda request: answer}, model="sim:openai")
    out = pd.DataFrame({"text": ["a", "b"]}).llm.parse(Bounded, "A {text}")
    out[column] = out[column].astype(object)
    out.loc[1, column] = value

    with pytest.raises(UsageError, match=f"Row 1 was corrected to what is no answer.*{message}.*Nothing was stored"):
        out.llm.label()
    assert len(pllm.labels()) == 0


@pytest.mark.parametrize("given", [None, "me", [1]])
def test_what_is_no_label_is_not_removed(cache_dir: Path, given: Any) -> None:
    with pytest.raises(UsageError, match=r"^pllm\.labels\.remove takes labels, .* Nothing was deleted\.$"):
        pllm.labels.remove(given)
