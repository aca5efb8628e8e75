"""Labels go to other machines: in an export that asks for them, and through a shared directory."""

from __future__ import annotations

import gzip
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from store_cases import fill

import pllm_notebook as pllm
from pllm_notebook.store import DiskStore, Label, LabelFile, close_stores, export, import_
from pllm_notebook.store.label_file import label_from_json
from pllm_notebook.store.label_removals import LabelRemoval, removal_from_json, removal_to_json

LABEL = Label(("text",), 2**64 - 5, "mood", "good", "me", 1_000.0, "random", 0.5, "a note", "run", {"text": "cell"})


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[DiskStore, DiskStore]]:
    """Two machines."""
    made = DiskStore(str(tmp_path / "first")), DiskStore(str(tmp_path / "second"))
    yield made
    for store in made:
        store.close()


def known(store: DiskStore) -> list[Label]:
    return [replace(label, id=0) for label in LabelFile(store.directory).current()]


def labels(store: DiskStore) -> LabelFile:
    return LabelFile(store.directory)


def test_labels_go_with_an_export_where_they_are_asked_for(tmp_path: Path) -> None:
    pllm.configure(cache_dir=tmp_path / "first")
    fill(pllm.store.open_store(), range(3))
    LabelFile(pllm.cache.directory).add([LABEL])
    pllm.cache.export(tmp_path / "with.jsonl.gz", labels=True)
    pllm.cache.export(tmp_path / "without.jsonl.gz")
    pllm.configure(cache_dir=tmp_path / "second")

    assert pllm.cache.import_(tmp_path / "without.jsonl.gz") == 3
    assert len(pllm.labels()) == 0
    assert pllm.cache.import_(tmp_path / "with.jsonl.gz") == 0

    assert [replace(label, id=0) for label in pllm.labels()] == [LABEL]
    close_stores()


def test_an_earlier_version_reads_an_export_with_labels(stores: tuple[DiskStore, DiskStore], tmp_path: Path) -> None:
    """It stops at the line with the number of entries, which labels come after."""
    first, second = stores
    fill(first, range(3))
    export(first, tmp_path / "out", labels=[LABEL])
    with gzip.open(tmp_path / "out") as file:
        lines = [orjson.loads(line) for line in file]

    assert [next(iter(line)) for line in lines[-2:]] == ["entries", "label"]
    assert import_(second, tmp_path / "out") == 3


def test_what_can_be_no_label_is_left_out(stores: tuple[DiskStore, DiskStore], tmp_path: Path) -> None:
    first, second = stores
    export(first, tmp_path / "out", labels=[LABEL])
    with gzip.open(tmp_path / "out") as file:
        *lines, last = file.readlines()
    hostile = [orjson.loads(last)["label"] | change for change in (
        {"pi": 0}, {"pi": "1"}, {"content": -1}, {"at": "now"}, {"columns": 5}, {"by": None},
        {"row": [1]}, {"more": 1},
    )]  # fmt: skip
    with gzip.open(tmp_path / "out", "wb") as file:
        for line in [*lines, *(orjson.dumps({"label": one}) + b"\n" for one in hostile), b"[1]\n", b"{\n", last]:
            file.write(line)

    found: list[Label] = []
    import_(second, tmp_path / "out", found)

    assert found == [LABEL]


def test_a_label_from_elsewhere_does_not_replace_what_was_said_since(stores: tuple[DiskStore, DiskStore]) -> None:
    first, _ = stores
    labels(first).add([replace(LABEL, value="bad", at=2_000.0)])

    assert labels(first).merge([LABEL, replace(LABEL, by="you"), replace(LABEL, value="mixed", at=3_000.0)]) == 2

    assert [(label.by, label.value) for label in known(first)] == [("you", "good"), ("me", "mixed")]


