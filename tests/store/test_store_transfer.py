"""Export and import."""

from __future__ import annotations

import gzip
import os
import pickle
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from store_cases import entry, fill, key, parts

from pllm_notebook.exceptions import StoreError, UsageError
from pllm_notebook.store import DiskStore, MemoryStore, export, import_
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish


@pytest.fixture
def exported(store: DiskStore, tmp_path: Path) -> Path:
    fill(store, range(20))
    path = tmp_path / "answers.jsonl.gz"
    assert export(store, path) == 20
    return path


def test_what_was_exported_is_imported_to_the_byte(store: DiskStore, tmp_path: Path) -> None:
    odd = StoredReply(Finish.TRUNCATED, "\ud800".encode("utf-8", "surrogatepass"), 7, 8, b"{}", os.urandom(5000))
    store.put(key(0), odd, lambda error: None)
    fill(store, range(1, 10))
    export(store, tmp_path / "out")
    other = MemoryStore()

    assert import_(other, tmp_path / "out") == 10
    assert parts(other.entries[key(0)]) == parts(odd)
    assert list(other.entries) == [key(number) for number in range(10)]


def test_importing_again_adds_nothing_and_replaces_nothing(exported: Path, tmp_path: Path) -> None:
    other = DiskStore(str(tmp_path / "other"))
    other.put(key(3), entry(1000), lambda error: None)
    other.flush()

    assert import_(other, exported) == 19
    assert import_(other, exported) == 0
    assert parts(other.get_many([key(3)])[key(3)]) == parts(entry(1000))
    other.close()


def test_a_file_that_is_there_is_not_written_over_unasked(store: DiskStore, exported: Path) -> None:
    before = exported.read_bytes()

    with pytest.raises(UsageError, match=r"exists\. Give another name, or overwrite=True\. Nothing was written\."):
        export(store, exported)

    assert exported.read_bytes() == before
    fill(store, [20])
    assert export(store, exported, overwrite=True) == 21
    assert not [file for file in exported.parent.iterdir() if file.name.startswith(".pllm-export")]


def test_an_export_is_one_moment_of_a_store_in_use(store: DiskStore, tmp_path: Path) -> None:
    fill(store, range(500))
    stop = threading.Event()

    def write() -> None:
        number = 500
        while not stop.is_set():
            fill(store, range(number, number + 10))
            number += 10

    thread = threading.Thread(target=write)
    thread.start()
    number = export(store, tmp_path / "out")
    stop.set()
    thread.join()

    other = MemoryStore()
    assert import_(other, tmp_path / "out") == number
    # Groups are whole and in order: nothing later than a missing one is there.
    assert set(other.entries) == {key(one) for one in range(number)}


def test_an_export_is_readable_by_its_owner_alone(exported: Path) -> None:
    assert exported.stat().st_mode & 0o777 == 0o600


def test_a_changed_entry_is_refused_and_those_before_it_are_kept(exported: Path) -> None:
    lines = gzip.decompress(exported.read_bytes()).splitlines(keepends=True)
    fields = orjson.loads(lines[6])
    fields["text"] = "another answer"
    lines[6] = orjson.dumps(fields) + b"\n"
    exported.write_bytes(gzip.compress(b"".join(lines)))
    other = MemoryStore()

    with pytest.raises(StoreError, match="the checksum of entry 6 does not match"):
        import_(other, exported)

    assert list(other.entries) == [key(number) for number in range(5)]


def test_a_file_cut_short_is_told(exported: Path) -> None:
    whole = exported.read_bytes()
    lines = gzip.decompress(whole).splitlines(keepends=True)

    for cut in (whole[: len(whole) // 2], gzip.compress(b"".join(lines[:-1])), gzip.compress(b"".join(lines)[:-3])):
        exported.write_bytes(cut)
        with pytest.raises(StoreError, match="damaged or cut short after entry"):
            import_(MemoryStore(), exported)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not gzip",
        pickle.dumps({"format": "pllm_notebook cache"}),
        gzip.compress(b"", mtime=0),
        gzip.compress(b"[1, 2]\n", mtime=0),
        gzip.compress(b"not json\n", mtime=0),
        gzip.compress(b'{"format": "another"}\n', mtime=0),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)

    with pytest.raises(StoreError, match="is not an export of pllm_notebook"):
        import_(MemoryStore(), tmp_path / "file")


def test_an_export_of_a_later_version_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(gzip.compress(b'{"format": "pllm_notebook cache", "version": 2}\n'))

    with pytest.raises(StoreError, match=r"is an export of version 2, and this pllm_notebook reads version 1"):
        import_(MemoryStore(), tmp_path / "file")


def test_an_entry_that_cannot_be_kept_ends_the_import(exported: Path) -> None:
    other = MemoryStore()
    other.fail_with = StoreError("full")

    with pytest.raises(StoreError, match="full"):
        import_(other, exported)


def test_a_group_that_cannot_be_kept_is_not_put_again(tmp_path: Path) -> None:
    class Counted(MemoryStore):
        def put(self, key: str, entry: StoredReply, done: Callable[[BaseException | None], None]) -> None:
            asked[key] += 1
            super().put(key, entry, done)

    asked: Counter[str] = Counter()
    export(MemoryStore({key(number): entry(number) for number in range(5_001)}), tmp_path / "out")
    other = Counted()
    other.fail_with = StoreError("full")

    with pytest.raises(StoreError, match="full"):
        import_(other, tmp_path / "out")

    assert asked == Counter(key(number) for number in range(5_000))
