"""Checks for numbers that Pydantic accepts but requests or columns cannot hold: NaN, infinity, long integers."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from math import isfinite
from typing import Any, NamedTuple

__all__ = ["Check", "Found", "finite_check", "is_beyond", "is_unsayable", "may_say", "whole_check"]

_INT64 = 2**63


class Found(NamedTuple):
    """An unacceptable number and its location."""

    where: tuple[str | int, ...]
    number: Any

    def inside(self, at: str | int) -> Found:
        return Found((at, *self.where), self.number)


Check = Callable[[Any], Found | None]
_Leaf = Callable[[Mapping[str, Any], bool], Check | None]

# A reply without a match cannot contain such a float; a user's validator may still produce one from other text. An
# exponent of two digits is at most 99, so that the others must be over 200. Pydantic reads "1_0" as 10, and a letter or
# digit may be written as \u0065.
_SAID = re.compile(rb"(?i)nan|inf|e\+?[\d_]{3}|[\d_.]{200}|\\u00[2-7]")
# Nodes of a core schema that pass on their inner schema, and the field with it.
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
    """Return whether a reply's text may contain a number that is not finite, including `1e400`."""
    return _SAID.search(text) is not None


def finite_check(core_schema: Any) -> Check | None:
    """Return a function that finds the first float in a value that is not finite.

    Args:
        core_schema: Core schema from Pydantic (`TypeAdapter.core_schema`).

    Returns:
        A function that returns the first such float, None if all are finite. Instead of the function, None for a type
        that cannot contain floats or sets `allow_inf_nan=True` for each.
    """
    leaves: dict[str, _Leaf] = {
        "float": lambda node, allowed: None if node.get("allow_inf_nan", allowed) else _unless(_is_infinite),
        "any": lambda _, allowed: None if allowed else _anywhere,
    }
    return _Compiler(core_schema, leaves).whole() if _has(core_schema, [*leaves]) else None


def is_beyond(value: Any) -> bool:
    """Return whether *value* is an integer that does not fit in a column of 64-bit integers."""
    return isinstance(value, int) and not -_INT64 <= value < _INT64


def is_unsayable(value: Any) -> bool:
    """Return whether *value* is an integer that no request can contain: JSON integers have 64 bits, signed or not."""
    return isinstance(value, int) and not -_INT64 <= value < 2 * _INT64


def whole_check(core_schema: Any) -> Check | None:
    """Return a function that finds the first `int` in a value that is beyond 64 bits.

    If the type leaves the form open (`Any`, a union, a tuple), a column contains Python objects or JSON text, and any
    number is allowed.

    Args:
        core_schema: Core schema from Pydantic (`TypeAdapter.core_schema`).

    Returns:
        A function that returns the first such number, None if there is none. Instead of the function, None for a type
        that cannot contain ints.
    """
    leaves: dict[str, _Leaf] = {
        "int": lambda node, _: None if "serialization" in node else _unless(is_beyond),
        "union": lambda *_: None,
        "tagged-union": lambda *_: None,
    }
    return _Compiler(core_schema, leaves, columns=True).whole() if _has(core_schema, ["int"]) else None


def _has(node: Any, kinds: Collection[str]) -> bool:
    if isinstance(node, Mapping):
        return node.get("type") in kinds or any(_has(v, kinds) for k, v in node.items() if k != "metadata")
    return isinstance(node, list | tuple) and any(_has(one, kinds) for one in node)


