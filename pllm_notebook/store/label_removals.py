"""Removals of labels, kept beside the labels so that other machines of a shared directory remove them too.

A removal identifies one label by its row, field, person and time. A label that arrives later from another machine
stays removed; a person who imports a file restores it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

__all__ = [
    "LabelRemoval",
    "Place",
    "add_removals",
    "newest_id",
    "note_removed",
    "removal_from_json",
    "removal_to_json",
    "removals_in",
]

_TABLE = (
    "CREATE TABLE IF NOT EXISTS removals (number INTEGER PRIMARY KEY, columns TEXT NOT NULL, content INTEGER NOT NULL,"
    " field TEXT NOT NULL, by TEXT NOT NULL, at REAL NOT NULL, own INTEGER NOT NULL, id INTEGER)"
)
_NAMES = "columns, content, field, by, at"
_SAME = "WHERE columns = :columns AND content = :content AND field = :field AND by = :by AND at = :at"
_HALF, _WHOLE = 2**63, 2**64

Place = tuple[tuple[str, ...], int, str, str]
"""Columns, content, field and person of a label."""


@dataclass(frozen=True, slots=True)
class LabelRemoval:
    """The removal of one label (see `Label` for the fields).

    Attributes:
        columns: Names of the columns that identify the row.
        content: Hash of their cells.
        field: Field of the answer.
        by: The person whose label was removed.
        at: Time of the label, in seconds since 1970.
        number: Number in the file, ascending; 0 for a removal that is not in the file.
    """

    columns: tuple[str, ...]
    content: int
    field: str
    by: str
    at: float
    number: int = 0

    @property
    def place(self) -> Place:
        """Columns, content, field and person of the label."""
        return self.columns, self.content, self.field, self.by


def note_removed(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Record the labels with these ids as removed here, before they are deleted."""
    connection.execute(_TABLE)
    connection.executemany(
        f"INSERT INTO removals ({_NAMES}, own, id) SELECT {_NAMES}, 1, id FROM labels WHERE id = ?",
        [(one,) for one in ids],
    )


def add_removals(connection: sqlite3.Connection, removals: Iterable[LabelRemoval]) -> int:
    """Record removals from other machines, delete their labels, and return the number of new removals."""
    connection.execute(_TABLE)
    known = {(one.place, one.at) for one in removals_in(connection)}
    new = list({(one.place, one.at): one for one in removals if (one.place, one.at) not in known}.values())
    lines = [
        {
            "columns": orjson.dumps(list(one.columns)).decode(),
            "content": _signed(one.content),
            "field": one.field,
            "by": one.by,
            "at": one.at,
        }
        for one in new
    ]
    connection.executemany(
        f"INSERT INTO removals ({_NAMES}, own, id) "
        f"VALUES (:columns, :content, :field, :by, :at, 0, (SELECT max(id) FROM labels {_SAME}))",
        lines,
    )
    connection.executemany(f"DELETE FROM labels {_SAME}", lines)
    return len(new)


def newest_id(connection: sqlite3.Connection) -> int:
    """Return the largest id that any label of the file has had, 0 without labels."""
    largest = [connection.execute("SELECT max(id) FROM labels").fetchone()[0]]
    if _is_there(connection):
        largest += [connection.execute("SELECT max(id) FROM removals").fetchone()[0]]
    return max(one or 0 for one in largest)


def removals_in(connection: sqlite3.Connection, *, own: bool = False) -> list[LabelRemoval]:
    """Return the removals in a file, oldest first. With *own*, return only those made through this file."""
    if not _is_there(connection):
        return []
    query = f"SELECT {_NAMES}, number FROM removals{' WHERE own' if own else ''} ORDER BY number"
    return [
        LabelRemoval(tuple(orjson.loads(columns)), content % _WHOLE, field, by, at, number)
        for columns, content, field, by, at, number in connection.execute(query)
    ]


def removal_to_json(removal: LabelRemoval) -> dict[str, Any]:
    """Return a removal as plain data. Earlier versions do not read it as a label, and leave it out."""
    return asdict(removal) | {"number": 0, "removed": True}


def removal_from_json(fields: Any) -> LabelRemoval | None:
    """Return the removal that `removal_to_json` wrote; None for anything else: *fields* may come from anywhere."""
    try:
        known = {name: fields[name] for name in ("content", "field", "by", "at")}
        removal = LabelRemoval(columns=tuple(fields["columns"]), **known)
        is_removal = fields["removed"] is True
    except (TypeError, KeyError, ValueError):
        return None
    is_whole = (
        is_removal
        and all(type(text) is str for text in (removal.field, removal.by, *removal.columns))
        and type(removal.content) is int
        and 0 <= removal.content < _WHOLE
        and type(removal.at) in (int, float)
    )
    return removal if is_whole else None


def _is_there(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'removals'").fetchone() is not None


def _signed(content: int) -> int:
    return content - _WHOLE if content >= _HALF else content
