"""diskcache's tools know only its own folder, and a cache of an earlier version is moved there, whatever happens."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import diskcache
import pytest
from store_cases import fill, held_by

from pllm_notebook.batch import Journal
from pllm_notebook.batch.journal_database import JournalDatabase
from pllm_notebook.store import DiskStore, open_store
from pllm_notebook.store import location as places

ROWS = range(40)


@pytest.fixture
def old(path: Path) -> Path:
    """A cache as earlier versions left it, its last commits in the -wal file alone."""
    store = DiskStore(str(path))
    fill(store, range(30))
    store.checkpoint()
    fill(store, range(30, 40))
    copy = path.with_name("old")
    shutil.copytree(path, copy)
    store.close()
    for file in (copy / "answers").iterdir():
        os.rename(file, copy / file.name)
    (copy / "answers").rmdir()
    return copy


def answers(path: Path) -> set[int]:
    store = DiskStore(str(path))
    there = held_by(store, ROWS)
    store.close()
    return there


def test_a_cache_of_an_earlier_version_is_moved_at_its_first_opening(
    old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert answers(old) == set(ROWS)

    assert not list(old.glob("cache.db*"))
    assert (old / "answers/cache.db").is_file()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert answers(old) == set(ROWS)


class Killed(BaseException):
    """Ends the process at this step."""


@pytest.mark.parametrize("step", range(8))
def test_a_kill_at_any_step_of_the_move_loses_nothing(
    old: Path, step: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    left = [step]

    def killed(act: Callable[..., None]) -> Callable[..., None]:
        def stepped(*args: object, **named: object) -> None:
            # Of the move alone: what is done in the new place is tested with the mending of damage.
            if "cache.db" in str(args[0]) or str(args[0]).endswith("answers"):
                if not left[0]:
                    raise Killed
                left[0] -= 1
            act(*args, **named)

        return stepped

    with monkeypatch.context() as patch:
        for name in ("rename", "remove", "makedirs", "fsync"):
            patch.setattr(os, name, killed(getattr(os, name)))
        patch.setattr(
            "pllm_notebook.store.layout_migration._fold_in_wal", lambda path: None
        )  # so that there is a -wal to move
        try:
            DiskStore(str(old)).close()
        except Killed:
            killed_there = True
        else:
            killed_there = False
    assert killed_there == (step < 4)

    assert answers(old) == set(ROWS)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_two_that_open_at_once_move_it_once(old: Path) -> None:
    start = threading.Barrier(4)
    found: list[set[int]] = []

    def opening() -> None:
        start.wait()
        found.append(answers(old))

    threads = [threading.Thread(target=opening) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [set(ROWS)] * 4


def test_what_an_earlier_version_wrote_after_the_move_is_taken_in(old: Path, tmp_path: Path) -> None:
    shutil.copytree(old, tmp_path / "before")
    assert answers(old) == set(ROWS)
    for file in (tmp_path / "before").glob("cache.db*"):
        shutil.copy(file, old / file.name)
    with closing(sqlite3.connect(old / "answers/cache.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM Cache WHERE rowid <= 10")

    assert answers(old) == set(ROWS)
    assert not list(old.glob("cache.db*"))


def test_a_read_only_cache_of_an_earlier_version_is_read_where_it_is(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLLM_CACHE_DIR", str(tmp_path / "mine"))
    settled = places.choose_location(str(old), True, can_write=lambda directory: directory != str(old))
    assert settled.below == str(old)

    store = DiskStore(settled.directory, below=settled.below)

    assert held_by(store, ROWS) == set(ROWS)
    store.close()
    assert (old / "cache.db").is_file()


def test_an_empty_cache_that_diskcache_made_beside_ours_is_left_alone(path: Path) -> None:
    store = DiskStore(str(path))
    fill(store, ROWS)
    store.close()
    diskcache.Cache(str(path)).close()

    assert answers(path) == set(ROWS)
    assert (path / "cache.db").is_file()


@pytest.mark.filterwarnings("ignore:unknown file", "ignore:empty directory", "ignore:wrong file size")
def test_diskcaches_own_tools_touch_nothing_of_ours(path: Path) -> None:
    store = open_store(str(path))
    fill(store, ROWS)
    journal = Journal(JournalDatabase(str(path)))
    (path / "limits.json").write_text("{}")
    store.close()
    journal.close()
    before = {file for file in path.rglob("*") if file.is_file() and not file.name.endswith(("-wal", "-shm"))}

    with closing(diskcache.Cache(str(path / "answers"))) as theirs:
        theirs.check(fix=True)

    after = {file for file in path.rglob("*") if file.is_file() and not file.name.endswith(("-wal", "-shm"))}
    assert after == before
    assert {"jobs.db", "cache.db", "cache.id", "limits.json"} <= {file.name for file in after}
    assert answers(path) == set(ROWS)
    with closing(diskcache.Cache(str(path / "answers"))) as theirs:
        theirs.clear()
    assert answers(path) == set()
    assert path.joinpath("jobs.db").exists()
