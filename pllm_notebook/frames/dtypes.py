"""The kind of a field's column, which follows from the annotation and is the same for all dataframe libraries."""

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
    """The kinds of column. Each dataframe library has its own dtype for them.

    MOMENT is in UTC. DATETIME has no time zone; a value with one is converted to UTC without a zone. SCALAR values are
    Python objects (Decimal, bytes). DATA is nested: dicts and lists of JSON values (see `plain_data`). JSON is the same
    data as JSON text. WORDS are values that have a text form but no dtype (UUID, Path, time, addresses). OBJECT is any
    Python object.
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
        name: Column name, including the run's prefix.
        kind: Kind of its values.
        categories: All possible values, in the type's order; () if the type does not list them.
        type: Type of its values, for libraries with column types for days, Decimals or nested data; None if the
            annotation does not determine it, or the kind alone does.
    """

    name: str
    kind: Kind
    categories: tuple[Any, ...] = ()
    type: ValueType | None = None


class CellType(StrEnum):
    """Types of the columns of a report, such as errors, usage or runs. Each library has a dtype for them.

    COUNT and SECONDS are integers and real numbers that are never missing. LABEL is any object, such as a row's index.
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
    # At run time these are separate classes, unlike for type checkers.
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

# Types that are more exact than the kind. If their values were read back as another type, the column would become text.
_READ_AS: dict[ValueType | None, Any] = {DATE: dt.date, DECIMAL: decimal.Decimal, BINARY: bytes}

# Types that are stored as their text, since pandas would write their internals, and no dtype has times with a zone.
_WORDED = (
    dt.time,
    uuid.UUID,
    pathlib.PurePath,
    ipaddress._IPAddressBase,
    re.Pattern,
    pydantic.AnyUrl,
)


def column_of(name: str, left: Any, nested: str = "data") -> Column:
    """Return the column for values of a type.

    Args:
        name: Column name, including the run's prefix.
        left: The annotation after validators (see `schema.validators.type_after`).
        nested: As in `Options`.
    """
    kind = core(left)
    other = {"model": Kind.OBJECT, "json": Kind.JSON}.get(nested, Kind.DATA)
    if typing.get_origin(kind) is Literal:
        values = tuple(value for value in _literal(kind) if value is not None)
        return _of_values(name, values, other)
    if not isinstance(kind, type):
        return _nested(name, other, left)
    if issubclass(kind, Flag):  # a combination of members has a value that no member has
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
    """Return a column's values for its library: Enums as their values, datetimes in one zone, plain data."""
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
    """Convert JSON values to those for a library: dates, durations, Decimals and bytes are parsed from text."""
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
    """Return all datetimes in one zone, or all without one, so that the dtype does not depend on the rows.

    A datetime with a zone is converted to UTC; one without a zone is taken as UTC.
    """
    return [_in_utc(value).replace(tzinfo=zone) if isinstance(value, dt.datetime) else value for value in values]


def _in_utc(value: dt.datetime) -> dt.datetime:
    try:
        return value if value.tzinfo is None else value.astimezone(dt.UTC)
    except OverflowError:  # the first or last day of Python's range
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

    Text becomes a category. Numbers and Booleans keep their own dtype: as a category they would come back from Parquet
    without their unused values, and arithmetic would not work.
    """
    kinds = {type(value) for value in values}
    if len(kinds) != 1:
        return Column(name, other)
    kind = _KINDS.get(kinds.pop(), other)
    if kind is Kind.INTEGER and any(map(is_beyond, values)):
        return Column(name, Kind.SCALAR)
    return Column(name, Kind.CATEGORY if kind is Kind.TEXT else kind, values)
