"""A lock between processes, so that no commit falls between a salvage's last read and the new file.

Commits take the lock shared; opening, setting aside and salvage take it exclusively. SQLite's own locks cannot do
this: they belong to a file, and setting a file aside changes which file has the name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pllm_notebook.exceptions import StoreError

__all__ = ["LockTimeout", "directory_lock"]

_LOCK = "cache.lock"
_GATE = "cache.gate"
_STEP_S = 0.02


class LockTimeout(StoreError):
    """Another process held the lock for longer than the timeout."""


@contextmanager
def directory_lock(
    directory: str, *, alone: bool, patience_s: float, sleep: Callable[[float], None] = time.sleep
) -> Iterator[None]:
    """Hold the directory's lock for the length of a `with` block.

    Args:
        directory: An existing directory that can be written.
        alone: Whether to hold the lock exclusively; otherwise it is shared with other shared holders.
        patience_s: Timeout in seconds.
        sleep: Called to wait between two attempts.

    Raises:
        LockTimeout: If the lock is not free in time.
        FileNotFoundError: If the directory does not exist.
    """
    # An exclusive taker first closes the gate, then waits for the shared holders to leave. With one
    # lock only, two busy writers whose turns overlap would keep a third process out forever.
    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    with (
        _locked(directory, _GATE, kind, patience_s, sleep) as open_gate,
        _locked(directory, _LOCK, kind, patience_s, sleep),
    ):
        if not alone:
            open_gate()
        yield


@contextmanager
def _locked(
    directory: str, name: str, kind: int, patience_s: float, sleep: Callable[[float], None]
) -> Iterator[Callable[[], None]]:
    # Opened each time: a lock belongs to the open file, which threads must not share.
    handle = os.open(os.path.join(directory, name), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def unlock() -> None:
        # Unlock explicitly: a child forked in the meantime has a copy of the handle, which would keep the lock after
        # ours is closed.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)

    try:
        _take(handle, directory, kind, patience_s, sleep)
        try:
            yield unlock
        finally:
            unlock()
    finally:
        os.close(handle)


def _take(handle: int, directory: str, kind: int, patience_s: float, sleep: Callable[[float], None]) -> None:
    waited_s = 0.0
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                return  # a file system without locks; opening the store logged a warning
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EINTR):
                raise
        if waited_s >= patience_s:
            raise LockTimeout(f"Another process has held the cache in {directory} for {waited_s:.0f} s.")
        sleep(_STEP_S)
        waited_s += _STEP_S
