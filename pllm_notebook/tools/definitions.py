"""Tools given as mappings: a JSON schema, or a definition in a provider's format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pllm_notebook.exceptions import UsageError

__all__ = ["Definition", "read_definition"]

_FORMS = (
    "a JSON schema with a title, or a tool as OpenAI ({'type': 'function', …}), Anthropic ({'name', 'input_schema'}) "
    "or Google ({'name', 'parameters'}) write it"
)
_SCHEMAS = ("parameters", "input_schema", "parametersJsonSchema", "parameters_json_schema")


class Definition(NamedTuple):
    """The contents of a definition.

    Attributes:
        name: Name of the tool.
        description: Description of the tool. "" for none.
        schema: JSON schema of the arguments.
        strict: Whether the definition asks for a strict schema. True if it has no such field.
    """

    name: str
    description: str
    schema: dict[str, Any]
    strict: bool


def read_definition(given: Mapping[str, Any]) -> Definition:
    """Read a tool given as a mapping.

    Args:
        given: The mapping. Never changed.

    Raises:
        UsageError: For an unknown format, and for a tool that the provider runs itself. Nothing was sent.
    """
    declared = given.get("functionDeclarations") or given.get("function_declarations")
    if declared is not None:
        if len(declared) != 1:
            raise UsageError(
                f"A Google tool with {len(declared)} function declarations is several tools: pass each declaration "
                f"separately. Nothing was sent."
            )
        return read_definition(declared[0])
    inner = given.get("function")
    if given.get("type") == "function" and isinstance(inner, Mapping):
        given = inner
    name = given.get("name")
    schema = next((given[word] for word in _SCHEMAS if isinstance(given.get(word), Mapping)), None)
    odd = next((word for word in _SCHEMAS if isinstance(given.get(word), (str, list, int))), None)
    if odd is not None:
        raise UsageError(
            f"The tool {name!r} has {type(given[odd]).__name__} as its {odd!r} instead of the JSON schema of an "
            f"object. Nothing was sent."
        )
    if isinstance(name, str):
        if schema is None and given.get("type", "function") not in ("function", "custom"):
            raise _run_by_the_provider(given)
        return Definition(
            name,
            str(given.get("description") or ""),
            _lowered(schema) if schema else {"type": "object", "properties": {}},
            bool(given.get("strict", True)),
        )
    if "properties" in given or str(given.get("type", "")).lower() == "object":
        title = given.get("title")
        if not isinstance(title, str) or not title:
            raise UsageError(
                "A tool that is a JSON schema needs a name: put it into the schema's title. Nothing was sent."
            )
        rest = {key: value for key, value in given.items() if key != "description"}
        return Definition(title, str(given.get("description") or ""), _lowered(rest), True)
    if isinstance(given.get("type"), str):
        raise _run_by_the_provider(given)
    raise UsageError(f"A tool that is a mapping is {_FORMS}; this one has {sorted(map(str, given))}. Nothing was sent.")


def _run_by_the_provider(given: Mapping[str, Any]) -> UsageError:
    return UsageError(
        f"The tool {given['type']!r} is one that the provider runs itself. Send it as it is: "
        f"extra_body={{'tools': […]}}. Nothing was sent."
    )


def _lowered(schema: Any) -> Any:
    """Convert Google's type names (`STRING`) to those of JSON schema."""
    if isinstance(schema, Mapping):
        return {
            key: value.lower() if key == "type" and isinstance(value, str) else _lowered(value)
            for key, value in schema.items()
        }
    return [_lowered(item) for item in schema] if isinstance(schema, list) else schema
