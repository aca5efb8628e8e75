"""A directory that several machines share: each ships its new answers there, and takes in those of the others.

The directory contains only segments: exports of a few answers (see `export_file`) or of labels (see `label_share`).
Each segment is written once, complete, under a unique name, and is never changed. No lock and no server is needed, and
an object store is enough.
"""

from __future__ import annotations

import io
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from pllm_notebook.exceptions import StoreError, UsageError
from pllm_notebook.files import replacing
from pllm_notebook.formatting import counted
from pllm_notebook.store.export_file import NewerExport, read_entries, write_entries
from pllm_notebook.store.label_share import LabelShare
from pllm_notebook.store.outbox import Outbox
from pllm_notebook.store.writer import Clock
from pllm_notebook.stored_reply import StoredReply

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["Share", "SharedEntries", "open_directory", "refuse_share"]

SEGMENT_ENTRIES = 1000
SHIP_EVERY_S = 5.0
"""An answer is shipped this long after it was stored, or earlier once a thousand are waiting."""
LOOK_EVERY_S = 10.0
"""A run reads the directory again if the last read is older than this."""
CLOSING_S = 30.0
"""How long the exit of a process waits for the last segments: the machine may be discarded afterwards."""

_PREFIX, _SUFFIX = "seg-", ".jsonl.gz"
_PAUSE_S = 30.0
_LEASE_S = 60.0
_LARGEST_BYTES = 2**29
_GROUP_BYTES = 2**26

_log = logging.getLogger("pllm_notebook.store")


class SharedEntries(Protocol):
    """The store whose answers are shared."""

    def get_many(self, keys: Sequence[str]) -> dict[str, StoredReply]:
        """Return the existing entries of *keys*."""

    def put_many(
        self, entries: Iterable[tuple[str, StoredReply]], done: Callable[[BaseException | None], None]
    ) -> None:
        """Queue entries. *done* is called for each."""

    def flush(self) -> None:
        """Wait until everything queued is on disk."""


