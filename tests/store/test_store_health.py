"""Harm done to the files: what is opened then, what is kept, and what a person is told."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from store_cases import entry, execute, fill, held_by, key, of_a_later_format, parts

from pllm_notebook.store import DiskStore, NewerEntry
from pllm_notebook.store.codec import pack
from pllm_notebook.stored_reply import StoredReply

ROWS = range(1000)


def filled(path: Path) -> None:
    store = DiskStore(str(path))
    fill(store, ROWS)
    store.close()


def set_aside(path: Path) -> list[str]:
    return sorted(
        file.name
        for file in (path / "answers").iterdir()
        if ".damaged-" in file.name and not file.name.endswith("-wal")
    )


def salvaged(path: Path) -> set[int]:
    store = DiskStore(str(path))
    there = held_by(store, ROWS)
    fill(store, [5000])
    assert held_by(store, [5000]) == {5000}
    assert store.check()[1:] == (0, "")
    store.close()
    return there


def test_a_database_cut_to_nothing_is_not_an_empty_cache(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(path)
    os.truncate(path / "answers/cache.db", 0)

    assert salvaged(path) == set()
    assert len(set_aside(path)) == 1
    assert len(caplog.records) == 1
    assert "was cut to 0 bytes. It was set aside as cache.db.damaged-" in caplog.text


def test_a_database_that_is_gone_is_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(path)
    (path / "answers/cache.db").unlink()

    assert salvaged(path) == set()
    assert [record.getMessage().partition(": ")[0] for record in caplog.records] == [f"The cache in {path} is gone"]


def test_a_damaged_head_costs_no_row(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(path)
    with (path / "answers/cache.db").open("r+b") as file:
        file.write(random.Random(1).randbytes(100))

    assert salvaged(path) == set(ROWS)
    assert "file is not a database" in caplog.text
    assert "1000 answers were salvaged" in caplog.text


def test_a_first_page_of_garbage_costs_no_row(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(path)
    with (path / "answers/cache.db").open("r+b") as file:
        file.write(random.Random(1).randbytes(4096))

    assert salvaged(path) == set(ROWS)
    assert len(set_aside(path)) == len(caplog.records) == 1
    assert "1000 answers were salvaged" in caplog.text


def test_half_a_database_gives_its_half(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(path)
    os.truncate(path / "answers/cache.db", (path / "answers/cache.db").stat().st_size // 2 // 4096 * 4096)

    there = salvaged(path)

    assert len(there) > len(ROWS) // 3
    assert f"{len(there)} answers were salvaged" in caplog.text


@pytest.mark.parametrize("seed", range(4))
def test_damaged_pages_cost_no_more_than_what_they_held(path: Path, seed: int) -> None:
    filled(path)
    pages = (path / "answers/cache.db").stat().st_size // 4096
    chance = random.Random(seed)
    with (path / "answers/cache.db").open("r+b") as file:
        for page in chance.sample(range(pages // 4, pages), 3):
            file.seek(page * 4096)
            file.write(chance.randbytes(4096))

    store = DiskStore(str(path))
    there = held_by(store, ROWS)
    fill(store, set(ROWS) - there)

    assert len(there) > len(ROWS) * 0.6
    assert held_by(store, ROWS) == set(ROWS)
    store.close()


def test_a_pointer_to_a_neighbours_rows_costs_no_row(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(path)
    root = int(str(execute(path, "SELECT rootpage FROM sqlite_master WHERE name = 'Cache'")[0][0]))
    with (path / "answers/cache.db").open("r+b") as file:
        file.seek((root - 1) * 4096)
        page = file.read(4096)
        assert page[0] == 5  # a page of the tree's inside
        cells = [int.from_bytes(page[at : at + 2], "big") for at in (12, 14)]
        file.seek((root - 1) * 4096 + cells[0])
        file.write(page[cells[1] : cells[1] + 4])

    assert salvaged(path) == set(ROWS)
    assert len(caplog.records) == 1
    assert "1000 answers were salvaged" in caplog.text


def test_a_setting_without_a_name_is_taken_out(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(path)
    reshape(path, "key TEXT NOT NULL", "key TEXT")
    execute(path, "INSERT INTO Settings VALUES (NULL, 'x')")
    reshape(path, "key TEXT", "key TEXT NOT NULL")

    assert salvaged(path) == set(ROWS)
    assert caplog.records == []


def reshape(path: Path, old: str, new: str) -> None:
    """Change what the table of settings says of itself, and nothing else."""
    with closing(sqlite3.connect(path / "answers/cache.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(f"UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}') WHERE name = 'Settings'")


def test_damage_met_while_open_is_mended_while_open(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(path)
    store = DiskStore(str(path))
    root = execute(path, "SELECT rootpage FROM sqlite_master WHERE name = 'Cache_key_raw'")[0][0]
    with (path / "answers/cache.db").open("r+b") as file:
        file.seek((int(str(root)) - 1) * 4096)
        file.write(b"\xff" * 4096)

    there = held_by(store, ROWS)

    assert there == set(ROWS)  # the index was hit, and no row
    assert "is damaged (database disk image is malformed)" in caplog.text
    fill(store, [5000])
    assert held_by(store, [5000]) == {5000}
    store.close()


def test_a_file_cut_to_nothing_while_open_is_not_written_into(store: DiskStore, path: Path) -> None:
    fill(store, range(10))
    store.checkpoint()
    os.truncate(path / "answers/cache.db", 0)

    fill(store, range(10, 20))

    assert held_by(store, range(10, 20)) == set(range(10, 20))


def test_one_changed_byte_costs_one_row(store: DiskStore, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(store, range(5))
    value = bytearray(pack(entry(3)))
    value[40] ^= 1
    execute(path, "UPDATE Cache SET value = ? WHERE key = ?", bytes(value), key(3))

    assert held_by(store, range(5)) == {0, 1, 2, 4}
    assert store.damaged == 1
    assert "An entry's checksum does not match" in caplog.text
    fill(store, [3])
    assert held_by(store, range(5)) == set(range(5))


def test_another_database_in_its_place_is_set_aside_and_its_answers_are_used(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(path)
    other = DiskStore(str(tmp_path / "other"))
    fill(other, range(3000, 3010))
    other.close()
    shutil.copy(tmp_path / "other" / "answers/cache.db", path / "answers/cache.db")

    store = DiskStore(str(path))

    assert held_by(store, range(3000, 3010)) == set(range(3000, 3010))
    assert "was replaced by another cache" in caplog.text
    assert len(set_aside(path)) == 1
    store.close()


def test_a_missing_wal_is_told_with_the_number_of_lost_changes(
    store: DiskStore, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(store, range(10))
    store.checkpoint()
    fill(store, range(10, 17))
    copy = tmp_path / "copy"
    (copy / "answers").mkdir(parents=True)
    for name in ("answers/cache.db", "cache.id"):
        shutil.copy(path / name, copy / name)

    found = DiskStore(str(copy))

    assert held_by(found, range(17)) == set(range(10))
    assert f"The cache in {copy} lacks its last 7 changes: its -wal file was removed" in caplog.text
    found.close()
    caplog.clear()
    DiskStore(str(copy)).close()
    assert not caplog.records


def test_a_copy_with_its_wal_is_whole(store: DiskStore, path: Path, tmp_path: Path) -> None:
    fill(store, range(17))
    shutil.copytree(path, tmp_path / "copy")

    copy = DiskStore(str(tmp_path / "copy"))

    assert held_by(copy, range(17)) == set(range(17))
    copy.close()


def test_a_lost_sidecar_is_written_again(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(path)
    before = (path / "cache.id").read_text()
    (path / "cache.id").unlink()

    DiskStore(str(path)).close()

    assert (path / "cache.id").read_text() == before
    assert not caplog.records


def test_a_crash_between_setting_aside_and_salvage_is_made_good(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(path)
    os.rename(path / "answers/cache.db", path / "answers/cache.db.salvaging-20260101T000000")

    assert salvaged(path) == set(ROWS)
    assert set_aside(path) == ["cache.db.damaged-20260101T000000"]


def test_salvage_keeps_an_entry_of_a_later_version(path: Path) -> None:
    filled(path)
    execute(path, "UPDATE Cache SET value = ? WHERE key = ?", of_a_later_format(pack(entry(1))), key(1))
    with (path / "answers/cache.db").open("r+b") as file:
        file.write(bytes(100))

    store = DiskStore(str(path))

    with pytest.raises(NewerEntry):
        store.get_many([key(1)])
    store.close()


def test_two_stores_of_one_process_meet_one_damage(path: Path) -> None:
    filled(path)
    first, second = DiskStore(str(path)), DiskStore(str(path))
    root = execute(path, "SELECT rootpage FROM sqlite_master WHERE name = 'Cache_key_raw'")[0][0]
    with (path / "answers/cache.db").open("r+b") as file:
        file.seek((int(str(root)) - 1) * 4096)
        file.write(b"\xff" * 4096)

    assert held_by(first, ROWS) == set(ROWS)
    fill(second, [5000])

    assert held_by(second, ROWS) == set(ROWS)
    assert held_by(first, [5000]) == {5000}
    assert len(set_aside(path)) == 1
    first.close()
    second.close()


def test_an_entry_that_leads_to_anothers_pages_costs_that_entry_alone(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = DiskStore(str(path))
    long = [entry(number, raw=random.Random(number).randbytes(20_000)) for number in range(2)]
    put_all(store, long)
    store.close()
    data = (path / "answers/cache.db").read_bytes()
    pages = [
        [at for at in range(0, len(data), 4096) if 0 < one.raw.find(data[at + 4 : at + 64]) < len(one.raw) - 60]
        for one in long
    ]
    with (path / "answers/cache.db").open("r+b") as file:
        file.seek(pages[0][0])
        file.write((pages[1][1] // 4096 + 1).to_bytes(4, "big"))

    store = DiskStore(str(path))
    there = store.get_many([key(0), key(1)])
    put_all(store, long)
    after = store.get_many([key(0), key(1)])
    checked = store.check()
    store.close()

    assert list(there) == [key(1)]
    assert [parts(after[key(number)]) for number in range(2)] == [parts(one) for one in long]
    assert checked[1:] == (0, "")
    assert len(caplog.records) == 1
    assert "is damaged (its pages are mixed up)" in caplog.text


def put_all(store: DiskStore, entries: list[StoredReply]) -> None:
    for number, one in enumerate(entries):
        store.put(key(number), one, lambda _: None)
    store.flush()