class _Compiler:
    """Compiles a core schema into a check of its values.

    A check ignores values that are not of their node's class, because a validator may have returned anything.

    Args:
        schema: The core schema.
        leaves: By kind of node, a function that builds the node's check. Other nodes use the checks of their contents.
        columns: Whether values become columns. Keys are text there, and a tuple of fixed length has no type.
    """

    def __init__(self, schema: Any, leaves: Mapping[str, _Leaf], *, columns: bool = False) -> None:
        self._schema = schema
        self._leaves, self._columns = leaves, columns
        self._definitions: dict[str, Any] = {}
        self._made: dict[tuple[str, bool], list[Check | None]] = {}

    def whole(self) -> Check | None:
        return self._of(self._schema, allowed=False)

    def _of(self, node: Any, *, allowed: bool) -> Check | None:
        """Compile one node.

        Args:
            node: A node of the core schema.
            allowed: Whether its configuration sets `allow_inf_nan=True`.
        """
        kind = node["type"]
        if kind in self._leaves:
            return self._leaves[kind](node, allowed)
        if kind in _PASSING:
            return self._within(node, _PASSING[kind], allowed)  # Pydantic's bare Json accepts anything
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
            return self._tuple(node, allowed)
        if kind == "dict":
            keys = None if self._columns else self._within(node, "keys_schema", allowed)
            return _mapping(keys, self._within(node, "values_schema", allowed))
        if kind in ("model", "dataclass"):
            return self._class(node)
        if kind == "typed-dict":
            allowed = _allows(node, allowed)
            return _keys(self._fields(node["fields"].items(), allowed))
        return None

    def _within(self, node: Any, name: str, allowed: bool) -> Check | None:
        inner = node.get(name)
        return None if inner is None else self._of(inner, allowed=allowed)

    def _tuple(self, node: Any, allowed: bool) -> Check | None:
        items = node["items_schema"]
        if self._columns and (len(items) > 1 or "variadic_item_index" not in node):
            return None
        return _any([_each(self._of(one, allowed=allowed)) for one in items])

    def _referred(self, ref: str, allowed: bool) -> Check | None:
        found = self._made.get((ref, allowed))
        if found is None:
            found = self._made[ref, allowed] = [None]
            if ref in self._definitions:
                found[0] = self._of(self._definitions[ref], allowed=allowed)
            return found[0]
        # A reference inside its own definition or after it: the check is looked up at each call.
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
        """Return name, JSON name and check of each field that has a check."""
        found = []
        for name, field in fields:
            check = self._of(field["schema"], allowed=allowed)
            alias = field.get("validation_alias")
            if check is not None:
                found.append((name, alias if isinstance(alias, str) else name, check))
        return found


def _allows(node: Any, otherwise: bool) -> bool:
    return bool((node.get("config") or {}).get("allow_inf_nan", otherwise))


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and not isfinite(value)


def _unless(wrong: Callable[[Any], bool]) -> Check:
    return lambda value: Found((), value) if wrong(value) else None


def _anywhere(value: Any) -> Found | None:
    """Find a float that is not finite in plain JSON data whose form the type does not describe."""
    if isinstance(value, dict):
        return next((at.inside(str(key)) for key, one in value.items() if (at := _anywhere(one)) is not None), None)
    if isinstance(value, list):
        return next((at.inside(n) for n, one in enumerate(value) if (at := _anywhere(one)) is not None), None)
    return Found((), value) if _is_infinite(value) else None


def _any(checks: list[Check | None]) -> Check | None:
    some = [check for check in checks if check is not None]
    if len(some) < 2:
        return some[0] if some else None
    return lambda value: next((found for check in some if (found := check(value)) is not None), None)


def _each(check: Check | None) -> Check | None:
    if check is None:
        return None

    def each(value: Any) -> Found | None:
        if isinstance(value, list | tuple | set | frozenset):
            for at, item in enumerate(value):
                found = check(item)
                if found is not None:
                    return found.inside(at)
        return None

    return each


def _mapping(of_key: Check | None, of_value: Check | None) -> Check | None:
    if of_key is None and of_value is None:
        return None

    def each(value: Any) -> Found | None:
        if isinstance(value, dict):
            for key, item in value.items():
                found = None if of_value is None else of_value(item)
                if found is None and of_key is not None:
                    found = of_key(key)
                if found is not None:
                    return found.inside(str(key))
        return None

    return each


def _keys(fields: list[tuple[str, str, Check]]) -> Check | None:
    def each(value: Any) -> Found | None:
        if isinstance(value, dict):
            for name, alias, check in fields:
                found = check(value.get(name))
                if found is not None:
                    return found.inside(alias)
        return None

    return each if fields else None


def _attributes(kind: type, fields: list[tuple[str, str, Check]]) -> Check | None:
    def each(value: Any) -> Found | None:
        if isinstance(value, kind):
            for name, alias, check in fields:
                found = check(getattr(value, name, None))
                if found is not None:
                    return found.inside(alias)
        return None

    return each if fields else None
