"""What Anthropic's models and schema compiler refuse.

Sources: pydantic-ai's profiles and schema limits for models and counts; the guide to structured outputs for
the keywords.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pllm_notebook.sim.ask import Rejected

__all__ = ["check_schema", "forces_no_tools", "most_output", "takes_no_prefill", "takes_no_sampling"]

# Everything newer than these refuses temperature, top_p and top_k.
_OLD = ("claude-haiku-4", "claude-sonnet-4", "claude-opus-4-0", "claude-opus-4-1", "claude-opus-4-5", "claude-opus-4-6")
_SMALL_OUTPUT = ("claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-5")
_NEVER_FORCED = ("claude-fable-5-", "claude-mythos-5-", "claude-opus-5-5", "claude-sonnet-5-5")
_MOST_OPTIONAL = 24
_MOST_UNIONS = 16
_UNSUPPORTED = {
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength"),
    "array": ("maxItems", "uniqueItems", "prefixItems", "contains"),
    "object": ("minProperties", "maxProperties", "patternProperties", "propertyNames"),
}
_UNSUPPORTED["integer"] = _UNSUPPORTED["number"]


def takes_no_sampling(model: str) -> bool:
    """Whether *model* refuses temperature, top_p and top_k."""
    return model.startswith("claude-") and not model.startswith((*_OLD, "claude-3"))


def takes_no_prefill(model: str) -> bool:
    """Whether *model* refuses a conversation that ends with its own words."""
    return takes_no_sampling(model) or model.startswith(("claude-opus-4-6", "claude-sonnet-4-6"))


def forces_no_tools(model: str) -> bool:
    """Whether *model* refuses to be forced to call a tool."""
    return model.startswith(_NEVER_FORCED)


def most_output(model: str) -> int:
    """Give the largest max_tokens that *model* takes."""
    return 64_000 if model.startswith(_SMALL_OUTPUT) else 128_000


def check_schema(schema: Any, where: str) -> None:
    """Refuse a schema that the grammar compiler does not take."""
    counts = {"optional": 0, "unions": 0}
    definitions = schema.get("$defs") or schema.get("definitions") or {}

    def refuse(why: str) -> None:
        raise Rejected(400, f"{where}: {why}")

    def visit(node: Any, inside: frozenset[str], counted: bool) -> None:
        if not isinstance(node, Mapping):
            return
        if (ref := node.get("$ref")) is not None:
            name = ref.rsplit("/", 1)[-1]
            if ref == "#" or name in inside:
                refuse("Recursive schemas are not supported")
            if name not in definitions:
                refuse(f"Invalid reference '{ref}'")
            visit(definitions[name], inside | {name}, False)
            return
        kind = node.get("type")
        for keyword in _UNSUPPORTED.get(kind, ()) if isinstance(kind, str) else ():
            if keyword in node:
                refuse(f"For '{kind}' type, property '{keyword}' is not supported")
        if kind == "object":
            if node.get("additionalProperties") is not False:
                refuse("For 'object' type, 'additionalProperties' must be explicitly set to false")
            properties = node.get("properties") or {}
            if counted:
                counts["optional"] += len(properties.keys() - set(node.get("required") or ()))
            for child in properties.values():
                visit(child, inside, counted)
        elif kind == "array":
            if node.get("minItems", 0) not in (0, 1):
                refuse("For 'array' type, 'minItems' values other than 0 or 1 are not supported")
            visit(node.get("items"), inside, counted)
        branches = node.get("anyOf") or node.get("allOf") or ()
        if "oneOf" in node:
            refuse("'oneOf' is not supported")
        if counted and ("anyOf" in node or isinstance(kind, list)):
            counts["unions"] += 1
        for child in branches:
            visit(child, inside, counted)

    visit(schema, frozenset(), True)
    if counts["optional"] > _MOST_OPTIONAL or counts["unions"] > _MOST_UNIONS:
        raise Rejected(
            400,
            f"Schema is too complex: {counts['optional']} optional parameters (at most {_MOST_OPTIONAL}), "
            f"{counts['unions']} parameters with union types (at most {_MOST_UNIONS}).",
        )
