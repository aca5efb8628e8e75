"""Schemas that OpenAI's strict mode rejects, with its messages.

Source: the guide to structured outputs, section "Supported schemas".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from pllm_notebook.sim.wire_types import Rejected

__all__ = ["check_strict"]

_NOT_STRICT_TEXT = (
    "oneOf allOf not if then else default patternProperties propertyNames minProperties maxProperties "
    "unevaluatedProperties unevaluatedItems contains minContains maxContains uniqueItems prefixItems "
    "dependentRequired dependentSchemas"
)
_NOT_STRICT = frozenset(_NOT_STRICT_TEXT.split())
_DEEPEST = 10
_MAX_PROPERTIES = 5000
_MAX_ENUM_VALUES = 1000
_LOOKAROUND = re.compile(r"\(\?(?:=|!|<=|<!)")


def check_strict(schema: Any, what: str, param: str, code: str = "invalid_json_schema") -> None:
    """Reject a schema that strict mode does not accept. *what* is its name in the message."""
    wrong = _wrong(orjson.dumps(schema))
    if wrong:
        raise Rejected(400, f"Invalid schema for {what}: {wrong}", code=code, param=param)


class _Fault(Exception):
    def __init__(self, path: tuple[str, ...], why: str) -> None:
        super().__init__(f"In context={path!r}, {why}")


@lru_cache(maxsize=256)
def _wrong(schema_json: bytes) -> str:
    schema = orjson.loads(schema_json)
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    if kind != "object":
        return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."
    counts = {"properties": 0, "values": 0}
    try:
        _visit(schema, (), 0, counts)
    except _Fault as fault:
        return str(fault)
    if counts["properties"] > _MAX_PROPERTIES:
        return f"schema has {counts['properties']} properties, more than {_MAX_PROPERTIES}."
    if counts["values"] > _MAX_ENUM_VALUES:
        return f"schema has {counts['values']} enum values, more than {_MAX_ENUM_VALUES}."
    return ""


def _visit(node: Any, path: tuple[str, ...], depth: int, counts: dict[str, int]) -> None:
    if not isinstance(node, Mapping):
        raise _Fault(path, "schema must be an object.")
    for name in node:
        if name in _NOT_STRICT:
            raise _Fault(path, f"'{name}' is not permitted.")
    if "$ref" in node:
        if len(node) > 1:
            raise _Fault(path, f"$ref cannot have keywords {sorted(node.keys() - {'$ref'})!r}.")
        if node["$ref"] != "#" and not node["$ref"].startswith(("#/$defs/", "#/definitions/")):
            raise _Fault(path, f"reference '{node['$ref']}' cannot be resolved.")
        return
    if depth > _DEEPEST:
        raise _Fault(path, f"schema exceeds the maximum nesting depth of {_DEEPEST}.")
    if node.get("type") == "object" or "properties" in node:
        _visit_object(node, path, depth, counts)
    elif node.get("type") == "array":
        if not isinstance(node.get("items"), Mapping):
            raise _Fault(path, "array schema missing items.")
        _visit(node["items"], (*path, "items"), depth, counts)
    elif not ({"type", "anyOf", "enum", "const"} & node.keys()):
        raise _Fault(path, "schema must have a 'type' key.")
    if _LOOKAROUND.search(str(node.get("pattern", ""))):
        raise _Fault(path, "'pattern' must not look ahead or behind.")
    counts["values"] += len(node.get("enum") or ())
    for index, child in enumerate(node.get("anyOf") or ()):
        _visit(child, (*path, "anyOf", str(index)), depth, counts)
    for group in ("$defs", "definitions"):
        for name, child in (node.get(group) or {}).items():
            _visit(child, (*path, group, name), 0, counts)


def _visit_object(node: Mapping[str, Any], path: tuple[str, ...], depth: int, counts: dict[str, int]) -> None:
    if node.get("additionalProperties") is not False:
        raise _Fault(path, "'additionalProperties' is required to be supplied and to be false.")
    properties = node.get("properties") or {}
    for name in properties:
        if name not in (node.get("required") or ()):
            raise _Fault(
                path,
                "'required' is required to be supplied and to be an array including every key in properties. "
                f"Missing '{name}'.",
            )
    counts["properties"] += len(properties)
    for name, child in properties.items():
        _visit(child, (*path, "properties", name), depth + 1, counts)
