"""Rows, settings and tables that this package did not write."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path

import diskcache
import pytest
from store_cases import entry, execute, fill, held_by, key, of_a_later_format

from pllm_notebook.exceptions import StoreError, UnsafeEntryError
from pllm_notebook.store import DiskStore, NewerEntry
from pllm_notebook.store.codec import pack
from pllm_notebook.store.diskcache_adapter import SETTINGS, BytesDisk


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.proof,)


def test_a_forged_pickle_is_neither_run_nor_read(
    store: DiskStore, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(store, range(3))
    proof = tmp_path / "ran"
    payload = pickle.dumps(Payload(proof))
    execute(path, "UPDATE Cache SET mode = 4, value = ? WHERE key = ?", payload, key(1))
    execute(path, "UPDATE Cache SET raw = 0, key = ? WHERE key = ?", payload, key(2))

    there = held_by(store, range(3))
    listed = [name for name, _ in store.iterate()]
    whole, unusable, _ = store.check()

    assert there == {0}
    assert listed == [key(0)]
    assert (whole, unusable) == (1, 2)
    assert not proof.exists()
    assert "1 entries of the cache" in caplog.text
    # The payload is live: diskcache itself runs it, and so does the JSONDisk that is often advised.
    with diskcache.Cache(path, disk=diskcache.JSONDisk) as usual, pytest.raises(Exception):  # noqa: B017, PT011
        usual._disk.fetch(4, None, payload, False)
    assert proof.exists()


def test_a_forged_file_name_is_neither_read_nor_deleted(store: DiskStore, path: Path, tmp_path: Path) -> None:
    fill(store, range(2))
    victim = tmp_path / "victim"
    victim.write_bytes(pack(entry(0)))
    for number in range(2):
        execute(path, "UPDATE Cache SET filename = '../victim', value = NULL WHERE key = ?", key(number))

    assert held_by(store, range(2)) == set()
    fill(store, [0])
    store.delete([key(1)])

    assert held_by(store, range(2)) == {0}
    assert victim.read_bytes() == pack(entry(0))


@pytest.mark.parametrize("forgery", ["mode = 4", "mode = 2", "filename = 'f'", "value = CAST(value AS TEXT)"])
def test_a_row_of_another_form_is_not_read_though_its_bytes_are_whole(
    store: DiskStore, path: Path, forgery: str
) -> None:
    fill(store, range(2))
    execute(path, f"UPDATE Cache SET {forgery} WHERE key = ?", key(0))

    assert held_by(store, range(2)) == {1}
    assert [name for name, _ in store.iterate()] == [key(1)]
    assert store.check() == (1, 1, "")


def test_the_disk_takes_text_and_bytes_alone(tmp_path: Path) -> None:
    disk = BytesDisk(str(tmp_path))

    for bad in (b"k", 1, ("k",)):
        with pytest.raises(TypeError):
            disk.put(bad)
    for bad in ("v", 1, None):
        with pytest.raises(TypeError):
            disk.store(bad, False)
    for mode, name, value in ((4, None, b"v"), (2, "f", None), (3, None, "v"), (1, "f", b"v"), (1, None, "v")):
        with pytest.raises(UnsafeEntryError):
            disk.fetch(mode, name, value, False)
    with pytest.raises(UnsafeEntryError):
        disk.get(b"k", True)
    with pytest.raises(UnsafeEntryError):
        disk.filename()


@pytest.mark.parametrize("times", [1, 2], ids=["new", "replaced"])
def test_a_group_is_written_as_diskcache_itself_writes_it(tmp_path: Path, times: int) -> None:
    numbers, every = range(5), "SELECT rowid, key, raw, expire_time, access_count, tag, size, mode, filename, value"
    ours = DiskStore(str(tmp_path / "ours"))
    theirs = diskcache.Cache(tmp_path / "theirs/answers", disk=BytesDisk)

    for _ in range(times):
        fill(ours, numbers)
        for number in numbers:
            theirs.set(key(number), pack(entry(number)))
    ours.close()
    theirs.close()

    rows = [execute(tmp_path / name, f"{every} FROM Cache ORDER BY rowid") for name in ("ours", "theirs")]
    totals = "SELECT key, value FROM Settings WHERE key IN ('count', 'size') ORDER BY key"
    assert rows[0] == rows[1]
    assert execute(tmp_path / "ours", totals) == execute(tmp_path / "theirs", totals) == [("count", 5), ("size", 0)]
    assert execute(tmp_path / "ours", "SELECT count(*) FROM Cache WHERE store_time = access_time") == [(5,)]
    with diskcache.Cache(tmp_path / "ours/answers") as plain:
        assert plain[key(3)] == pack(entry(3))


def test_a_key_that_comes_twice_in_a_group_has_the_later_entry(store: DiskStore) -> None:
    done: list[BaseException | None] = []

    for number in (1, 2):
        store.put(key(0), entry(number), done.append)
    store.flush()

    assert done == [None, None]
    assert store.get_many([key(0)])[key(0)].text == entry(2).text


def test_nobody_else_can_read_what_is_kept(path: Path) -> None:
    before = os.umask(0)
    try:
        store = DiskStore(str(path))
        fill(store, range(3))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.rglob("*") if file.is_file()}
        store.close()
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((path / "answers").stat().st_mode) == 0o700
    assert set(modes.values()) == {0o600}
    assert {"cache.db", "cache.db-wal", "cache.id"} <= modes.keys()


def test_a_database_that_others_could_read_is_closed_to_them(store: DiskStore, path: Path) -> None:
    store.close()
    (path / "answers/cache.db").chmod(0o644)

    DiskStore(str(path)).close()

    assert stat.S_IMODE((path / "answers/cache.db").stat().st_mode) == 0o600


def test_settings_that_another_program_left_are_set_back(store: DiskStore, path: Path) -> None:
    store.close()
    diskcache.Cache(path, cull_limit=10, size_limit=10, eviction_policy="least-recently-used", stranger="x").close()
    execute(path, "INSERT OR REPLACE INTO Settings VALUES ('sqlite_synchronous', 0)")
    execute(path, "INSERT OR REPLACE INTO Settings VALUES ('_disk', 'x')")

    DiskStore(str(path)).close()

    stored = dict(execute(path, "SELECT key, value FROM Settings"))
    assert {name: stored[name] for name in SETTINGS} == SETTINGS
    assert not {"stranger", "_disk"} & stored.keys()


def test_nothing_is_ever_evicted(store: DiskStore, path: Path) -> None:
    diskcache.Cache(path, disk=BytesDisk, cull_limit=10, size_limit=1, eviction_policy="least-recently-stored").close()

    fill(store, range(100))
    execute(path, "UPDATE Cache SET expire_time = 1")
    fill(store, range(100, 500))

    assert held_by(store, range(500)) == set(range(500))


def test_a_commit_is_synced_whatever_the_settings_say_by_then(store: DiskStore, path: Path) -> None:
    execute(path, "UPDATE Settings SET value = 0 WHERE key = 'sqlite_synchronous'")
    seen: list[object] = []

    store.put(
        key(0), entry(0), lambda error: seen.append(store._current.database.execute("PRAGMA synchronous").fetchone()[0])
    )
    store.flush()

    assert seen == [2]


def test_a_table_of_another_shape_is_refused(path: Path) -> None:
    DiskStore(str(path)).close()
    execute(path, "ALTER TABLE Cache ADD COLUMN checksum BLOB")

    with pytest.raises(StoreError, match=r"The table Cache in .* has columns .*'checksum'.*Install diskcache<6"):
        DiskStore(str(path))


def test_a_cache_of_somebody_else_is_refused_and_not_changed(path: Path) -> None:
    with diskcache.Cache(path) as other:
        other["theirs"] = 1
    before = (path / "cache.db").read_bytes()

    with pytest.raises(StoreError, match=r"is a cache that pllm_notebook did not write"):
        DiskStore(str(path))

    assert (path / "cache.db").read_bytes() == before


@pytest.mark.parametrize("statement", ["CREATE VIEW v AS SELECT 1", "CREATE TABLE t (x)"])
def test_a_database_with_more_in_it_is_refused(path: Path, statement: str) -> None:
    DiskStore(str(path)).close()
    execute(path, statement)

    with pytest.raises(StoreError, match="belongs to something else"):
        DiskStore(str(path))


def test_an_entry_of_a_later_version_stops_the_reading_and_is_kept(store: DiskStore, path: Path) -> None:
    fill(store, range(2))
    later = of_a_later_format(pack(entry(1)))
    execute(path, "UPDATE Cache SET value = ? WHERE key = ?", later, key(1))

    with pytest.raises(NewerEntry):
        store.get_many([key(0), key(1)])

    assert execute(path, "SELECT value FROM Cache WHERE key = ?", key(1)) == [(later,)]
