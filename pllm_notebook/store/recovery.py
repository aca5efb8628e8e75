"""Opening of a store that may be damaged. It never starts empty without a warning, and never deletes a file."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager

from pllm_notebook.exceptions import StoreError
from pllm_notebook.files import make_private_directory
from pllm_notebook.store.damage import READ_ERRORS, cannot_write, is_damage, is_full_disk
from pllm_notebook.store.database import Database
from pllm_notebook.store.diskcache_adapter import check_shape, refuse_foreign_rows
from pllm_notebook.store.layout_migration import migrate_layout
from pllm_notebook.store.location import DATABASE, database_in, has_room
from pllm_notebook.store.lock import directory_lock
from pllm_notebook.store.marker import Marker, place_marker, read_marker, read_sidecar, write_sidecar
from pllm_notebook.store.salvage import Salvage, salvage_into, set_aside
from pllm_notebook.store.sqlite_connections import connect_read_only

__all__ = ["Unwritable", "open_database", "replace_damaged"]

_OPEN_PATIENCE_S = 60.0

_log = logging.getLogger("pllm_notebook.store")


class Unwritable(StoreError):
    """The database cannot be opened for writing, but may be readable."""


def open_database(directory: str, busy_timeout_s: float) -> Database:
    """Open the store in *directory*, and create or repair it if necessary.

    A damaged, emptied or replaced database is renamed to `cache.db.damaged-<time>`, and every row with a valid
    checksum is copied into a new one. Each such event logs one warning.

    Raises:
        Unwritable: If there is a database, but the disk is full or it may not be written.
        StoreError: If the directory contains something else, or cannot be opened.
    """
    try:
        make_private_directory(directory)
        with directory_lock(directory, alone=True, patience_s=_OPEN_PATIENCE_S):
            migrate_layout(directory)
            return _open(directory, busy_timeout_s)
    except (OSError, *READ_ERRORS) as error:
        is_full = is_full_disk(error) or not has_room(directory)
        todo = "Give another directory with PLLM_CACHE_DIR or configure(cache_dir=…)."
        if is_full and os.path.exists(os.path.join(directory, DATABASE)):
            todo = "Free some space there: another directory lacks its answers, which would be paid for again."
        kind = Unwritable if (is_full or cannot_write(error)) and database_in(directory) else StoreError
        raise kind(f"The cache in {directory} cannot be opened: {error}. {todo} Nothing was changed.") from error


def replace_damaged(database: Database, error: BaseException, busy_timeout_s: float) -> Database:
    """Set *database* aside because of *error*, and open a new one with all rows that can be read.

    If another process has already done so, its new database is opened.

    Raises:
        StoreError: If the database cannot be repaired.
    """
    directory = database.directory
    try:
        with directory_lock(directory, alone=True, patience_s=_OPEN_PATIENCE_S):
            if database.is_current():
                set_aside(directory)
                return _fresh(directory, busy_timeout_s, f"is damaged ({error})")
            return _open(directory, busy_timeout_s)
    except (OSError, *READ_ERRORS) as another:
        raise StoreError(
            f"The cache in {directory} is damaged ({error}) and cannot be repaired: {another}."
        ) from another


def _open(directory: str, busy_timeout_s: float) -> Database:
    """Open the database. Requires the directory's lock."""
    known = read_sidecar(directory)
    try:
        fault = _examine(directory, known)
        if not fault:
            database = Database(directory, busy_timeout_s)
    except READ_ERRORS as error:
        if not is_damage(error, os.path.join(directory, DATABASE)):
            raise
        fault = f"is damaged ({error})"
    if fault:
        set_aside(directory)
        return _fresh(directory, busy_timeout_s, fault)
    with _closed_on_error(database):
        marker = _settle_marker(database)
        if known is not None and marker.written < known.written:
            _log.warning(
                "The cache in %s lacks its last %d changes: its -wal file was removed, or the cache was replaced "
                "by an older copy. The answers among them will be requested and paid for again.",
                directory,
                known.written - marker.written,
            )
        _report(database, salvage_into(database), "was left unread by an earlier crash or version")
        _settle_marker(database)
    return database


def _examine(directory: str, known: Marker | None) -> str:
    """Return what is wrong with the database, "" if nothing is. Called before anything writes to it.

    Raises:
        StoreError: If it belongs to another program.
        sqlite3.Error: If it cannot be read.
    """
    path = os.path.join(directory, DATABASE)
    wal = path + "-wal"
    has_wal = os.path.exists(wal) and os.path.getsize(wal) > 0
    if not os.path.exists(path):
        return "is gone" if known is not None and (known.written or has_wal) else ""
    if not os.path.getsize(path) and not has_wal:
        return "was cut to 0 bytes" if known is not None and known.written else ""
    with closing(connect_read_only(path)) as connection:
        try:
            check_shape(connection, path)
        except StoreError:
            # Our database was here before, and its salvage takes only our own rows.
            if known is None or not known.written:
                raise
            return "is damaged (its tables have changed)"
        marker = read_marker(connection)
        if marker is None:
            if known is not None:
                return "was replaced by another database"
            refuse_foreign_rows(connection, path)
        elif known is not None and known.store_id != marker.store_id:
            return "was replaced by another cache"
    return ""


def _fresh(directory: str, busy_timeout_s: float, fault: str) -> Database:
    """Create a new database, and copy into it all rows that can be read from those set aside."""
    database = Database(directory, busy_timeout_s)
    with _closed_on_error(database):
        _settle_marker(database)
        _report(database, salvage_into(database), fault)
        _settle_marker(database)
    return database


@contextmanager
def _closed_on_error(database: Database) -> Iterator[None]:
    try:
        yield
    except BaseException:
        database.close()
        raise


def _settle_marker(database: Database) -> Marker:
    """Make the marker row and the file beside the database agree, and return the marker."""
    marker = read_marker(database.connection)
    if marker is None:
        marker = Marker(uuid.uuid4().hex, 0)
        place_marker(database.connection, marker)
    database.store_id = marker.store_id
    write_sidecar(database.directory, marker)
    return marker


def _report(database: Database, results: list[Salvage], fault: str) -> None:
    if not results:
        if fault == "is gone":
            _log.warning(
                "The cache in %s is gone: %s held answers and no longer exists. A new one was created; the lost "
                "answers will be requested and paid for again.",
                database.directory,
                DATABASE,
            )
        return
    _log.warning(
        "The cache in %s %s. It was set aside as %s; %d answers were salvaged from it, %d were damaged, and %d "
        "places could not be read.",
        database.directory,
        fault,
        ", ".join(os.path.basename(result.aside) for result in results),
        sum(result.kept for result in results),
        sum(result.refused for result in results),
        sum(result.gaps for result in results),
    )
