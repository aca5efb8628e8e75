"""`pllm.cache`: inspect, export, import, clear and check the cache."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pllm_notebook.callers import caller_stack_level
from pllm_notebook.exceptions import StoreError, UsageError
from pllm_notebook.formatting import counted, format_usd, strip_control_chars
from pllm_notebook.report_tables import HTMLFacts
from pllm_notebook.store import export_file
from pllm_notebook.store.label_file import Label, LabelFile
from pllm_notebook.store.model_filter import ModelFilter, asked_model
from pllm_notebook.store.process_stores import flush_stores, open_store

if TYPE_CHECKING:
    from pllm_notebook.store.disk_store import DiskStore

__all__ = ["CacheCheck", "CacheHandle", "CacheInfo", "age_in_seconds", "cache"]


@dataclass(frozen=True, slots=True)
class CacheInfo(HTMLFacts):
    """Contents of the cache.

    Attributes:
        directory: Cache directory.
        entries: Number of stored answers.
        bytes_on_disk: Size of the database and its related files.
        cost_usd: Original cost of these answers, in US dollars.
        unpriced: Number of answers of unknown price, not included in `cost_usd`.
        oldest: Arrival time of the oldest answer, in UTC; None without answers.
        newest: Arrival time of the newest answer, in UTC; None without answers.
        models: Number of answers by model, the most used first.
    """

    directory: str
    entries: int
    bytes_on_disk: int
    cost_usd: float
    unpriced: int
    oldest: datetime | None
    newest: datetime | None
    models: dict[str, int] = field(hash=False)

    def _facts(self) -> Iterator[tuple[str, str]]:
        yield "directory", self.directory
        yield "answers", f"{self.entries:,}"
        yield "on disk", _size(self.bytes_on_disk)
        unpriced = f" and {counted(self.unpriced, 'answer')} of unknown price" if self.unpriced else ""
        yield "their cost", f"{format_usd(self.cost_usd)}{unpriced}"
        if self.oldest and self.newest:
            yield "from", f"{self.oldest:%Y-%m-%d %H:%M} to {self.newest:%Y-%m-%d %H:%M} UTC"
        for model, number in self.models.items():
            yield model, f"{number:,}"

    def __repr__(self) -> str:
        return strip_control_chars("CacheInfo\n" + "\n".join(f"  {name:<12} {value}" for name, value in self._facts()))


@dataclass(frozen=True, slots=True)
class CacheCheck:
    """Result of a check of every row.

    Attributes:
        entries: Number of answers with a valid checksum.
        damaged: Number of damaged or unsafe rows. They count as absent and are requested again.
        fault: SQLite's description of what is wrong with the file, "" if nothing is.
    """

    entries: int
    damaged: int
    fault: str

    @property
    def ok(self) -> bool:
        """Whether the check found no fault."""
        return not self.damaged and not self.fault

    def __repr__(self) -> str:
        if self.ok:
            return f"CacheCheck: {counted(self.entries, 'answer', 'is')} whole, no damage found."
        fault = f" SQLite says: {self.fault}." if self.fault else ""
        damaged = f"{counted(self.damaged, 'row')} cannot be used"
        summary = f"CacheCheck: {counted(self.entries, 'answer', 'is')} whole, {damaged}.{fault}"
        return strip_control_chars(summary)


class CacheHandle:
    """The current cache, as set by `configure(cache_dir=…)` or PLLM_CACHE_DIR.

    Nothing is opened before the first use.

    Args:
        store: Called at each use; returns the store.
        wall_clock: Returns seconds since 1970.
    """

    def __init__(
        self, store: Callable[[], DiskStore] = open_store, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._open = store
        self._wall_clock = wall_clock

    @property
    def directory(self) -> str:
        """Directory in which new answers are stored."""
        return self._open().directory

    def info(self) -> CacheInfo:
        """Return the number of answers and their cost. Reads every entry: about a second for 100,000."""
        store = self._open()
        store.flush()
        entries = unpriced = 0
        cost_usd = 0.0
        models: dict[str, int] = {}
        times: list[float] = []
        for _, entry in store.iterate():
            metadata = entry.metadata
            entries += 1
            cost = metadata["cost_usd"]
            if cost is None:
                unpriced += 1
            else:
                cost_usd += cost
            name = asked_model(metadata)
            models[name] = models.get(name, 0) + 1
            if at := metadata["created_at"]:
                times = [min(at, times[0]), max(at, times[1])] if times else [at, at]
        return CacheInfo(
            directory=store.directory,
            entries=entries,
            bytes_on_disk=store.bytes_on_disk,
            cost_usd=cost_usd,
            unpriced=unpriced,
            oldest=datetime.fromtimestamp(times[0], UTC) if times else None,
            newest=datetime.fromtimestamp(times[1], UTC) if times else None,
            models=dict(sorted(models.items(), key=lambda pair: (-pair[1], pair[0]))),
        )

    def export(self, path: str | os.PathLike[str], *, overwrite: bool = False, labels: bool = False) -> int:
        """Write every answer to one file for another machine (see `export_file.export`) and return their number.

        Args:
            path: The file; `.jsonl.gz` is a suitable extension.
            overwrite: Whether an existing file is replaced.
            labels: Whether to include the labels of the directory. They contain cells of the labelled rows.
        """
        store = self._open()
        given = LabelFile(store.directory).for_others() if labels else ()
        return export_file.export(store, path, overwrite=overwrite, labels=given)

    def import_(self, path: str | os.PathLike[str]) -> int:
        """Add the missing answers from an exported file (see `export_file.import_`) and return their number.

        Labels in the file are also added, unless the same person has changed the label since.
        """
        store = self._open()
        if store.unwritable:
            raise StoreError(f"The cache in {store.directory} can only be read at the moment. Nothing was imported.")
        labels: list[Label] = []
        added = export_file.import_(store, path, labels)
        LabelFile(store.directory).merge(labels)
        return added

    def clear(self, model: str | None = None, older_than: timedelta | None = None) -> int:
        """Delete answers and failed calls. Requesting a deleted answer again costs money again.

        With neither argument, everything is deleted.

        Args:
            model: Delete only the answers of this model, as it was requested (`openai:gpt-6-luna`) or by its name
                alone (`gpt-6-luna`, from any provider). Providers report the name of a dated version, so a name also
                matches its versions (`gpt-6-luna-2026-08-01`). `sim:openai` matches every model that is simulated as
                OpenAI's. If nothing matches, a warning lists the models in the cache.
            older_than: Delete only answers that arrived at least this long ago, such as `timedelta(days=90)`.

        Returns:
            The number of answers deleted.

        Raises:
            UsageError: If *model* is not a model name, or *older_than* is not an age. Nothing was deleted.
        """
        chosen = ModelFilter(model, "Nothing was deleted.")
        age_s = age_in_seconds(older_than)
        before = None if age_s is None else self._wall_clock() - age_s
        store = self._open()
        store.flush()
        if model is None and before is None:
            removed = store.clear()
        else:

            def matches(name: str, created_at: float) -> bool:
                return chosen.takes(name) and (before is None or created_at <= before)

            metadata = ((key, entry.metadata) for key, entry in store.iterate())
            removed = store.delete(
                key for key, about in metadata if matches(asked_model(about), about.get("created_at", 0))
            )
            store.forget_failures([call.key for call in store.failures() if matches(call.model, call.at)])
            chosen.warn_unless_matched(store.directory)
        if store.below is not None:
            warnings.warn(
                f"{store.below} is read-only, so its answers were not deleted.", stacklevel=caller_stack_level()
            )
        if removed:
            store.vacuum()
        return removed

    def flush(self) -> None:
        """Wait until all results of finished runs are on disk.

        Nothing more is written there until the next call, so that a temporary cache directory can be deleted.
        """
        flush_stores()

    def check(self) -> CacheCheck:
        """Verify the checksum of every answer and the structure of the file. Changes nothing."""
        return CacheCheck(*self._open().check())

    def __repr__(self) -> str:
        return "<pllm.cache: info(), export(path), import_(path), clear(model=, older_than=), check(), flush()>"


cache = CacheHandle()
"""The cache of answers: `.info()`, `.export(path)`, `.import_(path)`, `.clear(model=, older_than=)`, `.check()`."""


def age_in_seconds(older_than: timedelta | None) -> float | None:
    """Return the age that a user passed, in seconds; None for None.

    A bare number is refused: days read as seconds would delete answers that were paid for.

    Raises:
        UsageError: If it is not a timedelta, or is negative. Nothing was deleted.
    """
    if older_than is None:
        return None
    if not isinstance(older_than, timedelta) or older_than < timedelta():
        raise UsageError(
            f"older_than is a timedelta of at least 0, such as timedelta(days=90), not {older_than!r}. "
            "Nothing was deleted."
        )
    return older_than.total_seconds()


def _size(number: float) -> str:
    if number < 1000:
        return f"{number:,.0f} B"
    for unit in ("kB", "MB"):
        number /= 1000
        if number < 1000:
            return f"{number:,.1f} {unit}"
    return f"{number / 1000:,.1f} GB"