def test_labels_are_shared_once_and_not_shipped_back(stores: tuple[DiskStore, DiskStore], tmp_path: Path) -> None:
    first, second = stores
    before = replace(LABEL, content=1)
    labels(first).add([before])
    for store in stores:
        store.share_with(str(tmp_path / "common"))
    labels(first).add([LABEL])

    for _ in range(2):
        for store in stores:
            assert store.share is not None
            store.share.take_in(at_once=True)

    assert known(second) == [LABEL]  # and not what was labelled before it was shared
    assert len(list((tmp_path / "common").glob("lab-*.jsonl.gz"))) == 1
    labels(second).add([replace(LABEL, by="you", at=time.time())])
    for store in (second, first):
        assert store.share is not None
        store.share.take_in(at_once=True)
    assert [label.by for label in known(first)] == ["me", "me", "you"]


def test_the_end_of_a_process_ships_its_last_labels(stores: tuple[DiskStore, DiskStore], tmp_path: Path) -> None:
    first, second = stores
    first.share_with(str(tmp_path / "common"))
    first.take_in_shared()
    labels(first).add([LABEL])

    first.close()
    second.share_with(str(tmp_path / "common"))
    second.take_in_shared()

    assert known(second) == [LABEL]


def take_in(*stores: DiskStore) -> None:
    for store in stores:
        assert store.share is not None
        store.share.take_in(at_once=True)


def test_a_label_that_is_taken_back_is_taken_back_on_every_machine(
    stores: tuple[DiskStore, DiskStore], tmp_path: Path
) -> None:
    first, second = stores
    for store in stores:
        store.share_with(str(tmp_path / "common"))
    labels(first).add([LABEL])
    take_in(first, second)
    (newest,) = labels(first).add([replace(LABEL, value="bad", at=2_000.0)])
    take_in(first, second)
    assert [label.value for label in known(second)] == ["bad"]

    labels(first).remove([newest])
    take_in(first, second, first)

    assert known(first) == known(second) == [LABEL]  # what the same person said before counts again
    assert len(list((tmp_path / "common").glob("lab-*.jsonl.gz"))) == 3  # nothing is shipped back


def test_what_is_said_after_an_undo_is_shared_too(stores: tuple[DiskStore, DiskStore], tmp_path: Path) -> None:
    first, second = stores
    for store in stores:
        store.share_with(str(tmp_path / "common"))
    (undone,) = labels(first).add([LABEL])
    take_in(first, second)

    labels(first).remove([undone])
    (again,) = labels(first).add([replace(LABEL, value="mixed", at=3_000.0)])
    take_in(first, second)

    assert again > undone  # its number is not that of the label that was undone
    assert [label.value for label in known(second)] == ["mixed"]


def test_a_removal_may_come_before_its_label_and_a_person_may_bring_it_back(
    stores: tuple[DiskStore, DiskStore], tmp_path: Path
) -> None:
    first, second = stores
    (number,) = labels(first).add([LABEL])
    labels(first).remove([number])
    (removal,) = labels(first).removals()

    assert labels(second).take_in([], [removal, removal]) == (0, 1)
    assert labels(second).take_in([LABEL], [removal]) == (0, 0)
    assert known(second) == []
    assert labels(first).merge([LABEL]) == 1  # an import, and not a look at the shared directory

    (back,) = known(first)
    assert (back.value, back.place) == (LABEL.value, LABEL.place)
    assert back.at > LABEL.at


def test_what_can_be_no_removal_is_left_out() -> None:
    written = removal_to_json(LabelRemoval(("text",), 5, "mood", "me", 1_000.0))

    assert removal_from_json(written) == LabelRemoval(("text",), 5, "mood", "me", 1_000.0)
    assert label_from_json(written) is None  # for an earlier version it is no label
    for change in ({"content": -1}, {"at": "now"}, {"columns": 5}, {"by": None}, {"removed": 1}):
        assert removal_from_json(written | change) is None
    assert removal_from_json([1]) is None


def test_labels_of_an_earlier_version_are_taken_back_too(tmp_path: Path) -> None:
    """Its file has no table of removals."""
    file = LabelFile(str(tmp_path))
    (number,) = file.add([LABEL])
    with closing(sqlite3.connect(file.path)) as connection:
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'removals'").fetchall()

    assert file.remove([number, 99]) == 1

    assert [one.place for one in file.removals()] == [LABEL.place]
    assert (file.current(), file.newest()) == ([], number)
