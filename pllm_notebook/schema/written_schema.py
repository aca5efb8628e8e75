"""A type that is written as a JSON schema instead of a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from pllm_notebook.exceptions import UsageError

__all__ = ["WrittenSchema", "read_schema"]

# Every useful JSON schema contains one of these.
_WORDS = {"type", "properties", "items", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"}
_BY_NAME = {"$defs", "definitions", "patternProperties", "properties"}
_DEFINED = ("$defs", "definitions")
_NUMBERS = {"maximum", "minimum", "maxItems", "minItems", "maxLength", "minLength", "multipleOf"}
_DATA = {"const", "default", "enum", "example", "examples"}
_TYPES = {"object", "array", "string", "integer", "number", "boolean", "null"}


class WrittenSchema(NamedTuple):
    """A JSON schema that was read from a mapping.

    Attributes:
        name: Name for the provider, "answer" without a name or title.
        description: Description, "" without one.
        schema: The JSON schema.
    """

    name: str
    description: str
    schema: dict[str, Any]


def read_schema(given: Mapping[str, Any]) -> WrittenSchema:
    """Read a JSON schema, alone or wrapped as in the `response_format` of OpenAI's client.

    Args:
        given: The mapping. Never changed.

    Raises:
        UsageError: If the mapping is neither. Nothing was sent.
    """
    try:
        schema: Any = orjson.loads(orjson.dumps(dict(given)))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"Got {dict(given)!r:.200}, which is not a JSON schema: {error}. For an answer with fields write a "
            f"Pydantic model, or a schema such as "
            f"{{'type': 'object', 'properties': {{'name': {{'type': 'string'}}}}}}. Nothing was sent."
        ) from None
    name, description = "", ""
    if schema.get("type") == "json_schema":  # the form of Chat Completions or of Responses
        around = schema["json_schema"] if isinstance(schema.get("json_schema"), dict) else schema
        name, description, schema = around.get("name", ""), around.get("description", ""), around.get("schema")
    fault = _fault(schema)
    if fault:
        raise UsageError(f"Got {dict(given)!r:.200}, which is not a JSON schema: {fault}. Nothing was sent.")
    schema = _with_defs(schema)
    return WrittenSchema(
        str(name or schema.get("title") or "answer"), str(description or schema.get("description") or ""), schema
    )


def _fault(schema: Any) -> str:
    """Return why *schema* is not a JSON schema of an answer, "" if it is one."""
    if not isinstance(schema, dict) or not _WORDS & schema.keys():
        return f"it has none of {', '.join(sorted(_WORDS))} that says what the answer is"
    kind = schema.get("type", "object")
    unknown = [each for each in (kind if isinstance(kind, list) else [kind]) if each not in sorted(_TYPES)]
    if unknown:
        return f"{unknown[0]!r:.60} is not one of the types {', '.join(sorted(_TYPES))}"
    defined = {f"#/{word}/{name}": one for word in _DEFINED for name, one in _mapping(schema.get(word)).items()}
    return _broken_part(schema, defined)


def _mapping(part: Any) -> Mapping[str, Any]:
    return part if isinstance(part, dict) else {}


def _with_defs(schema: dict[str, Any]) -> dict[str, Any]:
    """Return *schema* with all definitions in `$defs`, the only place that fitting and the fields are read from."""
    if "definitions" not in schema:
        return schema
    made: dict[str, Any] = {**_mapping(schema.get("$defs"))}
    moved: dict[str, str] = {}
    for name, one in _mapping(schema["definitions"]).items():
        free = name
        while free in made:
            free += "_"
        made[free], moved[f"#/definitions/{name}"] = one, f"#/$defs/{free}"
    rest = {word: value for word, value in schema.items() if word not in _DEFINED}
    redirected: dict[str, Any] = _redirected({**rest, "$defs": made}, moved)
    return redirected


def _redirected(part: Any, moved: Mapping[str, str]) -> Any:
    """Return a part of a schema with the references to moved definitions replaced."""
    if isinstance(part, list):
        return [_redirected(each, moved) for each in part]
    if not isinstance(part, dict):
        return part
    made: dict[str, Any] = {}
    for word, inner in part.items():
        if word == "$ref" and isinstance(inner, str):
            made[word] = moved.get(inner, inner)
        elif word in _BY_NAME and isinstance(inner, dict):
            made[word] = {name: _redirected(each, moved) for name, each in inner.items()}
        else:
            made[word] = inner if word in _DATA else _redirected(inner, moved)
    return made


def _broken_part(part: Any, defined: Mapping[str, Any]) -> str:
    """Return the fault in a part of a schema: a broken reference, or a keyword with a wrong value; "" without one."""
    if isinstance(part, list):
        return next(filter(None, (_broken_part(each, defined) for each in part)), "")
    if not isinstance(part, dict):
        return ""
    pointer = part.get("$ref")
    if isinstance(pointer, str):
        if pointer not in defined:
            return f"its $ref {pointer!r:.100} leads nowhere; a definition is in '$defs', such as '#/$defs/Item'"
        seen = {pointer}
        while isinstance(pointer := _mapping(defined.get(pointer)).get("$ref"), str):
            if pointer in seen:
                return f"its $ref {pointer!r:.100} leads only to itself"
            seen.add(pointer)
    if not isinstance(part.get("properties", {}), dict):
        return f"'properties' is a mapping from fields to schemas, not {part['properties']!r:.60}"
    for word in _NUMBERS & part.keys():
        if isinstance(part[word], bool) or not isinstance(part[word], int | float):
            return f"{word!r} is a number, not {part[word]!r:.60}"
    if "multipleOf" in part and part["multipleOf"] <= 0:
        return f"'multipleOf' is more than 0, not {part['multipleOf']!r:.60}"
    for word, inner in part.items():
        # Data is not part of the schema and may contain anything.
        parts = list(inner.values()) if word in _BY_NAME and isinstance(inner, dict) else inner
        fault = "" if word in _DATA else _broken_part(parts, defined)
        if fault:
            return fault
    return ""
