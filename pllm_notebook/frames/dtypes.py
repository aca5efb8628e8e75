"""The kind of column that a field becomes: it follows from the annotation, whatever the dataframe library."""

from __future__ import annotations

import datetime as dt
import decimal
import ipaddress
import pathlib
import re
import types
import typing
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, Flag, StrEnum
from functools import cache
from typing import Any, Literal

import pydantic

from pllm_notebook.frames.plain_data import as_json_text, plain_data
from pllm_notebook.frames.value_types import BINARY, DATE, DECIMAL, ValueType, data_type
from pllm_notebook.schema import is_beyond

__all__ = ["CellType", "Column", "Kind", "column_of", "core", "plain", "read_back"]


class Kind(StrEnum):
    """The kinds of column; each dataframe library names its own dtype for them.

    A MOMENT is in UTC; a DATETIME has no zone, and a value that has one becomes UTC without it. A SCALAR is held as
    Python's own objects (Decimal, bytes). DATA is nested: dicts and lists of what JSON has (see `plain_data`). JSON is
    the same as JSON text. WORDS are values that have a text and no dtype (UUID, Path, time, addresses). An OBJECT is
    whatever it is.
    """

    TEXT = "text"
    INTEGER = "integer"
    REAL = "real"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    DATETIME = "datetime"
    MOMENT = "moment"
    DURATION = "duration"
    SCALAR = "scalar"
    WORDS = "words"
    DATA = "data"
    JSON = "json"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class Column:
    """One result column.

    Attributes:
        name: With the run's prefix.
        kind: What it holds.
        categories: All values it may have, in the type's order; () where the type does not list them.
        type: What its values are, for libraries whose columns say it of a day, a Decimal or nested data; None where the
            annotation does not say it, or the kind does.
    """

    name: str
    kind: Kind
    categories: tuple[Any, ...] = ()
    type: ValueType | None = None


class CellType(StrEnum):
    """Types of the columns of a report, such as errors, usage or runs; a library has a dtype for each.

    COUNT and SECONDS are whole and real numbers that are never missing. LABEL is any object, such as a row's index.
    """

    TEXT = "text"
    INTEGER = "integer"
    COUNT = "count"
    REAL = "real"
    SECONDS = "seconds"
    BOOLEAN = "boolean"
    MOMENT = "moment"
    DURATION = "duration"
    LABEL = "label"


_KINDS: dict[Any, Kind] = {
    str: Kind.TEXT,
    int: Kind.INTEGER,
    float: Kind.REAL,
    bool: Kind.BOOLEAN,
    dt.date: Kind.DATETIME,
    dt.datetime: Kind.DATETIME,
    dt.timedelta: Kind.DURATION,
    bytes: Kind.SCALAR,
    decimal.Decimal: Kind.SCALAR,
    # Classes of their own at run time, whatever type checkers see.
    pydantic.AwareDatetime: Kind.MOMENT,
    pydantic.FutureDate: Kind.DATETIME,
    pydantic.FutureDatetime: Kind.DATETIME,
    pydantic.NaiveDatetime: Kind.DATETIME,
    pydantic.PastDate: Kind.DATETIME,
    pydantic.PastDatetime: Kind.DATETIME,
}


_TYPES: dict[Any, ValueType] = {
    dt.date: DATE,
    pydantic.FutureDate: DATE,
    pydantic.PastDate: DATE,
    bytes: BINARY,
    decimal.Decimal: DECIMAL,
}

_TIMES: dict[Kind, Any] = {
    Kind.MOMENT: dt.datetime | dt.date,
    Kind.DATETIME: dt.datetime | dt.date,
    Kind.DURATION: dt.timedelta,
}

# What the annotation says more exactly than the kind: read back as anything else, a column would become text.
_READ_AS: dict[ValueType | None, Any] = {DATE: dt.date, DECIMAL: decimal.Decimal, BINARY: bytes}

# Types whose text is complete; pandas would write their internals.
# A time with a zone has no dtype.
_WORDED = (
    dt.time,
    uuid.UUID,
    pathlib.PurePath,
    ipaddress._IPAddressBase,
    re.Pattern,
    pydantic.AnyUrl,
)


