"""A cache of an earlier version is moved to its folder, at its first opening and whatever happens meanwhile."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress

from pllm_notebook.files import make_private_directory, sync_directory, utc_stamp
from pllm_notebook.store.diskcache_adapter import refuse_foreign_rows
from pllm_notebook.store.location import DATABASE, FOLDER, OLD_DATABASE
from pllm_notebook.store.marker import read_marker, read_sidecar

__all__ = ["migrate_layout"]

# The -wal file first: as long as the database itself has its old name, the move is not complete, and is resumed.
_PARTS = ("-wal", "")


def migrate_layout(directory: str) -> None:
    """Move a database of an earlier version to its folder. Call it with the directory's lock held alone.

    After a crash at any step the next call goes on. Where there is a database in the folder already (a kernel with an
    earlier version went on after the move), the old one is laid beside it to be salvaged.

    Raises:
        OSError: If it cannot be moved; it is then where it was.
        StoreError: If the directory is another program's cache.
    """
    old, new = os.path.join(directory, OLD_DATABASE), os.path.join(directory, DATABASE)
    make_private_directory(os.path.join(directory, FOLDER))
    if not os.path.isfile(old) or not _is_ours(directory, old):
        return
    _fold_in_wal(old)
    if os.path.exists(new):
        new = f"{new}.salvaging-{utc_stamp()}-{os.urandom(4).hex()}"
    with suppress(FileNotFoundError):
        os.remove(old + "-shm")  # an index of the -wal file, made again at the next opening
    for part in _PARTS:
        with suppress(FileNotFoundError):
            os.rename(old + part, new + part)
    for place in (directory, os.path.join(directory, FOLDER)):
        with suppress(OSError):
            sync_directory(place)


def _is_ours(directory: str, path: str) -> bool:
    """Return whether an earlier version of this package wrote it: its row, or the file beside it, says so."""
    if read_sidecar(directory) is not None and not os.path.exists(os.path.join(directory, DATABASE)):
        return True  # even where it is damaged
    try:
        with closing(sqlite3.connect(path)) as connection:
            if read_marker(connection) is not None:
                return True
            # Its next check would take our files for rubbish, so its directory is no place for them.
            refuse_foreign_rows(connection, path)
    except sqlite3.Error:
        pass
    return False


def _fold_in_wal(path: str) -> None:
    """Put the -wal file's commits into the database, where that can be done; it is moved along otherwise."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=1.0)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
