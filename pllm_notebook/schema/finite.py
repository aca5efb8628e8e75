"""NaN and infinity in a reply: JSON has no such numbers, and Pydantic takes them for a float."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

__all__ = ["finite_check", "may_say"]

Location = tuple[str | int, ...]
Check = Callable[[Any], Location | None]

# What a reply must contain for a float in it to be none: a validator of a person's own may make one of anything.
_SAID = re.compile(rb"(?i)nan|inf|e\+?\d{3}|\d{300}")
# Nodes of a core schema that pass on what they hold, and the field that holds it.
_PASSING = {
    "function-before": "schema",
    "function-after": "schema",
    "function-wrap": "schema",
    "default": "schema",
    "nullable": "schema",
    "custom-error": "schema",
    "json": "schema",
    "json-or-python": "json_schema",
    "lax-or-strict": "lax_schema",
}
_ITEMS = {"list", "set", "frozenset"}


def may_say(text: bytes) -> bool:
    """Return whether a reply's text may say a number that is not finite, `1e400` included."""
    return _SAID.search(text) is not None


def finite_check(core_schema: Any) -> Check | None:
    """Return what finds the first float of a value that is not finite.

    Args:
        core_schema: As Pydantic made it (`TypeAdapter.core_schema`).

    Returns:
        A function that returns the location, None where all are finite; None in its place for a type that can hold
        no float, or says `allow_inf_nan=True` of each.
    """
    return _Compiler(core_schema).whole() if _has_float(core_schema) else None


def _has_float(node: Any) -> bool:
    if isinstance(node, Mapping):
        return node.get("type") in ("float", "any") or any(
            map(_has_float, (v for k, v in node.items() if k != "metadata"))
        )
    return isinstance(node, list | tuple) and any(map(_has_float, node))


class _Compiler:
    """From a core schema to a check of its values.

    A check looks at nothing that is not of the class its node says: a validator may have left anything.
    """

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._definitions: dict[str, Any] = {}
        self._made: dict[tuple[str, bool], list[Check | None]] = {}

    def whole(self) -> Check | None:
        return self._of(self._schema, allowed=False)

    def _of(self, node: Any, *, allowed: bool) -> Check | None:
        """Compile one node.

        Args:
            node: Of the core schema.
            allowed: Whether its configuration says `allow_inf_nan=True`.
        """
        kind = node["type"]
        if kind == "float":
            return None if node.get("allow_inf_nan", allowed) else _number
        if kind == "any":
            return None if allowed else _anywhere
        if kind in _PASSING:
            return self._of(node[_PASSING[kind]], allowed=allowed)
        if kind == "definitions":
            self._definitions |= {one["ref"]: one for one in node["definitions"] if "ref" in one}
            return self._of(node["schema"], allowed=allowed)
        if kind == "definition-ref":
            return self._referred(node["schema_ref"], allowed)
        if kind == "chain":
            return self._of(node["steps"][-1], allowed=allowed)
        if kind == "union":
            choices = [one[0] if isinstance(one, tuple) else one for one in node["choices"]]
            return _any([self._of(one, allowed=allowed) for one in choices])
        if kind == "tagged-union":
            return _any([self._of(one, allowed=allowed) for one in node["choices"].values() if isinstance(one, dict)])
        if kind in _ITEMS:
            return _each(self._within(node, "items_schema", allowed))
        if kind == "tuple":
            return _any([_each(self._of(one, allowed=allowed)) for one in node["items_schema"]])
        if kind == "dict":
            return _mapping(self._within(node, "keys_schema", allowed), self._within(node, "values_schema", allowed))
        if kind in ("model", "dataclass"):
            return self._class(node)
        if kind == "typed-dict":
            allowed = _allows(node, allowed)
            return _keys(self._fields(node["fields"].items(), allowed))
        return None

    def _within(self, node: Any, name: str, allowed: bool) -> Check | None:
        inner = node.get(name)
        return None if inner is None else self._of(inner, allowed=allowed)

    def _referred(self, ref: str, allowed: bool) -> Check | None:
        found = self._made.get((ref, allowed))
        if found is None:
            found = self._made[ref, allowed] = [None]
            if ref in self._definitions:
                found[0] = self._of(self._definitions[ref], allowed=allowed)
            return found[0]
        # Within itself, or after it: looked up when it is called.
        return lambda value: None if found[0] is None else found[0](value)

    def _class(self, node: Any) -> Check | None:
        kind, inner = node["cls"], node["schema"]
        allowed = _allows(node, False)
        while inner["type"] in _PASSING:
            inner = inner[_PASSING[inner["type"]]]
        if node.get("root_model"):
            root = self._of(inner, allowed=allowed)
            return None if root is None else lambda value: root(value.root) if isinstance(value, kind) else None
        if inner["type"] == "model-fields":
            fields = self._fields(inner["fields"].items(), allowed)
        elif inner["type"] == "dataclass-args":
            fields = self._fields([(one["name"], one) for one in inner["fields"]], allowed)
        else:
            return self._of(inner, allowed=allowed)
        return _attributes(kind, fields)

    def _fields(self, fields: Any, allowed: bool) -> list[tuple[str, str, Check]]:
        """Return name, name in JSON and check of the fields that have one."""
        found = []
        for name, field in fields:
            check = self._of(field["schema"], allowed=allowed)
            alias = field.get("validation_alias")
            if check is not None:
                found.append((name, alias if isinstance(alias, str) else name, check))
        return found


def _allows(node: Any, otherwise: bool) -> bool:
    return bool((node.get("config") or {}).get("allow_inf_nan", otherwise))


def _number(value: Any) -> Location | None:
    return () if isinstance(value, float) and not isfinite(value) else None


def _anywhere(value: Any) -> Location | None:
    """Look through what JSON has, where the type says nothing of it."""
    if isinstance(value, dict):
        found = next(((str(key), *at) for key, one in value.items() if (at := _anywhere(one)) is not None), None)
    elif isinstance(value, list):
        found = next(((n, *at) for n, one in enumerate(value) if (at := _anywhere(one)) is not None), None)
    else:
        return _number(value)
    return found


def _any(checks: list[Check | None]) -> Check | None:
    some = [check for check in checks if check is not None]
    if len(some) < 2:
        return some[0] if some else None
    return lambda value: next((found for check in some if (found := check(value)) is not None), None)


def _each(check: Check | None) -> Check | None:
    if check is None:
        return None

    def each(value: Any) -> Location | None:
        if isinstance(value, list | tuple | set | frozenset):
            for at, item in enumerate(value):
                found = check(item)
                if found is not None:
                    return (at, *found)
        return None

    return each


def _mapping(of_key: Check | None, of_value: Check | None) -> Check | None:
    if of_key is None and of_value is None:
        return None

    def each(value: Any) -> Location | None:
        if isinstance(value, dict):
            for key, item in value.items():
                found = None if of_value is None else of_value(item)
                if found is None and of_key is not None:
                    found = of_key(key)
                if found is not None:
                    return (str(key), *found)
        return None

    return each


def _keys(fields: list[tuple[str, str, Check]]) -> Check | None:
    def each(value: Any) -> Location | None:
        if isinstance(value, dict):
            for name, alias, check in fields:
                found = check(value.get(name))
                if found is not None:
                    return (alias, *found)
        return None

    return each if fields else None


def _attributes(kind: type, fields: list[tuple[str, str, Check]]) -> Check | None:
    def each(value: Any) -> Location | None:
        if isinstance(value, kind):
            for name, alias, check in fields:
                found = check(getattr(value, name, None))
                if found is not None:
                    return (alias, *found)
        return None

    return each if fields else None
