"""Setting a damaged database aside and reading every row that can still be read. No answer is ever deleted."""

from __future__ import annotations

import glob
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from pllm_notebook.exceptions import UnsafeEntryError
from pllm_notebook.store.database import Database, connect_read_only, read_row
from pllm_notebook.store.envelope import NewerEntry
from pllm_notebook.store.layout import DATABASE

__all__ = ["Salvage", "salvage_into", "set_aside"]

_PARTS = ("", "-wal", "-shm")
_GROUP = 1000
_STEPS_OF_ONE = 100_000


@dataclass(slots=True)
class Salvage:
    """What came of reading a damaged database.

    Attributes:
        aside: Where the damaged file is now.
        kept: Rows whose checksum held, copied.
        refused: Rows that could be read and whose content is damaged or unsafe.
        gaps: Places where rows could not be read at all.
    """

    aside: str
    kept: int = 0
    refused: int = 0
    gaps: int = 0


def set_aside(directory: str, wall_clock: Callable[[], float] = time.time) -> None:
    """Rename the database, with its -wal and -shm, so that the name is free.

    It is called `cache.db.salvaging-<time>` until `salvage_into` has read it, so that a crash in
    between leaves it to the next opening.
    """
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(wall_clock()))
    name = unique = os.path.join(directory, f"{DATABASE}.salvaging-{stamp}")
    number = 1
    while os.path.exists(unique) or os.path.exists(_aside(unique)):
        number += 1
        unique = f"{name}-{number}"
    _rename(os.path.join(directory, DATABASE), unique)


def salvage_into(database: Database) -> list[Salvage]:
    """Copy what can be read of each database that was set aside, and rename it to `cache.db.damaged-<time>`."""
    results = []
    for path in sorted(glob.glob(os.path.join(glob.escape(database.directory), f"{DATABASE}.salvaging-*"))):
        if path.endswith(_PARTS[1:]):
            continue
        result = Salvage(_aside(path))
        rows: list[tuple[str, bytes]] = []
        for key, value in _rows(path, result):
            rows.append((key, value))
            if len(rows) >= _GROUP:
                database.write(rows)
                rows = []
        if rows:
            database.write(rows)
        _drop_traces(path)
        _rename(path, result.aside)
        results.append(result)
    return results


def _aside(path: str) -> str:
    return path.replace(f"{DATABASE}.salvaging-", f"{DATABASE}.damaged-")


def _rename(old: str, new: str) -> None:
    for part in _PARTS:
        if os.path.exists(old + part):
            os.rename(old + part, new + part)


def _drop_traces(path: str) -> None:
    # What SQLite makes anew whenever it reads: an index of the -wal file, and an empty -wal file.
    if os.path.exists(path + "-wal") and not os.path.getsize(path + "-wal"):
        os.remove(path + "-wal")
    if os.path.exists(path + "-shm"):
        os.remove(path + "-shm")


def _rows(path: str, result: Salvage) -> Iterator[tuple[str, bytes]]:
    if not os.path.exists(path) or not os.path.getsize(path):
        return
    try:
        with closing(connect_read_only(path)) as connection:
            last = _last_rowid(connection)
            yield from _readable(connection, last, result)
    except sqlite3.DatabaseError:
        # The first page's head is gone and the rest may be whole: give a copy another head.
        copy = path + ".copy"
        try:
            _copy_with_new_head(path, copy)
            with closing(connect_read_only(copy, without_wal=True)) as connection:
                yield from _readable(connection, _last_rowid(connection), result)
        except sqlite3.DatabaseError:
            result.gaps += 1
        finally:
            if os.path.exists(copy):
                os.remove(copy)


def _last_rowid(connection: sqlite3.Connection) -> int:
    connection.execute("SELECT 1 FROM Cache LIMIT 0").fetchall()
    try:
        return int(connection.execute("SELECT max(rowid) FROM Cache").fetchone()[0] or 0)
    except sqlite3.DatabaseError:
        return 2**62  # the last page is the damaged one: go on until steps grow past every row


def _readable(connection: sqlite3.Connection, last: int, result: Salvage) -> Iterator[tuple[str, bytes]]:
    """Read rows in order; after each that cannot be read, go on at the next number."""
    at, steps = 0, 0
    while at <= last:
        try:
            query = "SELECT rowid, key, mode, filename, value FROM Cache NOT INDEXED WHERE rowid >= ? ORDER BY rowid"
            for rowid, key, mode, filename, value in connection.execute(query, (at,)):
                at, steps = rowid + 1, 0
                try:
                    read_row(key, mode, filename, value)
                except NewerEntry:
                    pass
                except UnsafeEntryError:
                    result.refused += 1
                    continue
                result.kept += 1
                yield key, value
            return
        except sqlite3.DatabaseError:
            result.gaps += not steps
            steps += 1
            # One by one, since the rows right behind a damaged page are whole; but a forged or
            # unknown last number must not keep us for ever.
            at += 1 if steps < _STEPS_OF_ONE else max(1, at)


def _copy_with_new_head(path: str, copy: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA page_size = 4096")
        connection.execute("CREATE TABLE any_table (x)")
        head = bytearray(connection.serialize()[:100])
    shutil.copyfile(path, copy)
    os.chmod(copy, 0o600)
    head[28:32] = (os.path.getsize(path) // 4096).to_bytes(4, "big")
    head[24:28] = head[92:96]  # SQLite believes the page count only where these two agree
    with open(copy, "r+b") as file:
        file.write(head)
