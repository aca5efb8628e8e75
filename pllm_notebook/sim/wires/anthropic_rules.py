"""Requests that Anthropic's models and schema compiler reject.

Sources: pydantic-ai's profiles and schema limits for models and counts; the guide to structured outputs for
the keywords.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from pllm_notebook.sim.wire_types import Rejected

__all__ = ["check_schema", "forces_no_tools", "max_output", "takes_no_prefill", "takes_no_sampling", "thinks"]

# All newer models reject temperature, top_p and top_k.
_OLD = ("claude-haiku-4", "claude-sonnet-4", "claude-opus-4-0", "claude-opus-4-1", "claude-opus-4-5", "claude-opus-4-6")
_SMALL_OUTPUT = ("claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-5")
_NEVER_FORCED = ("claude-fable-5-", "claude-mythos-5-", "claude-opus-5-5", "claude-sonnet-5-5")
_MAX_OPTIONAL = 24
_MAX_UNIONS = 16
_UNSUPPORTED = {
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength"),
    "array": ("maxItems", "uniqueItems", "prefixItems", "contains"),
    "object": ("minProperties", "maxProperties", "patternProperties", "propertyNames"),
}
_UNSUPPORTED["integer"] = _UNSUPPORTED["number"]


def takes_no_sampling(model: str) -> bool:
    """Return whether *model* rejects temperature, top_p and top_k."""
    return model.startswith("claude-") and not model.startswith((*_OLD, "claude-3"))


def takes_no_prefill(model: str) -> bool:
    """Return whether *model* rejects a conversation that ends with an assistant message."""
    return takes_no_sampling(model) or model.startswith(("claude-opus-4-6", "claude-sonnet-4-6"))


def thinks(model: str, body: Mapping[str, Any]) -> bool:
    """Return whether *model* thinks before tool calls, as the newest models do unless thinking is disabled."""
    thinking = (body.get("thinking") or {}).get("type")
    by_default = takes_no_sampling(model) and not model.startswith("claude-opus-4-")
    return thinking not in ("disabled", "between_tools") and (by_default or thinking is not None)


def forces_no_tools(model: str) -> bool:
    """Return whether *model* rejects a required tool call."""
    return model.startswith(_NEVER_FORCED)


def max_output(model: str) -> int:
    """Return the largest max_tokens that *model* accepts."""
    return 64_000 if model.startswith(_SMALL_OUTPUT) else 128_000


def check_schema(schema: Any, where: str) -> None:
    """Reject a schema that the grammar compiler does not accept. *where* is its name in the message."""
    wrong = _wrong(orjson.dumps(schema))
    if wrong:
        raise Rejected(400, f"{where}: {wrong}")


class _Fault(Exception):
    pass


@lru_cache(maxsize=256)
def _wrong(schema_json: bytes) -> str:
    schema = orjson.loads(schema_json)
    compiler = _Compiler(schema)
    try:
        compiler.visit(schema, frozenset(), True)
    except _Fault as fault:
        return str(fault)
    if compiler.optional > _MAX_OPTIONAL or compiler.unions > _MAX_UNIONS:
        return (
            f"Schema is too complex: {compiler.optional} optional parameters (at most {_MAX_OPTIONAL}), "
            f"{compiler.unions} parameters with union types (at most {_MAX_UNIONS})."
        )
    return ""


class _Compiler:
    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._definitions = schema.get("$defs") or schema.get("definitions") or {}
        self.optional = 0
        self.unions = 0

    def visit(self, node: Any, inside: frozenset[str], counted: bool) -> None:
        """Check one schema. Parameters behind a reference are not *counted*."""
        if not isinstance(node, Mapping):
            return
        if "$ref" in node:
            self._follow(node["$ref"], inside)
            return
        kind = node.get("type")
        for keyword in _UNSUPPORTED.get(kind, ()) if isinstance(kind, str) else ():
            if keyword in node:
                raise _Fault(f"For '{kind}' type, property '{keyword}' is not supported")
        if "oneOf" in node:
            raise _Fault("'oneOf' is not supported")
        if kind == "object":
            if node.get("additionalProperties") is not False:
                raise _Fault("For 'object' type, 'additionalProperties' must be explicitly set to false")
            properties = node.get("properties") or {}
            if counted:
                self.optional += len(properties.keys() - set(node.get("required") or ()))
            for child in properties.values():
                self.visit(child, inside, counted)
        elif kind == "array":
            if node.get("minItems", 0) not in (0, 1):
                raise _Fault("For 'array' type, 'minItems' values other than 0 or 1 are not supported")
            self.visit(node.get("items"), inside, counted)
        if counted and ("anyOf" in node or isinstance(kind, list)):
            self.unions += 1
        for child in node.get("anyOf") or node.get("allOf") or ():
            self.visit(child, inside, counted)

    def _follow(self, ref: str, inside: frozenset[str]) -> None:
        name = ref.rsplit("/", 1)[-1]
        if ref == "#" or name in inside:
            raise _Fault("Recursive schemas are not supported")
        if name not in self._definitions:
            raise _Fault(f"Invalid reference '{ref}'")
        self.visit(self._definitions[name], inside | {name}, False)
