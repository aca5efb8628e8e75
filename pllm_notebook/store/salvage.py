"""Salvage of a damaged database: set it aside, and copy every row that can be read. No answer is ever deleted."""

from __future__ import annotations

import glob
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from pllm_notebook.exceptions import UnsafeEntryError
from pllm_notebook.store.carving import CarvedRow, carve
from pllm_notebook.store.codec import NewerEntry
from pllm_notebook.store.damage import READ_ERRORS, passes_check
from pllm_notebook.store.database import Database, read_row
from pllm_notebook.store.location import DATABASE
from pllm_notebook.store.sqlite_connections import connect_read_only

__all__ = ["Salvage", "salvage_into", "set_aside"]

_PARTS = ("", "-wal", "-shm")
_GROUP = 1000
# After a damaged page, row numbers are tried one by one, as many as a few pages hold; `carve` finds the rest.
_MOST_STEPS = 1_000


@dataclass(slots=True)
class Salvage:
    """Result of reading a damaged database.

    Attributes:
        aside: Path of the damaged file after the salvage.
        kept: Number of rows copied, each with a valid checksum.
        refused: Number of rows that could be read, but were damaged or unsafe.
        gaps: Number of places where rows could not be read at all.
    """

    aside: str
    kept: int = 0
    refused: int = 0
    gaps: int = 0


def set_aside(directory: str, wall_clock: Callable[[], float] = time.time) -> None:
    """Rename the database and its -wal and -shm files, so that the name is free.

    The new name is `cache.db.salvaging-<time>` until `salvage_into` has read the file: after a crash in between, the
    next opening reads it.
    """
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(wall_clock()))
    name = unique = os.path.join(directory, f"{DATABASE}.salvaging-{stamp}")
    number = 1
    while os.path.exists(unique) or os.path.exists(_aside(unique)):
        number += 1
        unique = f"{name}-{number}"
    _rename(os.path.join(directory, DATABASE), unique)


def salvage_into(database: Database) -> list[Salvage]:
    """Copy the readable rows of each database that was set aside, and rename it to `cache.db.damaged-<time>`."""
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
    # Every read by SQLite leaves an index of the -wal file, and an empty -wal file.
    if os.path.exists(path + "-wal") and not os.path.getsize(path + "-wal"):
        os.remove(path + "-wal")
    if os.path.exists(path + "-shm"):
        os.remove(path + "-shm")


def _rows(path: str, result: Salvage) -> Iterator[tuple[str, bytes]]:
    if not os.path.exists(path) or not os.path.getsize(path):
        return
    read: set[str] = set()
    try:
        with closing(connect_read_only(path)) as connection:
            for key, value in _readable(connection, _last_rowid(connection), result):
                if key in read:  # a damaged pointer can lead to a page twice
                    continue
                result.kept += 1
                read.add(key)
                yield key, value
    except READ_ERRORS:
        result.gaps += 1
    # Rows that could not be reached may be intact themselves. A pointer to a wrong page of the table hides rows without
    # any error, so the file is checked even if there were no gaps.
    if result.gaps or not passes_check(path):
        for row in carve(path):
            if row.key not in read and _is_sound(row):
                result.kept += 1
                yield row.key, row.value


def _is_sound(row: CarvedRow) -> bool:
    try:
        read_row(*row)
    except NewerEntry:
        return True
    except UnsafeEntryError:
        return False
    return True


def _last_rowid(connection: sqlite3.Connection) -> int:
    connection.execute("SELECT 1 FROM Cache LIMIT 0").fetchall()
    try:
        return int(connection.execute("SELECT max(rowid) FROM Cache").fetchone()[0] or 0)
    except READ_ERRORS:
        return 2**62  # the last page is damaged


def _readable(connection: sqlite3.Connection, last: int, result: Salvage) -> Iterator[tuple[str, bytes]]:
    """Yield rows in order. After a row that cannot be read, continue at the next row number."""
    at, steps = 0, 0
    while at <= last:
        try:
            query = "SELECT rowid, key, mode, filename, value FROM Cache NOT INDEXED WHERE rowid >= ? ORDER BY rowid"
            for rowid, key, mode, filename, value in connection.execute(query, (at,)):
                # A damaged pointer may lead back to rows that were already read: continuing there would never end.
                if rowid >= at:
                    at, steps = rowid + 1, 0
                try:
                    read_row(key, mode, filename, value)
                except NewerEntry:
                    pass
                except UnsafeEntryError:
                    result.refused += 1
                    continue
                yield key, value
            return
        except READ_ERRORS:
            result.gaps += not steps
            steps += 1
            at += 1
            if steps > _MOST_STEPS:
                return
