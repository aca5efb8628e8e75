"""Labels in a directory that several machines share: new ones are shipped as segments, others' are taken in.

A segment of labels is an export without answers, under a name that earlier versions do not look at. What was undone on
one machine stays on the others: segments are never changed.
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

__all__ = ["LabelShare"]

_PREFIX, _SUFFIX, _MARK = "lab-", ".jsonl.gz", "labels up to "

_log = logging.getLogger("pllm_notebook.store")


class _Taken(Protocol):
    def taken(self) -> set[str]: ...
    def take(self, names: list[str]) -> None: ...


class LabelShare:
    """The labels of one cache directory beside those of others.

    Args:
        directory: The cache's.
        taken: Remembers which segments need no further look, and which labels were shipped.
        write: Writes a segment, whole, from its name and content.
        read: Returns the content of a segment.
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
        """Note what is labelled before anything is shared: it is not shared, as earlier answers are not."""
        if self._mark() < 0:
            self._taken.take([f"{_MARK}{self._file.newest()}"])

    def ship(self) -> int:
        """Write the labels that were added since the last time, and return their number."""
        mark = self._mark()
        new = [label for label in self._file.for_others() if label.id > mark]
        if new:
            content = io.BytesIO()
            write_entries(content, (), level=1, labels=new)
            name = f"{_PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex}{_SUFFIX}"
            self._write(name, content.getvalue())
            self._taken.take([name, f"{_MARK}{max(label.id for label in new)}"])
        return len(new)

    def take_in(self, names: Iterable[str]) -> int:
        """Add the labels of segments among *names* that are not known yet, and return how many were new."""
        taken, added = self._taken.taken(), 0
        for name in sorted(names):
            if name.startswith(_PREFIX) and name.endswith(_SUFFIX) and name not in taken:
                try:
                    found = self._labels_in(name)
                except Exception as error:
                    # It may be whole at the next look, and the labels in others are not its.
                    _log.warning("A segment of shared labels was left out: %s", error)
                    continue
                before = self._file.newest()
                new = self._file.merge(found)
                # What came from there is not shipped back, unless a person has labelled meanwhile.
                after = self._file.newest()
                mark = [f"{_MARK}{after}"] if after - before == new and self._mark() >= before else []
                self._taken.take([name, *mark])
                added += new
        return added

    def _labels_in(self, name: str) -> list[Label]:
        found: list[Label] = []
        for _ in read_entries(io.BytesIO(self._read(name)), name, found):
            pass  # a segment of labels has no answers
        return found

    def _mark(self) -> int:
        marks = [name.removeprefix(_MARK) for name in self._taken.taken() if name.startswith(_MARK)]
        return max((int(mark) for mark in marks if mark.isdigit()), default=-1)