def column_of(name: str, left: Any, nested: str = "data") -> Column:
    """Decide what kind of column holds values of a type.

    Args:
        name: With the run's prefix.
        left: The annotation, as validators leave it (see `schema.validators.left_by`).
        nested: As in `Options`.
    """
    kind = core(left)
    other = {"model": Kind.OBJECT, "json": Kind.JSON}.get(nested, Kind.DATA)
    if typing.get_origin(kind) is Literal:
        values = tuple(value for value in _literal(kind) if value is not None)
        return _of_values(name, values, other)
    if not isinstance(kind, type):
        return _nested(name, other, left)
    if issubclass(kind, Flag):  # combined members make values that are not a member's
        return Column(name, Kind.INTEGER)
    if issubclass(kind, Enum):
        values = tuple(dict.fromkeys(member.value for member in kind))
        return _of_values(name, values, other)
    if nested != "model" and issubclass(kind, _WORDED):
        return Column(name, Kind.WORDS)
    if kind not in _KINDS:
        return _nested(name, other, left)
    return Column(name, _KINDS[kind], type=_TYPES.get(kind))


def _nested(name: str, kind: Kind, left: Any) -> Column:
    return Column(name, kind, type=data_type(left) if kind is Kind.DATA else None)


def plain(column: Column, values: Sequence[Any]) -> list[Any]:
    """Return a column's values as its library should get them: values of Enums, moments in one zone, plain data."""
    if column.kind is Kind.DATA:
        return [plain_data(value) for value in values]
    if column.kind is Kind.JSON:
        return [as_json_text(value) for value in values]
    if column.kind is Kind.OBJECT:
        return list(values)
    if any(issubclass(kind, Enum) for kind in set(map(type, values))):
        values = [value.value if isinstance(value, Enum) else value for value in values]
    if column.kind is Kind.WORDS:
        return [None if value is None else str(value) for value in values]
    if column.kind in (Kind.DATETIME, Kind.MOMENT):
        return _moments(values, dt.UTC if column.kind is Kind.MOMENT else None)
    return list(values)


def read_back(column: Column, values: Sequence[Any]) -> list[Any]:
    """Return values as JSON has them as a library takes them: dates, durations, Decimals, bytes from their texts."""
    kind = _READ_AS.get(column.type) or _TIMES.get(column.kind)
    if kind is None:
        return list(values)
    adapter = _adapter(kind)
    found: list[Any] = []
    for value in values:
        try:
            found.append(None if value is None else adapter.validate_python(value))
        except pydantic.ValidationError:
            found.append(value)
    return found


@cache
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind)


def _moments(values: Iterable[Any], zone: dt.tzinfo | None) -> list[Any]:
    """Return datetimes of one zone, or of none: by the type, since the dtype must not follow from the rows.

    A moment with a zone is converted to UTC; one without is taken as UTC.
    """
    return [_in_utc(value).replace(tzinfo=zone) if isinstance(value, dt.datetime) else value for value in values]


def _in_utc(value: dt.datetime) -> dt.datetime:
    try:
        return value if value.tzinfo is None else value.astimezone(dt.UTC)
    except OverflowError:  # the first or last day that Python has
        return value


def core(annotation: Any) -> Any:
    """Return a type without `Annotated`, `Optional`, aliases and NewTypes."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in (typing.Union, types.UnionType):
            inner = [arg for arg in typing.get_args(annotation) if arg is not type(None)]
            if len(inner) != 1:
                return object
            annotation = inner[0]
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # `type X = …` of Python 3.12, or its backport
            annotation = annotation.__value__
        else:
            return annotation


def _literal(annotation: Any) -> list[Any]:
    values: list[Any] = []
    for arg in typing.get_args(annotation):
        values += [arg.value if isinstance(arg, Enum) else arg]
    return list(dict.fromkeys(values))


def _of_values(name: str, values: tuple[Any, ...], other: Kind) -> Column:
    """Return the column of a type that lists its values.

    Text is a category. Numbers and truth values keep their own dtype: as a category they would come back from Parquet
    without their other values, and could not be counted with.
    """
    kinds = {type(value) for value in values}
    if len(kinds) != 1:
        return Column(name, other)
    kind = _KINDS.get(kinds.pop(), other)
    if kind is Kind.INTEGER and any(map(is_beyond, values)):
        return Column(name, Kind.SCALAR)
    return Column(name, Kind.CATEGORY if kind is Kind.TEXT else kind, values)
