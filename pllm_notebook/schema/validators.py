"""Inference of the type of a field after its validators, which is the type of its column.

Pydantic checks the input of a validator that runs after it, but not the output: `Literal["pos", "neg"]` may come out as
"POS", a `str` as an int. A column's dtype must follow from the type, never from the rows. The effect of a validator is
therefore inferred from its presence and its return annotation.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping, Set
from enum import Enum, Flag
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import SchemaValidator

from pllm_notebook.schema.fields import bare

__all__ = ["UNCHANGED", "changes", "fields_alone", "not_none", "type_after"]

UNCHANGED: Any = object()
"""No validator runs after Pydantic's own."""

_UNSAID: Any = object()
_LAST = {"function-after", "function-wrap", "function-plain"}
# Nodes of a core schema that pass on their inner schema, and the field with it.
_PASSING = {
    "function-before": "schema",
    "default": "schema",
    "nullable": "schema",
    "custom-error": "schema",
    "definitions": "schema",
    "json-or-python": "json_schema",
    "lax-or-strict": "lax_schema",
}


def changes(core_schema: Any) -> tuple[Any, Mapping[str, Any]]:
    """Return how validators may change the whole type, and each of its fields.

    Args:
        core_schema: Core schema from Pydantic (`TypeAdapter.core_schema`).

    Returns:
        `UNCHANGED` if no user's validator runs last, otherwise a value for `type_after`. Unchanged fields are not in
        the mapping.
    """
    return _Walk(core_schema).whole()


def fields_alone(core_schema: Any, missing: Set[str]) -> SchemaValidator | None:
    """Return a validator of the fields of a type, with their validators and constraints but none of the whole type.

    Args:
        core_schema: Core schema from Pydantic (`TypeAdapter.core_schema`).
        missing: Names of fields that are None, without validation.

    Returns:
        A validator of the values by field name. None for a type without fields.
    """
    return _Walk(core_schema).fields_alone(missing)


def type_after(annotation: Any, change: Any) -> Any:
    """Return the type of a field's values after its validators.

    Without a validator, this is the annotation. Otherwise it is the return annotation of the validator, or the field's
    annotation if the validator has none. A Literal or an Enum becomes the type of its values, because "POS" is not a
    value of `Literal["pos", "neg"]`.
    """
    if change is UNCHANGED:
        return annotation
    kind = not_none(bare(annotation if change is _UNSAID else change))
    values: list[Any]
    if get_origin(kind) is Literal:
        values = [value.value if isinstance(value, Enum) else value for value in get_args(kind)]
    elif isinstance(kind, type) and issubclass(kind, Enum) and not issubclass(kind, Flag):
        values = [member.value for member in kind]
    else:
        return kind
    found = {type(value) for value in values if value is not None}
    return found.pop() if len(found) == 1 else Any


def not_none(kind: Any) -> Any:
    """Return the other type of a union of one type and None; other types unchanged."""
    if get_origin(kind) not in (Union, types.UnionType):
        return kind
    inner = [one for one in get_args(kind) if one is not type(None)]
    return bare(inner[0]) if len(inner) == 1 else kind


class _Walk:
    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._definitions: dict[str, Any] = {}
        if schema["type"] == "definitions":
            self._definitions = {one["ref"]: one for one in schema["definitions"] if "ref" in one}

    def whole(self) -> tuple[Any, Mapping[str, Any]]:
        change, node = self._into(self._schema)
        fields = self._fields(node)
        if change is UNCHANGED and _sets_afterwards(node):
            change = _UNSAID
        if change is not UNCHANGED and fields:
            # The validator gets the whole object, so it may have changed any field.
            return change, dict.fromkeys(fields, _UNSAID)
        found = {name: self._into(schema)[0] for name, schema in fields.items()}
        return change, {name: one for name, one in found.items() if one is not UNCHANGED}

    def fields_alone(self, missing: Set[str]) -> SchemaValidator | None:
        _, node = self._into(self._schema)
        fields = self._fields(node)
        if not fields:
            return None
        nothing = {"type": "default", "schema": {"type": "any"}, "default": None}
        alone: Any = {
            "type": "typed-dict",
            "fields": {
                name: {"type": "typed-dict-field", "schema": nothing if name in missing else schema, "required": False}
                for name, schema in fields.items()
            },
            "config": node.get("config") or {},
        }
        if self._definitions:
            alone = {"type": "definitions", "schema": alone, "definitions": [*self._definitions.values()]}
        return SchemaValidator(alone)

    def _into(self, node: Any) -> tuple[Any, Any]:
        """Walk from the last validator, which is outermost, to the type itself. The first one found counts."""
        seen = 0
        while seen < 100:  # definitions may be circular
            seen += 1
            kind = node["type"]
            if kind in _LAST:
                said = _returned(node["function"]["function"])
                if said is not UNCHANGED:
                    inner = node.get("schema")
                    return said, node if inner is None else self._into(inner)[1]
                if "schema" not in node:
                    break
                node = node["schema"]
            elif kind in _PASSING:
                node = node[_PASSING[kind]]
            elif kind == "definition-ref":
                node = self._definitions.get(node["schema_ref"], {"type": "any"})
            elif kind == "chain":
                node = node["steps"][-1]
            elif kind == "union":
                branches = [self._into(one[0] if isinstance(one, tuple) else one)[0] for one in node["choices"]]
                return next((_UNSAID for one in branches if one is not UNCHANGED), UNCHANGED), node
            else:
                break
        return UNCHANGED, node

    def _fields(self, node: Any) -> dict[str, Any]:
        while node["type"] in ("model", "dataclass", "function-before"):
            if node.get("root_model"):
                return {}
            node = node["schema"]
        if node["type"] in ("model-fields", "typed-dict"):
            return {name: field["schema"] for name, field in node["fields"].items()}
        if node["type"] == "dataclass-args":
            return {field["name"]: field["schema"] for field in node["fields"]}
        return {}


def _returned(function: Any) -> Any:
    """Return a validator's return annotation; `UNCHANGED` for Pydantic's own, which follow the field's annotation."""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if str(getattr(function, "__module__", "")).partition(".")[0] in ("pydantic", "pydantic_core"):
        return UNCHANGED
    try:
        said = typing.get_type_hints(function).get("return", _UNSAID)
    except Exception:  # names that are known only in the validator's own scope
        return _UNSAID
    return _UNSAID if said in (None, type(None), Any, object) or isinstance(said, typing.TypeVar) else said


def _sets_afterwards(node: Any) -> bool:
    """Return whether the class runs its own code after the fields are validated."""
    kind = node.get("cls")
    if node["type"] == "dataclass":
        return hasattr(kind, "__post_init__")
    if node["type"] != "model":
        return False
    # With private attributes, Pydantic itself adds a method of that name.
    after = getattr(kind, "model_post_init", None)
    own = after is not BaseModel.model_post_init and getattr(after, "__name__", "") != "init_private_attributes"
    return own or bool(node.get("custom_init"))
