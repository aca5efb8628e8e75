"""Labels in the cache directory: the right values of rows, as given by people. One small SQLite file.

A label belongs to the content of a row, not to a run: it outlives prompts, frames and kernels. Labels are never
changed in place. A newer label of the same person on the same row and field replaces the older one. Undo deletes the
newest label, and records the removal for the machines that share labels. Each call opens the file, commits and closes
it, so a change is on disk when the call returns.
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
# Labels from earlier versions have no checksum.
_ADD_CRC = "ALTER TABLE labels ADD COLUMN crc INTEGER"
_INDEX = "CREATE INDEX labels_row ON labels (columns, content, field, by)"
_COLUMNS = "columns, content, field, value, by, at, drawn_by, pi, note, run, row"
_INSERT = f"INSERT INTO labels (id, {_COLUMNS}, crc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# The newest label of each person, row and field.
_NEWEST = "id IN (SELECT max(id) FROM labels GROUP BY columns, content, field, by)"
_HALF, _WHOLE = 2**63, 2**64
# The year 5138. A later time cannot be shown.
_LATEST_S = 1e11

_log = logging.getLogger("pllm_notebook.store")


@dataclass(frozen=True, slots=True)
class Label:
    """The right value of one field of a row, according to one person.

    Attributes:
        columns: Names of the columns that identify the row, in the order in which they were hashed.
        content: Hash of their cells, 0 to 2**64 - 1 (see `frames.hashing`).
        field: Field of the answer, without a run's prefix.
        value: The right value, as JSON; a date or time as text.
        by: The person.
        at: Time in seconds since 1970.
        drawn_by: How the row was selected for labelling: "random", "doubt", "corrected" and so on; None if unknown.
        pi: Probability with which the row was drawn, above 0 and at most 1; None if unknown. Only labels with a
            probability may count in a confidence interval.
        note: The person's note, None without one.
        run: Id of the run whose answer was labelled, None if unknown.
        row: Cells by column name, from which examples are built; None if they were not kept.
        id: Id in the file; 0 for a label that is not in the file.
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
        """Columns, content, field and person: a newer label with the same place replaces this one."""
        return self.columns, self.content, self.field, self.by


class LabelFile:
    """The labels of one cache directory, for any number of threads and processes. Keeps no file open.

    Args:
        directory: The cache directory. The file is created with the first label.
    """

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, _FILE)

    def __repr__(self) -> str:
        return f"LabelFile({self.path!r})"

    def add(self, labels: Sequence[Label]) -> list[int]:
        """Store all of *labels* or none, and return their ids.

        Raises:
            StoreError: If they cannot be written. The file is unchanged.
        """
        if not labels:
            return []
        with self._writing() as connection:
            # The id of a removed label is never used again: labels with an id above the last shipped one are new.
            newest = newest_id(connection)
            return [_inserted(connection, label, newest + at) for at, label in enumerate(labels, 1)]

    def remove(self, ids: Sequence[int]) -> int:
        """Delete labels by id, and return the number deleted. An earlier label of the same person counts again.

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
        """Return the newest label of each person on each row and field, oldest first.

        Args:
            columns: Return only labels of rows that these columns identify; None for all.
            field: Return only labels of this field; None for all.

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
        """Return the largest `pi` of each labelled row of a field, and the `drawn_by` of that label.

        The keys are pairs of columns and content. A row that was drawn at random and corrected later still counts as
        drawn: an estimate without it would leave out the wrong answers.
        """
        found: dict[tuple[tuple[str, ...], int], tuple[float, str | None]] = {}
        for label in self._read("field = ? AND pi IS NOT NULL", [field]):
            place = (label.columns, label.content)
            if label.pi is not None and (place not in found or label.pi > found[place][0]):
                found[place] = (float(label.pi), label.drawn_by)
        return found

    def for_others(self) -> list[Label]:
        """Return the current labels for another machine, each with the largest `pi` of its row (see `chances`)."""
        every = self.current()
        chances = {field: self.chances(field) for field in {label.field for label in every}}
        made = []
        for label in every:
            pi, drawn_by = chances[label.field].get((label.columns, label.content), (label.pi, label.drawn_by))
            made.append(replace(label, pi=pi, drawn_by=drawn_by))
        return made

    def merge(self, labels: Sequence[Label]) -> int:
        """Add labels from another machine or file, and return the number added.

        A label is left out if this file has one of the same person on the same row and field that is at least as new
        or has the same value. A label that was removed here is added again, with the present time.
        """
        here = {one.place: one for one in self.current()}
        removed = {(one.place, one.at) for one in self.removals()}
        new = {}
        for label in sorted(labels, key=lambda label: label.at):
            known = here.get(label.place)
            if known is None or (label.at > known.at and _written(label.value) != _written(known.value)):
                new[label.place] = replace(label, at=time.time()) if (label.place, label.at) in removed else label
        # The newest label counts, so these are added after the existing ones.
        self.add(list(new.values()))
        return len(new)

    def take_in(self, labels: Sequence[Label], removals: Sequence[LabelRemoval]) -> tuple[int, int]:
        """Add labels of other machines as `merge` does, except those that were removed here or there.

        Returns:
            The number of new labels and the number of new removals.
        """
        if not labels and not removals:
            return 0, 0
        with self._writing() as connection:
            removed = add_removals(connection, removals)
            known = {(one.place, one.at) for one in removals_in(connection)}
        return self.merge([one for one in labels if (one.place, one.at) not in known]), removed

    def removals(self) -> list[LabelRemoval]:
        """Return the removals made through this file, not those from other machines. Oldest first."""
        if not self._is_there():
            return []
        with self._transaction("BEGIN") as connection:
            return removals_in(connection, own=True)

    def newest(self) -> int:
        """Return the largest id of any label, including removed ones; 0 without labels."""
        if not self._is_there():
            return 0
        with self._transaction("BEGIN") as connection:
            return newest_id(connection)

    def column_sets(self) -> list[tuple[str, ...]]:
        """Return the sets of columns that identify labelled rows."""
        return list(dict.fromkeys(label.columns for label in self.current()))

    def _read(self, where: str, values: Sequence[str]) -> list[Label]:
        """Return the labels that meet a condition, oldest first. Damaged labels are left out with a warning."""
        if not self._is_there():
            return []
        with self._transaction("BEGIN") as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                return []
            crc = "crc" if _has_crc(connection) else "NULL"
            query = f"SELECT id, {_COLUMNS}, {crc} FROM labels WHERE {where} ORDER BY id"
            found = [_label(row) for row in connection.execute(query, values)]
        if lost := found.count(None):
            are = "is" if lost == 1 else "are"
            _log.warning("%s in %s %s damaged and left out.", counted(lost, "label"), self.path, are)
        return [label for label in found if label is not None]

    def _is_there(self) -> bool:
        return os.path.exists(self.path) and os.path.getsize(self.path) > 0

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Open the file for writing, and create it if it does not exist."""
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
                f"The labels in {self.path} could not be read or written: {error}. The file was not changed. To go on, "
                f"replace it with a copy, or move it away and import an export (pllm.labels.import_)."
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
    """Return the label in a row, None if it is damaged."""
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
    """Return the label that `label_to_json` wrote; None for anything else: *fields* may come from anywhere."""
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
