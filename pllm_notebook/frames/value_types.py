"""Types of nested answers (struct, list, map) for dataframe libraries with such column types.

A type follows from the annotation alone, through the JSON schema of its serialized form (`plain_data`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import pydantic

from pllm_notebook.frames.plain_data import as_json_text

__all__ = ["BINARY", "DATE", "DECIMAL", "JSON", "ValueType", "as_typed", "data_type", "type_in"]


class ValueType(NamedTuple):
    """The type of a column's values, or of values inside them.

    Attributes:
        name: "text", "integer", "real", "boolean", "date", "decimal" or "binary"; "list", "map" (of texts to values)
            or "struct"; "json" for a value of any form, stored as JSON text.
        inner: Types of a list's items, a map's values, or a struct's fields.
        fields: Names of a struct's fields, in order.
    """

    name: str
    inner: tuple[ValueType, ...] = ()
    fields: tuple[str, ...] = ()

    def written(self) -> list[Any]:
        """Return the type as JSON data (see `type_in`)."""
        return [self.name, [one.written() for one in self.inner], list(self.fields)]


DATE, DECIMAL, BINARY, JSON = ValueType("date"), ValueType("decimal"), ValueType("binary"), ValueType("json")

_PLAIN = {"string": "text", "integer": "integer", "number": "real", "boolean": "boolean"}


def type_in(written: Sequence[Any] | None) -> ValueType | None:
    """Return the type from its JSON data, None for None."""
    if written is None:
        return None
    name, inner, fields = written
    return ValueType(name, tuple(found for one in inner if (found := type_in(one)) is not None), tuple(fields))


def data_type(annotation: Any) -> ValueType:
    """Return the type of nested data, "json" if the annotation does not determine its form."""
    try:
        return _data_type(annotation)
    except TypeError:  # an unhashable annotation
        return _data_type.__wrapped__(annotation)


@cache
def _data_type(annotation: Any) -> ValueType:
    try:
        schema = pydantic.TypeAdapter(annotation).json_schema(by_alias=False, mode="serialization")
    except Exception:  # a class without a schema, or whose own schema fails: its form is unknown
        return JSON
    return _of_schema(schema, schema.get("$defs", {}), ())


def _of_schema(schema: Any, defs: Mapping[str, Any], inside: tuple[str, ...]) -> ValueType:
    if not isinstance(schema, dict):
        return JSON
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        if name in inside or name not in defs:  # recursive types have no finite form
            return JSON
        return _of_schema(defs[name], defs, (*inside, name))
    options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if options:
        some = [option for option in options if option != {"type": "null"}]
        return _of_schema(some[0], defs, inside) if len(some) == 1 else JSON
    kind = schema.get("type")
    if kind == "array" and isinstance(schema.get("items"), dict) and "prefixItems" not in schema:
        return ValueType("list", (_of_schema(schema["items"], defs, inside),))
    if kind == "object":
        return _of_object(schema, defs, inside)
    return ValueType(_PLAIN[kind]) if kind in _PLAIN else JSON


def _of_object(schema: Mapping[str, Any], defs: Mapping[str, Any], inside: tuple[str, ...]) -> ValueType:
    fields, others = schema.get("properties"), schema.get("additionalProperties", False)
    if fields and others is False:
        inner = tuple(_of_schema(one, defs, inside) for one in fields.values())
        return ValueType("struct", inner, tuple(fields))
    if not fields and isinstance(others, dict):
        return ValueType("map", (_of_schema(others, defs, inside),))
    return JSON


def as_typed(values: Sequence[Any], kind: ValueType, entry: Callable[[str, Any], Any]) -> list[Any]:
    """Convert plain data to values for a typed column.

    Args:
        values: Results of `plain_data`.
        kind: The type of each value.
        entry: Builds the library's form of one map entry from its key and value.
    """
    if not _is_changed(kind):
        return list(values)
    return [_typed(value, kind, entry) for value in values]


def _is_changed(kind: ValueType) -> bool:
    return kind.name in ("json", "map") or any(map(_is_changed, kind.inner))


def _typed(value: Any, kind: ValueType, entry: Callable[[str, Any], Any]) -> Any:
    if kind.name == "json":
        return as_json_text(value)
    if kind.name == "list" and isinstance(value, list):
        return [_typed(item, kind.inner[0], entry) for item in value]
    if kind.name == "map" and isinstance(value, dict):
        return [entry(key, _typed(item, kind.inner[0], entry)) for key, item in value.items()]
    if kind.name == "struct" and isinstance(value, dict):
        return {name: _typed(value.get(name), own, entry) for name, own in zip(kind.fields, kind.inner, strict=True)}
    return value
