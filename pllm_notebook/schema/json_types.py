"""Builds a type that Pydantic can validate from a JSON schema, if there is no model class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired, Required, Union

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

__all__ = ["kind_of"]

_PLAIN: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool, "null": None}
# JSON schema keywords and Pydantic's names for them.
_CONSTRAINTS = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_length",
    "maxItems": "max_length",
}


def kind_of(schema: Mapping[str, Any], name: str = "Arguments") -> Any:
    """Return a type that accepts the values of *schema*. Objects become dicts, with unknown keys if it allows them.

    Only types, enums, bounds, lengths and required keys are checked. Other keywords (`pattern`, `format`, `if`, …) and
    the contents of recursive definitions are not.

    Args:
        schema: The JSON schema. Never changed.
        name: Name of the type in Pydantic's error messages.
    """
    definitions = {**schema.get("definitions", {}), **schema.get("$defs", {})}
    return _Reader(definitions).kind(schema, name, ())


class _Reader:
    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions

    def kind(self, schema: Any, name: str, inside: tuple[str, ...]) -> Any:
        if not isinstance(schema, Mapping):
            return Any
        if "$ref" in schema:
            return self._ref(str(schema["$ref"]), inside)
        if "enum" in schema or "const" in schema:
            return _choice(schema.get("enum", [schema.get("const")]))
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return _union([self.kind(one, name, inside) for one in schema[word]])
        kind = schema.get("type")
        if isinstance(kind, list):
            return _union([self.kind({**schema, "type": one}, name, inside) for one in kind])
        if kind == "object" or (kind is None and "properties" in schema):
            return self._object(schema, name, inside)
        if kind == "array":
            items = schema.get("items")
            item = self.kind(items, name, inside) if items else Any
            return _constrained(list[item], schema)  # type: ignore[valid-type]
        if kind in _PLAIN:
            return _constrained(_PLAIN[kind], schema)
        return Any

    def _ref(self, ref: str, inside: tuple[str, ...]) -> Any:
        name = ref.rpartition("/")[2]
        if name in inside or name not in self._definitions:
            return Any
        return self.kind(self._definitions[name], name, (*inside, name))

    def _object(self, schema: Mapping[str, Any], name: str, inside: tuple[str, ...]) -> Any:
        properties: Mapping[str, Any] = schema.get("properties") or {}
        extra = schema.get("additionalProperties")
        if not properties:
            if extra is False:
                return _typed_dict(name, {}, forbid=True)
            return _constrained(dict[str, self.kind(extra, name, inside)], {})  # type: ignore[misc]
        required = schema.get("required") or ()
        fields = {
            key: (Required if key in required else NotRequired)[self.kind(inner, key, inside)]
            for key, inner in properties.items()
        }
        return _typed_dict(name, fields, forbid=extra is False)


def _typed_dict(name: str, fields: dict[str, Any], *, forbid: bool) -> Any:
    make: Any = TypedDict  # type checkers cannot follow one that is built at run time
    kind = make(name, fields)
    kind.__pydantic_config__ = ConfigDict(extra="forbid" if forbid else "allow")
    return kind


def _choice(values: Sequence[Any]) -> Any:
    plain = [value for value in values if value is None or isinstance(value, (str, int, bool))]
    # Other values (a float, a list) cannot be in a Literal; checking them is left to the tool.
    return Literal[tuple(plain)] if plain and len(plain) == len(values) else Any


def _union(kinds: Sequence[Any]) -> Any:
    # A TypedDict of the backport does not support `|`.
    return Any if not kinds or Any in kinds else Union[tuple(kinds)]  # noqa: UP007


def _constrained(kind: Any, schema: Mapping[str, Any]) -> Any:
    sized = hasattr(kind, "__origin__") or kind is str
    bounds = {
        word: schema[keyword]
        for keyword, word in _CONSTRAINTS.items()
        if isinstance(schema.get(keyword), (int, float))
        and not isinstance(schema[keyword], bool)  # `exclusiveMinimum` in an old draft of JSON schema
        and (word.endswith("length") == sized)
        and kind is not bool
    }
    return Annotated[kind, Field(**bounds)] if bounds and kind is not None else kind