class Share:
    """The shared directory of one store: ships the store's new answers, and takes in those of others. Thread-safe.

    Args:
        store: The store whose answers are shared.
        directory: The store's directory, which also holds the state of the exchange.
        address: A path, or an address that fsspec can open (`s3://team/pllm`).
        clock: The clock; None for the system's.

    Raises:
        UsageError: If the address cannot be opened, or fsspec or its package for the address is not installed. Nothing
            was sent.
    """

    def __init__(self, store: SharedEntries, directory: str, address: str, clock: Clock | None = None) -> None:
        self.address = address
        self._clock = Clock() if clock is None else clock
        self._store = store
        self._files, self._path = open_directory(address)
        self._outbox = Outbox(directory, address)
        self._labels = LabelShare(directory, self._outbox, self._write, self._read)
        self._owner = uuid.uuid4().hex
        self._looked_at: float | None = None
        # Keys that are being taken in: their answers are not this machine's own.
        self._foreign: set[str] = set()
        self._shipping = threading.Lock()
        self._condition = threading.Condition()
        self._waiting = 0
        self._waiting_since: float | None = None
        self._closing = False
        self._failing = self._labels_failing = False
        self._thread: threading.Thread | None = None
        with suppress(Exception):
            self._labels.begin()
        if self._outbox.count():
            self._wake(self._outbox.count())

    def committing(self, keys: Iterable[str]) -> None:
        """Note the keys of a group before the writer commits it. Their answers are shipped within seconds."""
        own = [key for key in keys if key not in self._foreign]
        if own:
            try:
                self._outbox.note(own)
            except Exception as error:
                _log.warning("%s will not be shared: %s.", counted(len(own), "answer"), error)
            else:
                self._wake(len(own))

    def take_in(self, *, at_once: bool = False) -> int:
        """Add the answers that others shipped since the last call, and return their number. No model is called.

        Waits for the shared directory. If it cannot be reached, a warning is logged and the run continues without it.

        Args:
            at_once: Read the directory even if it was read in the last `LOOK_EVERY_S` seconds.
        """
        now = self._clock.now()
        if not at_once and self._looked_at is not None and now - self._looked_at < LOOK_EVERY_S:
            return 0
        self._looked_at = now
        try:
            taken = self._outbox.taken()
            # Some file systems cache listings, and another machine's segment would never be seen.
            self._files.invalidate_cache()
            there = self._names()
            names = [name for name in there if name.startswith(_PREFIX) and name not in taken]
        except Exception as error:
            _log.warning("The shared answers in %s cannot be read now (%s).", self.address, error)
            return 0
        self._share_labels(there)
        if self._thread is None:  # the thread ships new labels until the process ends
            self._wake(0)
        done: list[str] = []
        try:
            return sum(self._take_segment(name, done) for name in sorted(names))
        finally:
            # In one transaction, after their answers: a segment that is not recorded is only read again.
            with suppress(Exception):
                self._outbox.take(done)

    def _share_labels(self, names: Sequence[str] = ()) -> None:
        """Ship new labels, and take in those of the segments among *names*."""
        try:
            with self._shipping:
                self._labels.ship()
                self._labels.take_in(names)
        except Exception as error:
            if not self._labels_failing:
                _log.warning("Labels cannot be shared with %s now (%s). Trying again.", self.address, error)
            self._labels_failing = True
        else:
            self._labels_failing = False

    def ship(self) -> int:
        """Write all waiting answers as segments, and return their number.

        Raises:
            Exception: Any error of the file system. The answers that remain are shipped later.
        """
        with self._shipping:
            return self._ship()

    def _ship(self) -> int:
        shipped, last = 0, 0
        try:
            while groups := self._outbox.unshipped(SEGMENT_ENTRIES, last):
                # Of the processes that use one cache, one ships for all.
                if not self._outbox.lease(self._owner, _LEASE_S):
                    break
                entries = self._store.get_many([key for group in groups for key in group.keys])
                if entries:
                    self._write_segment(entries)
                self._outbox.shipped(groups, entries)
                shipped += len(entries)
                last = groups[-1].number
        finally:
            self._outbox.release(self._owner)
        return shipped

    def close(self) -> None:
        """Ship all waiting answers and end the thread. Wait at most half a minute, and log how many are left."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSING_S)
        with suppress(Exception):
            if left := self._outbox.count():
                _log.warning(
                    "%s not yet shared with %s. They are in the cache, and the next process that uses it ships them.",
                    "1 answer is" if left == 1 else f"{left:,} answers are",
                    self.address,
                )
        self._outbox.close()

    def __repr__(self) -> str:
        return f"<Share {self.address!r}>"

    def _wake(self, number: int) -> None:
        with self._condition:
            self._waiting += number
            is_first = self._waiting_since is None
            if is_first:
                self._waiting_since = self._clock.now()
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name="pllm-share", daemon=True)
                self._thread.start()
            if is_first or self._waiting >= SEGMENT_ENTRIES:  # a thread with nothing to ship waits without a limit
                self._condition.notify_all()

    def _run(self) -> None:
        while self._next_turn():
            self._try_to_ship()
        self._try_to_ship()

    def _try_to_ship(self) -> None:
        self._share_labels()
        try:
            self.ship()
            left = self._outbox.count()
        except Exception as error:
            if not self._failing:
                _log.warning("Answers cannot be shared with %s now (%s). Trying again.", self.address, error)
            self._failing = True
        else:
            self._failing = False
            if left:  # another process with this cache is shipping, or new answers arrived
                self._wake(1)  # after `SHIP_EVERY_S`, not at once

    def _next_turn(self) -> bool:
        """Wait until there is something to ship; return False once the share is closing."""
        paused_until = self._clock.now() + _PAUSE_S if self._failing else None
        with self._condition:
            while not self._closing:
                left = self._seconds_left(paused_until)
                if left is not None and left <= 0:
                    break
                self._clock.wait(self._condition, left)
            self._waiting, self._waiting_since = 0, None
            return not self._closing

    def _seconds_left(self, paused_until: float | None) -> float | None:
        """Return the seconds until the next turn; None until something is waiting. Requires the lock."""
        if paused_until is not None:  # however many answers are waiting
            return paused_until - self._clock.now()
        if self._waiting_since is None:
            return None
        is_full = self._waiting >= SEGMENT_ENTRIES
        return 0.0 if is_full else self._waiting_since + SHIP_EVERY_S - self._clock.now()

    def _names(self) -> list[str]:
        try:
            paths = self._files.ls(self._path, detail=False)
        except FileNotFoundError:  # nothing has been shipped yet
            return []
        names = (str(path).rstrip("/").rpartition("/")[2] for path in paths)
        return [name for name in names if name.endswith(_SUFFIX)]

    def _take_segment(self, name: str, done: list[str]) -> int:
        """Add one segment's answers to the store and its name to *done*. Return the number of new answers.

        A segment that is damaged or too large is left out with a warning.
        """
        path = f"{self._path}/{name}"
        try:
            added = sum(map(self._add, self._groups(io.BytesIO(self._read(name)), path)))
        except NewerExport as error:
            _log.warning("%s", error)
        except Exception as error:
            # The segment may be complete at the next look: some file systems show a file while it is being written.
            _log.warning("A segment of the shared answers was left out: %s", error)
            return 0
        else:
            done.append(name)
            return added
        done.append(name)
        return 0

    def _add(self, entries: dict[str, StoredReply]) -> int:
        there = self._store.get_many(list(entries))
        missing = {key: entry for key, entry in entries.items() if key not in there}
        errors: list[BaseException] = []

        def done(error: BaseException | None) -> None:
            if error is not None:
                errors.append(error)

        self._foreign.update(missing)
        try:
            self._store.put_many(missing.items(), done)
            self._store.flush()
        finally:
            self._foreign.difference_update(missing)
        if errors:
            raise errors[0]
        return len(missing)

    def _write_segment(self, entries: dict[str, StoredReply]) -> None:
        content = io.BytesIO()
        write_entries(content, entries.items(), level=1)
        name = f"{_PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex}{_SUFFIX}"
        self._outbox.take([name])  # before it exists, so that it is never read back here
        self._write(name, content.getvalue())

    def _read(self, name: str) -> bytes:
        path = f"{self._path}/{name}"
        about = self._files.info(path)
        # Reading a pipe would block, and a device has no end.
        if about["type"] != "file":
            raise StoreError(f"{path} is not a regular file.")
        if about["size"] is not None and about["size"] > _LARGEST_BYTES:
            raise StoreError(f"{path} has {about['size']:,} bytes, and a segment has at most {_LARGEST_BYTES:,}.")
        content: bytes = self._files.cat_file(path)
        return content

    def _groups(self, file: io.BytesIO, path: str) -> Iterator[dict[str, StoredReply]]:
        """Yield a segment's entries in groups: decompressed at once, a small segment could fill the memory."""
        group: dict[str, StoredReply] = {}
        held = 0
        for key, entry in read_entries(file, path):
            group[key] = entry
            held += len(entry.raw) + len(entry.text)
            if len(group) >= SEGMENT_ENTRIES or held > _GROUP_BYTES:
                yield group
                group, held = {}, 0
        yield group

    def _write(self, name: str, content: bytes) -> None:
        path = f"{self._path}/{name}"
        if "file" in _protocols(self._files):
            # An object store shows a file only when it is complete; a directory would show it while it grows.
            os.makedirs(self._path, exist_ok=True)
            with replacing(path, mode=0o666) as file:  # minus the umask: others have to read it
                file.write(content)
        else:
            self._files.pipe_file(path, content)


def open_directory(address: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of an address, and the path in it without a trailing slash.

    Raises:
        UsageError: If fsspec or its package for the address is not installed, or fsspec does not know the address.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise UsageError(
            f"{address!r} is read through fsspec, which is not installed: pip install 'pllm_notebook[dataset]'. "
            "Nothing was sent."
        ) from None
    try:
        files, path = url_to_fs(os.path.expanduser(address))
    except (ImportError, ValueError) as error:
        raise UsageError(f"{address!r} cannot be opened: {error}. Nothing was sent.") from None
    return files, str(path).rstrip("/")


def refuse_share(address: str | os.PathLike[str] | None) -> None:
    """Refuse an address of `configure(cache_share=…)` that cannot be used. Does not access the network.

    Raises:
        UsageError: If the address cannot be opened, or is a file. Nothing was sent.
    """
    if address is None:
        return
    files, path = open_directory(os.fspath(address))
    if "file" in _protocols(files) and os.path.lexists(path) and not os.path.isdir(path):
        raise UsageError(
            f"cache_share={os.fspath(address)!r} is a file. Name a directory; if it does not exist, it is created. "
            "Nothing was sent."
        )


def _protocols(files: Any) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)
