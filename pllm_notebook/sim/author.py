"""Generation of simulated answers without an `answers` function."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from pllm_notebook.sim.draws import Draws
from pllm_notebook.sim.packed_requests import items_of, with_indices, with_item_count
from pllm_notebook.sim.strings import MARK, prose
from pllm_notebook.sim.values import Maker, compile_schema, violate
from pllm_notebook.sim.wire_types import GeneratedAnswer, ParsedRequest

__all__ = ["make", "schema_of", "wrap_in_prose"]

_DECODER = json.JSONDecoder()
_SCHEMA_WORDS = ("properties", "$defs", "$ref", "anyOf", "oneOf", "enum", "items")


def schema_of(ask: ParsedRequest) -> Mapping[str, Any] | None:
    """Return the schema of the answer: the request's own, or the first one in its text."""
    if ask.schema is not None:
        return ask.schema
    for text in (ask.system, *(text for role, text in ask.messages if role == "user")):
        # Most prompts contain no schema. This check takes a microsecond.
        if '"type"' in text or '"properties"' in text or '"anyOf"' in text:
            found = _schema_in(text)
            if found is not None:
                return found
    return None


def make(
    ask: ParsedRequest, schema: Mapping[str, Any] | None, schema_json: bytes, key: bytes, fault: str
) -> GeneratedAnswer:
    """Generate the answer for *key*, with the *fault* "wrong_schema" or "invalid_json" applied if given."""
    draws = Draws(key)
    if ask.forced:
        tools = {tool.name: tool for tool in ask.tools}
        return GeneratedAnswer(
            "tool_calls", calls=[(name, _arguments(tools[name].parameters, draws)) for name in ask.forced]
        )
    if schema is None and not ask.json_mode:
        return GeneratedAnswer("stop", prose(draws))
    items = items_of(ask.prompt) if schema else None
    pack = with_item_count(schema, len(items)) if schema and items else None
    if pack is not None and items is not None:
        value = with_indices(_maker(orjson.dumps(pack))(draws, 0), items)
    else:
        value = _maker(schema_json)(draws, 0) if schema else {"answer": prose(draws)}
    if fault == "wrong_schema":
        value = violate(value)
    text = orjson.dumps(value).decode()
    if ask.provider != "openai":  # OpenAI starts every answer from the beginning; the others continue the prefill
        text = text.removeprefix(ask.said.prefill.rstrip())
    if fault == "invalid_json":
        text = text[: max(1, len(text) * 2 // 3)] + ","
    return GeneratedAnswer("stop", wrap_in_prose(text) if ask.fenced else text)


def wrap_in_prose(text: str) -> str:
    """Return *text* surrounded by prose, as a model whose format is not enforced writes it."""
    return f"{MARK} answer, in the form you asked for:\n\n```json\n{text}\n```\nLet me know if you need more."


def _arguments(parameters: Mapping[str, Any], draws: Draws) -> dict[str, Any]:
    value = _maker(orjson.dumps(parameters))(draws, 0) if parameters else {}
    return value if isinstance(value, dict) else {}


@lru_cache(maxsize=256)
def _maker(schema_json: bytes) -> Maker:
    return compile_schema(orjson.loads(schema_json))


@lru_cache(maxsize=64)
def _schema_in(text: str) -> Mapping[str, Any] | None:
    at = text.find("{")
    while at >= 0:
        try:
            found, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            if isinstance(found, dict) and _is_schema(found):
                return found
        at = text.find("{", end)
    return None


def _is_schema(found: Mapping[str, Any]) -> bool:
    kind = found.get("type", "object")
    plain = isinstance(kind, (str, list)) and any(word in found for word in _SCHEMA_WORDS)
    return plain or kind in ("string", "integer", "number", "boolean")
