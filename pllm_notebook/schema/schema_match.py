"""Matches decoded values against a fitted schema, and finds schemas that exclude each other.

Only keywords that distinguish the branches of a union count: types, properties, enums, lengths of arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["exclude_each_other", "matches", "resolve", "says_null"]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def resolve(shape: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the definition that `$ref` refers to, or *shape* itself without one."""
    while "$ref" in shape:
        shape = defs[shape["$ref"].rpartition("/")[2]]
    return shape


def says_null(shape: Any, defs: Mapping[str, Any], depth: int = 8) -> bool:
    """Return whether a schema names null as a value. False for one that leaves all values open."""
    if not isinstance(shape, Mapping) or depth < 0:
        return False
    shape = resolve(shape, defs)
    if "const" in shape or "enum" in shape:
        return shape["const"] is None if "const" in shape else None in shape["enum"]
    branches = shape.get("anyOf") or shape.get("oneOf")
    if branches:
        return any(says_null(branch, defs, depth - 1) for branch in branches)
    kind = shape.get("type")
    return kind == "null" or (isinstance(kind, list) and "null" in kind)


def matches(value: Any, shape: Mapping[str, Any], defs: Mapping[str, Any]) -> bool:
    """Return whether *value* matches *shape*."""
    shape = resolve(shape, defs)
    if "anyOf" in shape:
        return any(matches(value, branch, defs) for branch in shape["anyOf"])
    # Lists and objects are never listed, and cannot be looked up in a set.
    if (known := _listed(shape)) is not None and (isinstance(value, dict | list) or (type(value), value) not in known):
        return False
    kind = shape.get("type")
    if kind is None:
        return True
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind in ("integer", "number")):
        return False
    if isinstance(value, dict):
        return _object_matches(value, shape, defs)
    if isinstance(value, list):
        return _array_matches(value, shape, defs)
    return True


def exclude_each_other(
    left: Mapping[str, Any], right: Mapping[str, Any], defs: Mapping[str, Any], depth: int = 8
) -> bool:
    """Return whether no value can match both schemas. Also False if *depth* is reached before this is known."""
    if depth == 0:
        return False
    left, right = resolve(left, defs), resolve(right, defs)
    if "anyOf" in left:
        return all(exclude_each_other(branch, right, defs, depth - 1) for branch in left["anyOf"])
    if "anyOf" in right:
        return exclude_each_other(right, left, defs, depth)
    known, others = _listed(left), _listed(right)
    if known is not None and others is not None:
        return not known & others
    kinds = {left.get("type"), right.get("type")}
    if None in kinds or kinds == {"integer", "number"}:
        return False
    if len(kinds) == 2:
        return True
    if kinds == {"object"}:
        return _objects_exclude(left, right, defs, depth) or _objects_exclude(right, left, defs, depth)
    if (
        kinds == {"array"}
        and left.get("minItems", 0)
        and right.get("minItems", 0)
        and "items" in left
        and "items" in right
    ):
        return exclude_each_other(left["items"], right["items"], defs, depth - 1)
    return False


def _objects_exclude(left: Mapping[str, Any], right: Mapping[str, Any], defs: Mapping[str, Any], depth: int) -> bool:
    for name in left.get("required", ()):
        if name not in right.get("properties", {}):
            if right.get("additionalProperties") is False:
                return True
        elif exclude_each_other(left["properties"][name], right["properties"][name], defs, depth - 1):
            return True
    return False


def _object_matches(value: dict[str, Any], shape: Mapping[str, Any], defs: Mapping[str, Any]) -> bool:
    properties = shape.get("properties", {})
    if not all(name in value for name in shape.get("required", ())):
        return False
    extra = shape.get("additionalProperties", True)
    for name, item in value.items():
        if name in properties:
            if not matches(item, properties[name], defs):
                return False
        elif extra is False or (isinstance(extra, dict) and not matches(item, extra, defs)):
            return False
    return True


def _array_matches(value: list[Any], shape: Mapping[str, Any], defs: Mapping[str, Any]) -> bool:
    if not shape.get("minItems", 0) <= len(value) <= shape.get("maxItems", len(value)):
        return False
    prefix = shape.get("prefixItems", [])
    if not all(matches(item, part, defs) for item, part in zip(value, prefix, strict=False)):
        return False
    rest = shape.get("items")
    return not isinstance(rest, dict) or all(matches(item, rest, defs) for item in value[len(prefix) :])


def _listed(shape: Mapping[str, Any]) -> set[tuple[type, Any]] | None:
    # With their types, because True == 1 and a set would confuse the two.
    values = [shape["const"]] if "const" in shape else shape.get("enum")
    if values is None or any(isinstance(value, dict | list) for value in values):
        return None
    return {(type(value), value) for value in values}
