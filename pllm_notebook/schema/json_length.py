"""Maximum length of a type's JSON, for bounded types: `Literal`, `bool`, enums, bounded numbers, dates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from pllm_notebook.schema.choices import spelling
from pllm_notebook.schema.schema_match import resolve

__all__ = ["longest_json"]

_FIXED = {"boolean": len("false"), "null": len("null")}
_FORMATS = {"date": len('"2026-01-31"'), "time": len('"23:59:59.999999+00:00"'), "uuid": 38}
_FORMATS["date-time"] = len('"2026-01-31T23:59:59.999999+00:00"')
# A type with a larger bound counts as unbounded: a limit or estimate from it would not be useful.
_MAX_BYTES = 2_000


def longest_json(schema: Mapping[str, Any]) -> int | None:
    """Return the length in bytes of the longest compact JSON that a fitted schema allows.

    Args:
        schema: As `FittedSchema.schema`, with its definitions under `$defs`.

    Returns:
        None if the schema allows JSON of any length, or of more than 2,000 bytes.
    """
    longest = _longest(schema, schema.get("$defs", {}), ())
    return longest if longest is not None and longest <= _MAX_BYTES else None


def _longest(node: Any, defs: Mapping[str, Any], above: tuple[str, ...]) -> int | None:
    if not isinstance(node, Mapping):
        return None
    if "$ref" in node:
        if node["$ref"] in above:
            return None
        return _longest(resolve(node, defs), defs, (*above, node["$ref"]))
    if "const" in node or "enum" in node:
        return max(len(spelling(value)) for value in node.get("enum", [node.get("const")]))
    if "anyOf" in node:
        return _sum_or_none([_longest(one, defs, above) for one in node["anyOf"]], max)
    kind = node.get("type")
    if kind == "integer":
        return _digits(node)
    if kind == "string":
        return _FORMATS.get(node.get("format", ""))
    if kind == "array":
        return _array(node, defs, above)
    if kind == "object":
        return _object(node, defs, above)
    return _FIXED.get(kind) if isinstance(kind, str) else None


def _digits(node: Mapping[str, Any]) -> int | None:
    low = node.get("minimum", node.get("exclusiveMinimum"))
    high = node.get("maximum", node.get("exclusiveMaximum"))
    return None if low is None or high is None else max(len(str(int(low))), len(str(int(high))))


def _array(node: Mapping[str, Any], defs: Mapping[str, Any], above: tuple[str, ...]) -> int | None:
    most = node.get("maxItems")
    item = _longest(node.get("items"), defs, above)
    return None if most is None or item is None else max(2, 1 + most * (item + 1))


def _object(node: Mapping[str, Any], defs: Mapping[str, Any], above: tuple[str, ...]) -> int | None:
    properties = node.get("properties")
    if not properties or node.get("additionalProperties") not in (None, False):
        return None
    inside = _sum_or_none([_longest(one, defs, above) for one in properties.values()], sum)
    # Each name in quotes, a colon, and a comma after each property except the last.
    return None if inside is None else 1 + inside + sum(len(orjson.dumps(name)) + 2 for name in properties)


def _sum_or_none(lengths: list[int | None], join: Any) -> int | None:
    known = [length for length in lengths if length is not None]
    return int(join(known)) if len(known) == len(lengths) and known else None
