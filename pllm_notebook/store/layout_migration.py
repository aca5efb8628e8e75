"""Move of an earlier version's cache to its new folder, at the first opening. A crash at any step loses nothing."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress

from pllm_notebook.files import make_private_directory, sync_directory, utc_stamp
from pllm_notebook.store.diskcache_adapter import refuse_foreign_rows
from pllm_notebook.store.location import DATABASE, FOLDER, OLD_DATABASE
from pllm_notebook.store.marker import read_marker, read_sidecar

__all__ = ["migrate_layout"]

# The -wal file moves first: as long as the database itself has its old name, the move is incomplete and is resumed.
_PARTS = ("-wal", "")


def migrate_layout(directory: str) -> None:
    """Move an earlier version's database to its folder. The caller holds the directory's lock exclusively.

    After a crash at any step, the next call resumes the move. If the folder already has a database (a kernel with an
    earlier version continued after the move), the old one is placed beside it to be salvaged.

    Raises:
        OSError: If the database cannot be moved. It is then where it was.
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
        os.remove(old + "-shm")  # an index of the -wal file, rebuilt at the next opening
    for part in _PARTS:
        with suppress(FileNotFoundError):
            os.rename(old + part, new + part)
    for place in (directory, os.path.join(directory, FOLDER)):
        with suppress(OSError):
            sync_directory(place)


def _is_ours(directory: str, path: str) -> bool:
    """Return whether an earlier version of this package wrote the database, by its marker row or the file beside it."""
    if read_sidecar(directory) is not None and not os.path.exists(os.path.join(directory, DATABASE)):
        return True  # even if it is damaged
    try:
        with closing(sqlite3.connect(path)) as connection:
            if read_marker(connection) is not None:
                return True
            # The next check of its owner's diskcache would delete our files, so we must not use its directory.
            refuse_foreign_rows(connection, path)
    except sqlite3.Error:
        pass
    return False


def _fold_in_wal(path: str) -> None:
    """Move the -wal file's commits into the database if possible. Otherwise the -wal file is moved along."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=1.0)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
