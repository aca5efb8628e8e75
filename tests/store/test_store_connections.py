"""A connection that is no longer used is closed at once, also where damage was found: none waits for the collector."""

from __future__ import annotations

import ast
import gc
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pllm_notebook.batch import JournalDamagedError
from pllm_notebook.batch.journal_database import JournalDatabase
from pllm_notebook.exceptions import StoreError
from pllm_notebook.store import DiskStore
from pllm_notebook.store.database import Database
from pllm_notebook.store.live_database import LiveDatabase
from pllm_notebook.store.read_only_database import ReadOnlyDatabase
from tests.store.store_cases import fill, key
from tests.structure.parsed import files

DATABASE = "answers/cache.db"
KEYS = [key(number) for number in range(100)]


@pytest.fixture
def open_files(tmp_path: Path) -> Iterator[Callable[[], list[str]]]:
    """The files below the test's directory that this process has open, while nothing is collected."""

    def found() -> list[str]:
        links = []
        for number in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{number}"))
            except OSError:  # the directory that was listed
                continue
        return sorted(link for link in links if link.startswith(f"{tmp_path}/"))

    gc.collect()  # what earlier tests left is theirs
    gc.freeze()  # the next collection looks at nothing else, and is fast
    gc.disable()
    yield found
    gc.enable()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache of a hundred answers, closed."""
    directory = tmp_path / "cache"
    store = DiskStore(str(directory))
    fill(store, range(100))
    store.close()
    return directory


def overwrite(path: Path, start: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * length)


def overwrite_the_head(cache: Path) -> None:
    overwrite(cache / DATABASE, 0, 100)


def overwrite_every_page_but_the_first(cache: Path) -> None:
    path = cache / DATABASE
    overwrite(path, 4096, path.stat().st_size - 4096)


def break_a_trigger(cache: Path) -> None:
    with closing(sqlite3.connect(cache / DATABASE)) as connection, connection:
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, 'value + 1', '+ + +') WHERE type = 'trigger'")


@pytest.mark.parametrize("harm", [overwrite_the_head, overwrite_every_page_but_the_first, break_a_trigger])
def test_a_store_that_was_mended_leaves_no_file_open(
    cache: Path, open_files: Callable[[], list[str]], harm: Callable[[Path], None]
) -> None:
    harm(cache)

    store = DiskStore(str(cache))
    store.get_many(KEYS)
    store.close()

    assert list(cache.glob(f"{DATABASE}.damaged-*"))
    assert open_files() == []


def test_a_database_that_was_damaged_under_a_store_is_closed_when_it_is_replaced(
    cache: Path, open_files: Callable[[], list[str]]
) -> None:
    store = DiskStore(str(cache))
    overwrite_every_page_but_the_first(cache)

    store.get_many(KEYS)

    (aside,) = cache.glob(f"{DATABASE}.damaged-*")
    assert str(aside) not in open_files()
    store.close()


def test_a_database_that_was_deleted_under_a_store_is_closed_when_it_is_replaced(
    cache: Path, open_files: Callable[[], list[str]]
) -> None:
    store = DiskStore(str(cache))
    (cache / DATABASE).unlink()

    store.get_many(KEYS)

    assert f"{cache / DATABASE} (deleted)" not in open_files()
    store.close()


def test_every_connection_is_closed_by_its_block_or_by_itself() -> None:
    # Any other warns from Python 3.13 on when it is collected: in whatever code runs then, which may make it an error.
    opened, safe = [], []
    for name, tree in files().items():
        for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
            if ast.unparse(call.func) == "closing":
                safe += [each for each in call.args if ast.unparse(each).startswith("sqlite3.connect(")]
            elif ast.unparse(call.func) == "sqlite3.connect":
                opened.append((name, call))
                if any(
                    each.arg == "factory" and ast.unparse(each.value) == "SelfClosingConnection"
                    for each in call.keywords
                ):
                    safe.append(call)

    assert len(opened) > 8
    assert [f"{name}:{call.lineno}" for name, call in opened if call not in safe] == []


def test_what_cannot_be_opened_leaves_no_file_open(tmp_path: Path, open_files: Callable[[], list[str]]) -> None:
    (tmp_path / "answers").mkdir(mode=0o700)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection, connection:
        connection.execute("CREATE TABLE other (id INTEGER)")
    (tmp_path / "jobs.db").write_bytes(b"\xff" * 4096)

    with pytest.raises(StoreError, match="belongs to something else") as refused:
        LiveDatabase(str(tmp_path), 1.0)
    with pytest.raises(JournalDamagedError) as damaged:
        JournalDatabase(str(tmp_path))

    assert open_files() == []
    del refused, damaged


@pytest.mark.parametrize(
    "opened", [lambda cache: Database(cache, 1.0), ReadOnlyDatabase], ids=["writable", "read-only"]
)
def test_a_database_in_a_cycle_is_closed_in_silence_when_it_is_collected(
    cache: Path, open_files: Callable[[], list[str]], opened: Callable[[str], Database | ReadOnlyDatabase]
) -> None:
    ring: list[object] = [opened(str(cache))]
    ring.append(ring)
    assert f"{cache / DATABASE}" in open_files()

    del ring
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()

    assert open_files() == []
