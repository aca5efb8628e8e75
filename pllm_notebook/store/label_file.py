"""Labels in the cache directory: what people say that rows are. One small SQLite file, beside the registry of runs.

A label is about the content of a row and not about a run: it outlives prompts, frames and kernels. Nothing is changed
in place. A newer label of the same person on the same row and field counts instead of the older, and undoing takes
the newest away again, which is noted for the machines that share labels. Each call opens the file, commits and closes
it: what has returned is on disk.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson

from pllm_notebook.exceptions import StoreError
from pllm_notebook.files import create_private, make_private_directory
from pllm_notebook.formatting import counted
from pllm_notebook.store.label_removals import (
    LabelRemoval,
    Place,
    add_removals,
    newest_id,
    note_removed,
    removals_in,
)

__all__ = ["Label", "LabelFile", "label_from_json", "label_to_json"]

_FILE = "labels.db"
_FORMAT = 1
_BUSY_S = 30.0
_TABLE = (
    "CREATE TABLE labels (id INTEGER PRIMARY KEY, columns TEXT NOT NULL, content INTEGER NOT NULL, field TEXT NOT NULL,"
    " value TEXT NOT NULL, by TEXT NOT NULL, at REAL NOT NULL, drawn_by TEXT, pi REAL, note TEXT, run TEXT, row TEXT,"
    " crc INTEGER)"
)
# Labels of earlier versions have no checksum, and earlier versions write none.
_ADD_CRC = "ALTER TABLE labels ADD COLUMN crc INTEGER"
_INDEX = "CREATE INDEX labels_row ON labels (columns, content, field, by)"
_COLUMNS = "columns, content, field, value, by, at, drawn_by, pi, note, run, row"
_INSERT = f"INSERT INTO labels (id, {_COLUMNS}, crc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# The newest of each person, row and field.
_NEWEST = "id IN (SELECT max(id) FROM labels GROUP BY columns, content, field, by)"
_HALF, _WHOLE = 2**63, 2**64
# The year 5138: a moment that is later cannot be shown.
_LATEST_S = 1e11

_log = logging.getLogger("pllm_notebook.store")


@dataclass(frozen=True, slots=True)
class Label:
    """What a person says that a field of a row is.

    Attributes:
        columns: Names of the columns that identify the row, in the order in which they were hashed.
        content: The hash of their cells, 0 to 2**64 - 1 (see `frames.hashing`).
        field: Of the answer, without a run's prefix.
        value: What is right, as JSON has it; a day or a moment as its text.
        by: Who says so.
        at: When, in seconds since 1970.
        drawn_by: How the row came to be labelled: "random", "doubt", "corrected" and so on; None for unknown.
        pi: The chance with which it was drawn, over 0 and at most 1; None for unknown. Only labels that have one may
            count in an interval.
        note: What the person wrote beside it.
        run: The id of the run whose answer was looked at.
        row: The cells, column by column, where they were kept: examples are made of them.
        id: In the file; 0 for one that is not in it.
    """

    columns: tuple[str, ...]
    content: int
    field: str
    value: Any
    by: str
    at: float
    drawn_by: str | None = None
    pi: float | None = None
    note: str | None = None
    run: str | None = None
    row: dict[str, Any] | None = None
    id: int = 0

    @property
    def place(self) -> Place:
        """Return what it is of, and whose: columns, content, field and person."""
        return self.columns, self.content, self.field, self.by


class LabelFile:
    """The labels of one cache directory. Used from any thread and process; holds no file open.

    Args:
        directory: The cache's. The file is made with the first label.
    """

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, _FILE)

    def __repr__(self) -> str:
        return f"LabelFile({self.path!r})"

    def add(self, labels: Sequence[Label]) -> list[int]:
        """Store labels, all or none, and return their ids.

        Raises:
            StoreError: If they cannot be written. The file is unharmed.
        """
        if not labels:
            return []
        with self._writing() as connection:
            # The number of a label that was taken back is not given again: what is above a number is new to others.
            newest = newest_id(connection)
            return [_inserted(connection, label, newest + at) for at, label in enumerate(labels, 1)]

    def remove(self, ids: Sequence[int]) -> int:
        """Delete labels by their ids, so that an earlier one of the same person counts again; return their number.

        Machines that share labels delete them too.
        """
        if not self._is_there():
            return 0
        with self._transaction("BEGIN IMMEDIATE") as connection:
            note_removed(connection, ids)
            before = connection.total_changes
            connection.executemany("DELETE FROM labels WHERE id = ?", [(one,) for one in ids])
            return connection.total_changes - before

    def current(self, columns: Sequence[str] | None = None, field: str | None = None) -> list[Label]:
        """Return the label of each person on each row and field, oldest first.

        Args:
            columns: Only those of rows that these columns identify; None for all.
            field: Only those of this field.

        Raises:
            StoreError: If the file cannot be read.
        """
        query, values = _NEWEST, []
        if columns is not None:
            query, values = f"{query} AND columns = ?", [_written(list(columns))]
        if field is not None:
            query, values = f"{query} AND field = ?", [*values, field]
        return self._read(query, values)

    def chances(self, field: str) -> dict[tuple[tuple[str, ...], int], tuple[float, str | None]]:
        """Return the largest chance with which each labelled row of a field was drawn, and `drawn_by` of that label.

        A row that was drawn and corrected later was drawn all the same: leaving it out would leave out what was wrong.
        """
        found: dict[tuple[tuple[str, ...], int], tuple[float, str | None]] = {}
        for label in self._read("field = ? AND pi IS NOT NULL", [field]):
            place = (label.columns, label.content)
            if label.pi is not None and (place not in found or label.pi > found[place][0]):
                found[place] = (float(label.pi), label.drawn_by)
        return found

    def for_others(self) -> list[Label]:
        """Return the labels as they go elsewhere: each with the chance with which its row was drawn (see `chances`)."""
        every = self.current()
        chances = {field: self.chances(field) for field in {label.field for label in every}}
        made = []
        for label in every:
            pi, drawn_by = chances[label.field].get((label.columns, label.content), (label.pi, label.drawn_by))
            made.append(replace(label, pi=pi, drawn_by=drawn_by))
        return made

    def merge(self, labels: Sequence[Label]) -> int:
        """Add labels that came from elsewhere, and return how many were new.

        What is here already is left out, and so is what the same person has said otherwise since. A label that was
        taken back here is given again, now.
        """
        here = {one.place: one for one in self.current()}
        removed = {(one.place, one.at) for one in self.removals()}
        new = {}
        for label in sorted(labels, key=lambda label: label.at):
            known = here.get(label.place)
            if known is None or (label.at > known.at and _written(label.value) != _written(known.value)):
                new[label.place] = replace(label, at=time.time()) if (label.place, label.at) in removed else label
        # The newest counts: they go behind what is here, in the order of time.
        self.add(list(new.values()))
        return len(new)

    def take_in(self, labels: Sequence[Label], removals: Sequence[LabelRemoval]) -> tuple[int, int]:
        """Add labels of other machines as `merge` does, but for those that were taken back, here or there.

        Returns:
            How many labels and how many removals were new.
        """
        if not labels and not removals:
            return 0, 0
        with self._writing() as connection:
            removed = add_removals(connection, removals)
            known = {(one.place, one.at) for one in removals_in(connection)}
        return self.merge([one for one in labels if (one.place, one.at) not in known]), removed

    def removals(self) -> list[LabelRemoval]:
        """Return the labels that were taken back with this file, oldest first."""
        if not self._is_there():
            return []
        with self._transaction("BEGIN") as connection:
            return removals_in(connection, own=True)

    def newest(self) -> int:
        """Return the largest id, of labels that were taken back too; 0 without a label."""
        if not self._is_there():
            return 0
        with self._transaction("BEGIN") as connection:
            return newest_id(connection)

    def column_sets(self) -> list[tuple[str, ...]]:
        """Return the sets of columns that identify rows with labels."""
        return list(dict.fromkeys(label.columns for label in self.current()))

    def _read(self, where: str, values: Sequence[str]) -> list[Label]:
        """Return the labels for which a condition holds, oldest first; damaged ones are left out with a warning."""
        if not self._is_there():
            return []
        with self._transaction("BEGIN") as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                return []
            crc = "crc" if _has_crc(connection) else "NULL"
            query = f"SELECT id, {_COLUMNS}, {crc} FROM labels WHERE {where} ORDER BY id"
            found = [_label(row) for row in connection.execute(query, values)]
        if lost := found.count(None):
            _log.warning("%s in %s cannot be read (damage), and %s left out.", counted(lost, "label"), self.path,
                         "is" if lost == 1 else "are")  # fmt: skip
        return [label for label in found if label is not None]

    def _is_there(self) -> bool:
        return os.path.exists(self.path) and os.path.getsize(self.path) > 0

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Open the file for writing, and make it where it is not there."""
        try:
            make_private_directory(os.path.dirname(self.path))
            create_private(self.path)
        except OSError as error:
            raise StoreError(f"The labels could not be written to {self.path}: {error}.") from error
        with self._transaction("BEGIN IMMEDIATE") as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                connection.execute(_TABLE)
                connection.execute(_INDEX)
                connection.execute(f"PRAGMA user_version = {_FORMAT}")
            elif not _has_crc(connection):
                connection.execute(_ADD_CRC)
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)) as connection:
                connection.execute("PRAGMA trusted_schema = 0")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(begin)
                if connection.execute("PRAGMA user_version").fetchone()[0] > _FORMAT:
                    raise StoreError(
                        f"{self.path} was written by a later version of pllm_notebook. It was not changed."
                    )
                try:
                    yield connection
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise StoreError(
                f"The labels in {self.path} could not be read or written: {error}. The file was not changed; an export "
                f"(pllm.labels.export) or a copy of it can take its place."
            ) from error


