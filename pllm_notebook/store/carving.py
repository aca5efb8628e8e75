"""Reader of rows directly from the pages of a database whose tree is damaged.

SQLite finds rows through a tree that starts at the first page. One changed byte near the root hides every answer,
although all of them are still in the file. The page format never changes (sqlite.org/fileformat2.html), and a row's
checksum shows whether it was read correctly.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from pllm_notebook.store.diskcache_adapter import COLUMNS

__all__ = ["CarvedRow", "carve"]

_PAGE = 4096
_LEAF = 13
_FIRST_CELL = 8
# Bytes of payload stored in the page itself: all of them up to the first limit, otherwise between the two limits.
_MOST_INSIDE = _PAGE - 35
_LEAST_INSIDE = (_PAGE - 12) * 32 // 255 - 23
# No answer comes near this size. Without a limit, a damaged length could request all memory.
_LONGEST = 2**29
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
_KEY, _RAW, _MODE, _FILENAME, _VALUE = (COLUMNS.index(name) for name in ("key", "raw", "mode", "filename", "value"))


class CarvedRow(NamedTuple):
    """A row as read from its page, not yet checked."""

    key: Any
    mode: Any
    filename: Any
    value: Any


def carve(path: str) -> Iterator[CarvedRow]:
    """Read every row that has the form of an answer, from each table page that is in use.

    Args:
        path: The database file. Its -wal file is not read.

    Returns:
        The rows of each page, with pages ordered by their first row number. Deleted rows are not included.
    """
    with open(path, "rb") as file:
        pages = _Pages(file)
        for _, number in sorted(pages.leaves()):
            page = pages[number]
            for at in _cells(page):
                row = _row(pages, page, at)
                if row is not None:
                    yield row


class _Pages:
    def __init__(self, file: Any) -> None:
        self._file = file
        self._count = os.fstat(file.fileno()).st_size // _PAGE

    def __getitem__(self, number: int) -> bytes:
        if not 1 <= number <= self._count:
            raise IndexError(number)
        self._file.seek((number - 1) * _PAGE)
        return bytes(self._file.read(_PAGE))

    def leaves(self) -> Iterator[tuple[int, int]]:
        """Yield the first row number and the page number of each page of rows that is in use."""
        free = self._free()
        for number in range(2, self._count + 1):
            page = self[number]
            if page[0] == _LEAF and number not in free:
                cells = _cells(page)
                try:
                    yield (_varint(page, _varint(page, cells[0])[1])[0] if cells else 0), number
                except IndexError:
                    yield 0, number

    def _free(self) -> set[int]:
        """Return the free pages of the file, whose rows were deleted."""
        free: set[int] = set()
        trunk = int.from_bytes(self[1][32:36], "big") if self._count else 0
        while 1 < trunk <= self._count and trunk not in free:
            page = self[trunk]
            count = min(int.from_bytes(page[4:8], "big"), _PAGE // 4 - 2)
            free.add(trunk)
            free.update(int.from_bytes(page[at : at + 4], "big") for at in range(8, 8 + 4 * count, 4))
            trunk = int.from_bytes(page[:4], "big")
        return free


def _cells(page: bytes) -> list[int]:
    count = min(int.from_bytes(page[3:5], "big"), (_PAGE - _FIRST_CELL) // 2)
    places = range(_FIRST_CELL, _FIRST_CELL + 2 * count, 2)
    return [at for place in places if (at := int.from_bytes(page[place : place + 2], "big")) < _PAGE]


def _row(pages: _Pages, page: bytes, at: int) -> CarvedRow | None:
    """Read one row; return None if it cannot be read or belongs to another table."""
    try:
        length, at = _varint(page, at)
        _, at = _varint(page, at)
        payload = _payload(pages, page, at, length)
        values = _values(payload)
    except (IndexError, ValueError):
        return None
    if len(values) != len(COLUMNS) or values[_RAW] != 1:
        return None
    return CarvedRow(values[_KEY], values[_MODE], values[_FILENAME], values[_VALUE])


def _payload(pages: _Pages, page: bytes, at: int, length: int) -> bytes:
    if length > _LONGEST:
        raise ValueError(length)
    if length <= _MOST_INSIDE:
        return page[at : at + length]
    inside = _LEAST_INSIDE + (length - _LEAST_INSIDE) % (_PAGE - 4)
    inside = inside if inside <= _MOST_INSIDE else _LEAST_INSIDE
    parts, left = [page[at : at + inside]], length - inside
    following = int.from_bytes(page[at + inside : at + inside + 4], "big")
    while left > 0:
        overflow = pages[following]
        parts.append(overflow[4 : 4 + left])
        following, left = int.from_bytes(overflow[:4], "big"), left - (_PAGE - 4)
    return b"".join(parts)


def _values(payload: bytes) -> list[Any]:
    """Return the values of a record, in which the types of all values come first."""
    head, at = _varint(payload, 0)
    kinds = []
    while at < head:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values: list[Any] = []
    for kind in kinds:
        size = _INTEGER_BYTES[kind] if kind < len(_INTEGER_BYTES) else (kind - 12) // 2
        piece = payload[at : at + size]
        if len(piece) != size:
            raise ValueError(size)
        at += size
        values.append(_value(kind, piece))
    return values


def _value(kind: int, piece: bytes) -> Any:
    if kind == 0:
        return None
    if kind in (8, 9):
        return kind - 8
    if kind < len(_INTEGER_BYTES):  # includes floats (times), which are not used
        return int.from_bytes(piece, "big", signed=True)
    return piece if kind % 2 == 0 else piece.decode("utf-8", "replace")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of one to nine bytes. Return it and the offset after it."""
    value = 0
    for step in range(8):
        byte = data[at + step]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + step + 1
    return value << 8 | data[at + 8], at + 9
