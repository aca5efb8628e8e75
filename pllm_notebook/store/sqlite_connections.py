"""SQLite connections that any thread may use, and that are closed when they are dropped."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from urllib.parse import quote

__all__ = ["SelfClosingConnection", "connect_read_only", "lenient"]


class SelfClosingConnection(sqlite3.Connection):
    """Connection that closes itself when its thread ends or its database is dropped.

    Other connections cause a ResourceWarning then, from Python 3.13 on. The finalizer is the connection's own, not that
    of a separate object: a connection refers to itself, and the garbage collector finalizes a cycle in any order.
    """

    def __del__(self) -> None:
        with suppress(sqlite3.Error):
            self.close()


def connect_read_only(path: str, how: str = "") -> sqlite3.Connection:
    """Open the database at *path* for reading. Any thread may use the connection.

    Args:
        path: The database file.
        how: Further parameters of SQLite's URI, such as "immutable=1".
    """
    address = f"file:{quote(os.path.abspath(path))}?mode=ro{f'&{how}' if how else ''}"
    connection = sqlite3.connect(
        address, uri=True, isolation_level=None, check_same_thread=False, factory=SelfClosingConnection
    )
    try:
        connection.execute("PRAGMA trusted_schema = 0")
    except BaseException:
        connection.close()
        raise
    connection.text_factory = lenient
    return connection


def lenient(text: bytes) -> str:
    """Decode text from the database. Bytes that are not UTF-8 are replaced."""
    return text.decode("utf-8", "replace")
