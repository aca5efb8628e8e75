"""Location of the store, its fallback if that cannot be written, and the layout of the cache directory.

diskcache deletes unknown files in and below its directory (`Cache.check(fix=True)`). The answers' database is
therefore alone in a folder; the journal of batch jobs, the failures, the limits and the locks are beside that folder.
Earlier versions kept the database among them.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pllm_notebook import settings
from pllm_notebook.exceptions import StoreError, UsageError
from pllm_notebook.files import make_private_directory
from pllm_notebook.runtime import is_first_time

__all__ = [
    "DATABASE",
    "FOLDER",
    "OLD_DATABASE",
    "StoreLocation",
    "choose_location",
    "chosen_directory",
    "database_in",
    "file_system",
    "has_room",
    "is_writable",
    "refuse_file",
    "warn_of_network",
]

FOLDER = "answers"
OLD_DATABASE = "cache.db"
DATABASE = os.path.join(FOLDER, OLD_DATABASE)
"""Path of the answers' database below the cache directory. Earlier versions used `OLD_DATABASE`."""

_NETWORK = {
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "fuse.glusterfs",
    "fuse.sshfs",
    "glusterfs",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "smb3",
    "smbfs",
}

# SQLite's shared index of a -wal file alone takes 32 kB.
_ROOM_BYTES = 256 * 1024

_log = logging.getLogger("pllm_notebook.store")


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """Where entries are written and read.

    Attributes:
        directory: Where entries are written. It can be written or created, unless no directory can.
        below: A read-only directory whose entries are read as well, None for none.
        durable: Whether entries survive a restart of the machine.
    """

    directory: str
    below: str | None = None
    durable: bool = True


def chosen_directory(directory: str | None = None) -> tuple[str, bool]:
    """Return the requested directory, and whether the user named it.

    The argument counts first, then `configure(cache_dir=…)`, PLLM_CACHE_DIR, and the platform's cache directory.
    """
    named = directory or settings.current().cache_dir or os.environ.get("PLLM_CACHE_DIR")
    if named:
        return os.path.abspath(os.path.expanduser(named)), True
    return _platform_directory(), False


def refuse_file(directory: str | os.PathLike[str] | None) -> None:
    """Refuse a directory of `configure(cache_dir=…)` that cannot be created because it or a parent is a file.

    Raises:
        UsageError: If so. Nothing was changed.
    """
    if directory is None:
        return
    file = _file_in_place_of(os.path.expanduser(os.fspath(directory)))
    if file:
        raise UsageError(
            f"cache_dir={os.fspath(directory)!r} is not a directory and cannot be created, since {file} is a file. "
            f"Name a directory; if it does not exist, it is created. Nothing was changed."
        )


def choose_location(
    directory: str, named: bool, *, can_write: Callable[[str], bool] | None = None, database: str = ""
) -> StoreLocation:
    """Choose where to write, starting from the requested directory.

    If that directory is read-only, its entries are read, and new ones go to the first of these that can be written:
    PLLM_CACHE_DIR, the platform's cache directory, ./.pllm and a temporary directory. One warning reports it.

    Args:
        directory: As returned by `chosen_directory`.
        named: Whether the user named it. A named directory without a cache is not replaced by another.
        can_write: Returns whether a directory can be written or created; None checks the file system.
        database: Name of the file that makes a directory worth reading; "" for the answers' database.

    Raises:
        StoreError: If the user named a directory that can neither be written nor has a cache, or if no directory can
            be written and this one has no cache. Nothing was sent.
    """
    can_write = can_write or is_writable
    if can_write(directory):
        return StoreLocation(directory)
    readable = os.path.isfile(os.path.join(directory, database)) if database else database_in(directory) is not None
    if named and not readable:
        file = _file_in_place_of(directory)
        seen = f", since {file} is a file, not a directory" if file else ""
        raise StoreError(
            f"The directory {directory} cannot be written or created{seen}. "
            f"Name another: that of a program in resume_directory, that of a notebook's frames with PLLM_CACHE_DIR or "
            f"configure(cache_dir=…). "
            f"Nothing was sent."
        )
    below = directory if readable else None
    reads = "is read-only: its answers are used, and new ones" if readable else "cannot be written: answers"
    for other in (os.environ.get("PLLM_CACHE_DIR"), _platform_directory(), os.path.join(os.getcwd(), ".pllm")):
        if other and os.path.abspath(other) != directory and can_write(os.path.abspath(other)):
            _log.warning("The cache directory %s %s go to %s.", directory, reads, os.path.abspath(other))
            return StoreLocation(os.path.abspath(other), below)
    try:
        temporary = tempfile.mkdtemp(prefix="pllm-")
    except OSError:
        if not readable:
            raise StoreError(
                f"The cache directory {directory} {reads} can go nowhere else: neither the platform's directory nor "
                f"a temporary one can be written. Set PLLM_CACHE_DIR to a directory that can be written. "
                f"Nothing was sent."
            ) from None
        return StoreLocation(directory)
    _log.warning(
        "The cache directory %s %s go to %s, which is NOT DURABLE: the system may empty it at any time, and what it "
        "held would be paid for again. Set PLLM_CACHE_DIR to a directory that can be written.",
        directory,
        reads,
        temporary,
    )
    return StoreLocation(temporary, below, durable=False)


def database_in(directory: str) -> str | None:
    """Return the path of the database in *directory*, in this or the earlier layout; None if there is none."""
    for name in (DATABASE, OLD_DATABASE):
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            return path
    return None


def is_writable(directory: str) -> bool:
    """Return whether files can be created in *directory*. Create it (mode 0700) if it does not exist."""
    try:
        make_private_directory(directory)
        # Checking permissions is not enough: root has them even on a read-only file system.
        handle, path = tempfile.mkstemp(prefix=".pllm-", dir=directory)
        os.close(handle)
        os.unlink(path)
    except OSError:
        return False
    return True


def has_room(directory: str) -> bool:
    """Return whether the disk of *directory* has room for a commit."""
    try:
        space = os.statvfs(directory)
    except OSError:
        return False
    return space.f_bavail * space.f_frsize >= _ROOM_BYTES


def file_system(directory: str, mounts: str = "/proc/mounts") -> str:
    """Return the type of the file system that contains *directory*, such as "ext4"; "" if unknown."""
    best, kind = "", ""
    target = os.path.realpath(directory)
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                fields = line.split(" ")
                if len(fields) < 3:
                    continue
                point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1])  # "\040" is a space
                inside = target == point or target.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best):
                    best, kind = point, fields[2]
    except OSError:
        return ""
    return kind


def warn_of_network(directory: str, kind: str) -> None:
    """Warn once for each directory if *kind* is a network file system, on which SQLite's locks are unreliable."""
    if kind in _NETWORK and is_first_time("network", directory):
        _log.warning(
            "The cache directory %s is on a network file system (%s), where SQLite's locks cannot be trusted and "
            "answers can be lost. Set PLLM_CACHE_DIR to a directory on a local disk.",
            directory,
            kind,
        )


def _platform_directory() -> str:
    import platformdirs

    return platformdirs.user_cache_dir("pllm_notebook", appauthor=False)


def _file_in_place_of(directory: str) -> str | None:
    """Return the file that prevents a directory from being created, None if there is none."""
    above = next((each for each in _upwards(directory) if os.path.lexists(each)), directory)
    return above if os.path.lexists(above) and not os.path.isdir(above) else None


def _upwards(directory: str) -> Iterator[str]:
    """Yield a directory and its parents."""
    path = os.path.abspath(directory)
    while True:
        yield path
        if path == (path := os.path.dirname(path)):
            return