def _has_crc(connection: sqlite3.Connection) -> bool:
    return any(column[1] == "crc" for column in connection.execute("PRAGMA table_info(labels)"))


def _inserted(connection: sqlite3.Connection, label: Label, number: int) -> int:
    row = None if label.row is None else _written(label.row)
    signed = label.content - _WHOLE if label.content >= _HALF else label.content
    values = (_written(list(label.columns)), signed, label.field, _written(label.value), label.by, float(label.at),
              label.drawn_by, None if label.pi is None else float(label.pi), label.note, label.run, row)  # fmt: skip
    return int(connection.execute(_INSERT, (number, *values, _crc(values))).lastrowid or 0)


def _crc(values: Sequence[Any]) -> int:
    return zlib.crc32(orjson.dumps(values))


def _label(row: tuple[Any, ...]) -> Label | None:
    """Return the label that a row has, None for one that was damaged."""
    number, *values, crc = row
    columns, content, field, value, by, at, drawn_by, pi, note, run, cells = values
    try:
        if crc is not None and crc != _crc(values):
            return None
        return Label(
            columns=tuple(orjson.loads(columns)),
            content=content % _WHOLE,
            field=field,
            value=orjson.loads(value),
            by=by,
            at=at,
            drawn_by=drawn_by,
            pi=pi,
            note=note,
            run=run,
            row=None if cells is None else orjson.loads(cells),
            id=number,
        )
    except (TypeError, ValueError):
        return None


def _written(value: Any) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS).decode()


def label_to_json(label: Label) -> dict[str, Any]:
    """Return a label as plain data, without its id."""
    return asdict(label) | {"id": 0}


def label_from_json(fields: Any) -> Label | None:
    """Return the label that `label_to_json` wrote, None for what is none: it may come from anywhere."""
    try:
        label = Label(**{**fields, "columns": tuple(fields["columns"]), "id": 0})
        _written(label.value), _written(label.row)
    except (TypeError, KeyError, ValueError):
        return None
    texts = (label.field, label.by, *label.columns)
    optional = (label.drawn_by, label.note, label.run)
    is_whole = (
        all(type(text) is str for text in texts)
        and all(text is None or type(text) is str for text in optional)
        and type(label.content) is int
        and 0 <= label.content < _WHOLE
        and type(label.at) in (int, float)
        and 0 <= label.at < _LATEST_S
        and (label.pi is None or (type(label.pi) in (int, float) and 0 < label.pi <= 1))
        and (label.row is None or type(label.row) is dict)
    )
    return label if is_whole else None
