"""Checks of a provider's size limits for schemas, and of recursive types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pllm_notebook.exceptions import UnsupportedSchemaError
from pllm_notebook.schema.provider_support import Dialect
from pllm_notebook.schema.schema_match import resolve

__all__ = ["check_limits", "check_recursion", "count_unions", "find_cycle"]


def check_limits(schema: Mapping[str, Any], dialect: Dialect) -> None:
    """Check a fitted schema against its provider's size limits.

    Raises:
        UnsupportedSchemaError: If a limit is exceeded. Contains the actual number and the limit.
    """
    definitions = schema.get("$defs", {})
    everything = [node for root in (schema, *definitions.values()) for node in _nodes(root)]
    if dialect.max_properties is not None:
        seen = sum(len(node.get("properties", ())) for node in everything)
        _check(seen, dialect.max_properties, "fields in all", dialect)
    if dialect.max_enum_values is not None:
        seen = sum(len(node.get("enum", ())) for node in everything)
        _check(seen, dialect.max_enum_values, "values in Literal and Enum types", dialect)
    if dialect.max_depth is not None:
        _check(_depth(schema, definitions, ()), dialect.max_depth, "levels of objects inside each other", dialect)
    if dialect.max_optional is not None:
        seen = sum(
            name not in node.get("required", ()) for node in _nodes(schema) for name in node.get("properties", ())
        )
        _check(seen, dialect.max_optional, "fields that may be left out", dialect)
    if dialect.max_unions is not None:
        _check(count_unions(schema), dialect.max_unions, "fields of more than one type", dialect)


def check_recursion(schema: Mapping[str, Any], dialect: Dialect) -> None:
    """Check that the provider supports the recursive types in a schema from Pydantic.

    Raises:
        UnsupportedSchemaError: If it does not. Names the field where the type contains itself.
    """
    if dialect.recursion == "yes":
        return
    path = find_cycle(schema, required_only=dialect.recursion == "optional")
    if path is None:
        return
    if dialect.recursion == "no":
        reason = (
            f"the type holds itself there, and {dialect.taker} takes no recursive types. Ask for a flat list whose "
            "items name their parent, or write a type for each level."
        )
    else:
        reason = (
            f"the type holds itself there, and {dialect.taker} takes that only in fields that may be left out. "
            "Give the field a default, for example None or an empty list."
        )
    raise UnsupportedSchemaError(path, dialect.taker, reason)


def count_unions(schema: Mapping[str, Any]) -> int:
    """Count the properties of a fitted schema that are unions, outside its definitions."""
    return sum("anyOf" in inner for node in _nodes(schema) for inner in node.get("properties", {}).values())


def find_cycle(schema: Mapping[str, Any], *, required_only: bool) -> str | None:
    """Find a field where a type contains itself.

    Args:
        schema: Schema from Pydantic.
        required_only: Look only for cycles without optional properties.

    Returns:
        The path of the field that closes the cycle, None without a cycle.
    """
    definitions: Mapping[str, Any] = schema.get("$defs", {})
    done: set[str] = set()
    starts: list[tuple[str, str]] = []

    def visit(name: str, path: str, above: frozenset[str]) -> str | None:
        if name in above:
            return path
        if name in done:
            return None
        for inner, deeper, optional in _references(definitions[name], path, optional=False):
            if optional and required_only:
                starts.append((inner, deeper))
            elif (found := visit(inner, deeper, above | {name})) is not None:
                return found
        done.add(name)
        return None

    starts += [(name, path) for name, path, _ in _references(schema, "", optional=False)]
    while starts:
        name, path = starts.pop(0)
        if (found := visit(name, path, frozenset())) is not None:
            return found
    return None


def _references(raw: Any, path: str, *, optional: bool) -> Iterator[tuple[str, str, bool]]:
    """Yield the definitions that *raw* refers to: name, path, and whether the path has an optional property."""
    if not isinstance(raw, Mapping):
        return
    if "$ref" in raw:
        yield raw["$ref"].rpartition("/")[2], path, optional
    for name, inner in raw.get("properties", {}).items():
        deeper = f"{path}.{name}" if path else name
        yield from _references(inner, deeper, optional=optional or name not in raw.get("required", ()))
    for keyword in ("anyOf", "oneOf", "allOf"):
        for inner in raw.get(keyword, ()):
            yield from _references(inner, path, optional=optional)
    for number, inner in enumerate(raw.get("prefixItems", ())):
        yield from _references(inner, f"{path}[{number}]", optional=optional)
    yield from _references(raw.get("items"), f"{path}[]", optional=optional)
    for inner in (raw.get("additionalProperties"), *raw.get("patternProperties", {}).values()):
        yield from _references(inner, f"{path}{{}}", optional=optional)


def _nodes(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Yield *schema* and every schema inside it, without following `$ref`."""
    if not isinstance(schema, Mapping):
        return
    yield schema
    for inner in schema.get("properties", {}).values():
        yield from _nodes(inner)
    for keyword in ("anyOf", "prefixItems"):
        for inner in schema.get(keyword, ()):
            yield from _nodes(inner)
    for keyword in ("items", "additionalProperties"):
        yield from _nodes(schema.get(keyword))


def _depth(schema: Mapping[str, Any], definitions: Mapping[str, Any], above: tuple[str, ...]) -> int:
    if "$ref" in schema:
        if schema["$ref"] in above:
            return 0  # a recursive type counts only its first level
        return _depth(resolve(schema, definitions), definitions, (*above, schema["$ref"]))
    inside = [*schema.get("properties", {}).values(), *schema.get("anyOf", ()), *schema.get("prefixItems", ())]
    inside += [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), Mapping)]
    deepest = max((_depth(inner, definitions, above) for inner in inside), default=0)
    return deepest + (schema.get("type") == "object")


def _check(seen: int, limit: int, what: str, dialect: Dialect) -> None:
    if seen > limit:
        raise UnsupportedSchemaError(
            "",
            dialect.taker,
            f"it has {seen:,} {what}, and {dialect.taker} takes at most {limit:,}. Ask for less at once.",
        )
