"""A type that is written down as a JSON schema, in place of a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from pllm_notebook.exceptions import UsageError

__all__ = ["WrittenSchema", "read_schema"]

# One of these is in every JSON schema that says anything.
_WORDS = {"type", "properties", "items", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"}
_TYPES = {"object", "array", "string", "integer", "number", "boolean", "null"}


class WrittenSchema(NamedTuple):
    """What a mapping says.

    Attributes:
        name: For the provider, "answer" where it has no title.
        description: "" for none.
        schema: The JSON schema.
    """

    name: str
    description: str
    schema: dict[str, Any]


def read_schema(given: Mapping[str, Any]) -> WrittenSchema:
    """Read a JSON schema, or what OpenAI's client takes as `response_format` around one.

    Args:
        given: Never changed.

    Raises:
        UsageError: For a mapping that is neither. Nothing was sent.
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
    if schema.get("type") == "json_schema":  # of Chat Completions, or of Responses
        around = schema["json_schema"] if isinstance(schema.get("json_schema"), dict) else schema
        name, description, schema = around.get("name", ""), around.get("description", ""), around.get("schema")
    if not isinstance(schema, dict) or not _WORDS & schema.keys() or not _is_type(schema.get("type", "object")):
        raise UsageError(
            f"Got {dict(given)!r:.200}, which is not a JSON schema: it has none of {', '.join(sorted(_WORDS))} that "
            f"says what the answer is. Nothing was sent."
        )
    return WrittenSchema(
        str(name or schema.get("title") or "answer"), str(description or schema.get("description") or ""), schema
    )


def _is_type(kind: Any) -> bool:
    return set(kind) <= _TYPES if isinstance(kind, list) else kind in _TYPES
