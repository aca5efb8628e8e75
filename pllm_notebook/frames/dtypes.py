"""What kind of column a field becomes: decided from its annotation, before any dataframe library."""

from __future__ import annotations

import datetime as dt
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Literal

import pydantic

__all__ = ["Column", "Kind", "column_of", "plain"]


class Kind(StrEnum):
    """The kinds of column; each dataframe library names its own dtype for them.

    A MOMENT is told in UTC; a DATETIME has no zone, unless one of its values turns out to have one.
    """

    TEXT = "text"
    INTEGER = "integer"
    REAL = "real"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    DATETIME = "datetime"
    MOMENT = "moment"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class Column:
    """One result column.

    Attributes:
        name: With the run's prefix.
        kind: What it holds.
        categories: All values it may have, in the type's order; () unless `kind` is CATEGORY.
    """

    name: str
    kind: Kind
    categories: tuple[Any, ...] = ()


_KINDS: dict[Any, Kind] = {
    str: Kind.TEXT,
    int: Kind.INTEGER,
    float: Kind.REAL,
    bool: Kind.BOOLEAN,
    dt.date: Kind.DATETIME,
    dt.datetime: Kind.DATETIME,
    # Classes of their own at run time, whatever type checkers are told.
    pydantic.AwareDatetime: Kind.MOMENT,
    pydantic.FutureDate: Kind.DATETIME,
    pydantic.FutureDatetime: Kind.DATETIME,
    pydantic.NaiveDatetime: Kind.DATETIME,
    pydantic.PastDate: Kind.DATETIME,
    pydantic.PastDatetime: Kind.DATETIME,
}


def column_of(name: str, annotation: Any) -> Column:
    """Decide what kind of column holds values of *annotation*."""
    annotation = _core(annotation)
    if typing.get_origin(annotation) is Literal:
        values = tuple(value for value in _literal(annotation) if value is not None)
        return Column(name, Kind.CATEGORY, values) if _one_type(values) else Column(name, Kind.OBJECT)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        values = tuple(dict.fromkeys(member.value for member in annotation))
        return Column(name, Kind.CATEGORY, values) if _one_type(values) else Column(name, Kind.OBJECT)
    return Column(name, _KINDS.get(annotation, Kind.OBJECT) if isinstance(annotation, type) else Kind.OBJECT)


def plain(column: Column, values: Sequence[Any]) -> list[Any]:
    """Give a column's values as its library should see them: an Enum's own value, moments in one zone."""
    if column.kind is Kind.CATEGORY:
        return [value.value if isinstance(value, Enum) else value for value in values]
    if column.kind in (Kind.DATETIME, Kind.MOMENT):
        return _moments(values)
    return list(values)


def _moments(values: Iterable[Any]) -> list[Any]:
    moments = list(values)
    if not any(isinstance(value, dt.datetime) and value.tzinfo is not None for value in moments):
        return moments
    # A column has one zone: where some are aware, all are told in UTC, and a naive one is taken for UTC.
    return [
        value
        if not isinstance(value, dt.datetime)
        else (value.astimezone(dt.UTC) if value.tzinfo is not None else value.replace(tzinfo=dt.UTC))
        for value in moments
    ]


def _core(annotation: Any) -> Any:
    """Take off `Annotated`, `Optional`, aliases and NewTypes."""
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


def _one_type(values: Sequence[Any]) -> bool:
    return bool(values) and len({type(value) for value in values}) == 1
