"""Labels in a directory that several machines share: each ships its new labels as segments and takes in the others'.

A segment of labels is an export without answers, under a name that earlier versions ignore. Segments are never
changed: a later segment contains the removal of a label, and the other machines then remove it too.
"""

from __future__ import annotations

import io
import logging
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Protocol

from pllm_notebook.store.export_file import read_entries, write_entries
from pllm_notebook.store.label_file import Label, LabelFile
from pllm_notebook.store.label_removals import LabelRemoval

__all__ = ["LabelShare"]

_PREFIX, _SUFFIX = "lab-", ".jsonl.gz"
_MARK, _REMOVED = "labels up to ", "labels taken back up to "

_log = logging.getLogger("pllm_notebook.store")


class _Taken(Protocol):
    def taken(self) -> set[str]: ...
    def take(self, names: list[str]) -> None: ...


class LabelShare:
    """Exchange of one cache directory's labels with those of other machines.

    Args:
        directory: The cache directory.
        taken: Records which segments need not be read again, and which labels were shipped.
        write: Writes a complete segment, given its name and content.
        read: Returns the content of a segment, given its name.
    """

    def __init__(
        self,
        directory: str,
        taken: _Taken,
        write: Callable[[str, bytes], None],
        read: Callable[[str], bytes],
    ) -> None:
        self._file, self._taken = LabelFile(directory), taken
        self._write, self._read = write, read

    def begin(self) -> None:
        """Mark the existing labels as shipped before the first exchange: like earlier answers, they are not shared."""
        if self._mark(_MARK) < 0:
            removed = max((one.number for one in self._file.removals()), default=0)
            self._taken.take([f"{_MARK}{self._file.newest()}", f"{_REMOVED}{removed}"])

    def ship(self) -> int:
        """Write a segment with the labels added or removed since the last call, and return their number."""
        mark, removed = self._mark(_MARK), self._mark(_REMOVED)
        new = [label for label in self._file.for_others() if label.id > mark]
        gone = [one for one in self._file.removals() if one.number > removed]
        if new or gone:
            content = io.BytesIO()
            write_entries(content, (), level=1, labels=[*gone, *new])
            name = f"{_PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex}{_SUFFIX}"
            self._write(name, content.getvalue())
            marks = [f"{_MARK}{label.id}" for label in new[-1:]] + [f"{_REMOVED}{one.number}" for one in gone[-1:]]
            self._taken.take([name, *marks])
        return len(new) + len(gone)

    def take_in(self, names: Iterable[str]) -> int:
        """Read the new segments among *names*: add their labels, and remove those that other machines removed.

        Returns:
            The number of new labels.
        """
        taken, added = self._taken.taken(), 0
        for name in sorted(names):
            if name.startswith(_PREFIX) and name.endswith(_SUFFIX) and name not in taken:
                try:
                    found = self._labels_in(name)
                except Exception as error:
                    # The segment may be complete at the next look, and other segments do not depend on it.
                    _log.warning("A segment of shared labels was left out: %s", error)
                    continue
                before = self._file.newest()
                new, _ = self._file.take_in(*found)
                # These labels are not shipped back, unless a person has labelled in the meantime.
                after = self._file.newest()
                mark = [f"{_MARK}{after}"] if after - before == new and self._mark(_MARK) >= before else []
                self._taken.take([name, *mark])
                added += new
        return added

    def _labels_in(self, name: str) -> tuple[list[Label], list[LabelRemoval]]:
        found: list[Label] = []
        removed: list[LabelRemoval] = []
        for _ in read_entries(io.BytesIO(self._read(name)), name, found, removed):
            pass  # a segment of labels has no answers
        return found, removed

    def _mark(self, kind: str) -> int:
        marks = [name.removeprefix(kind) for name in self._taken.taken() if name.startswith(kind)]
        return max((int(mark) for mark in marks if mark.isdigit()), default=-1)
