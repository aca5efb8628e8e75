"""The identity of a store, in a marker row of the database and in a file beside it, so that data loss is noticed.

SQLite silently opens an empty file as a new database, and a database without its -wal file as an older one. The row
and the file hold the same id and count, and a difference reveals either case.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass

__all__ = ["SIDECAR", "Marker", "place_marker", "read_marker", "read_sidecar", "write_sidecar"]

SIDECAR = "cache.id"


@dataclass(frozen=True, slots=True)
class Marker:
    """Identity of a store.

    Attributes:
        store_id: 32 random hex digits, chosen when the database was created.
        written: Number of rows ever written or deleted.
    """

    store_id: str
    written: int


def read_marker(connection: sqlite3.Connection) -> Marker | None:
    """Read the database's marker row, None if it has none."""
    exists = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'pllm_store'"
    if connection.execute(exists).fetchone() is None:
        return None
    row = connection.execute("SELECT store_id, written FROM pllm_store").fetchone()
    if row is None or type(row[0]) is not str or type(row[1]) is not int:
        return None
    return Marker(*row)


def place_marker(connection: sqlite3.Connection, marker: Marker) -> None:
    """Write *marker* to a database that has none, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("CREATE TABLE IF NOT EXISTS pllm_store (store_id TEXT NOT NULL, written INTEGER NOT NULL)")
    connection.execute("DELETE FROM pllm_store")
    connection.execute("INSERT INTO pllm_store VALUES (?, ?)", (marker.store_id, marker.written))
    connection.execute("COMMIT")


def read_sidecar(directory: str) -> Marker | None:
    """Read the file beside the database, None if it is missing or not ours."""
    try:
        with open(os.path.join(directory, SIDECAR), encoding="ascii") as file:
            store_id, written = file.read(200).split()
        return Marker(store_id, int(written))
    except (OSError, ValueError):
        return None


def write_sidecar(directory: str, marker: Marker) -> None:
    """Write the file beside the database, after the commit that it counts.

    The file is not synced: after a power cut it may count fewer rows than there are. At worst this hides a loss; it
    never reports a false one. Write errors are ignored for the same reason.
    """
    # A single write of fixed length, so that no reader sees half of it.
    line = f"{marker.store_id} {marker.written:020d}\n".encode("ascii")
    with contextlib.suppress(OSError):
        handle = os.open(os.path.join(directory, SIDECAR), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(handle, line, 0)
        finally:
            os.close(handle)
