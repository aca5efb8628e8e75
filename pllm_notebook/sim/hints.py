"""Constraints in descriptions, for providers that do not accept the keyword in a schema.

Adapters move constraints there ("at least 1", "matching the regular expression …"), as do the providers' own SDKs
("{minimum: 1}"), and a model follows them. The simulator follows them too; otherwise a rehearsal would fail where
the real run succeeds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["with_hints"]

_NUMBER = r"(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"
_KEYWORD = re.compile(
    r"\b(minimum|maximum|exclusiveMinimum|exclusiveMaximum|multipleOf|minLength|maxLength|minItems|maxItems)\b"
    rf"""["']?\s*[:=]?\s*{_NUMBER}"""
)
_PHRASE = re.compile(
    rf"\b(at least|at most|greater than|less than|multiple of) {_NUMBER}(?: (character|item|entr))?", re.I
)
_PHRASES = {
    ("at least", ""): "minimum",
    ("at most", ""): "maximum",
    ("greater than", ""): "exclusiveMinimum",
    ("less than", ""): "exclusiveMaximum",
    ("multiple of", ""): "multipleOf",
    ("at least", "character"): "minLength",
    ("at most", "character"): "maxLength",
    ("at least", "item"): "minItems",
    ("at most", "item"): "maxItems",
}
_PATTERN = re.compile(
    r"""matching the regular expression (?P<prose>.+?)(?=; (?:at |no )|$)"""
    r"""|\bpattern["']?\s*[:=]\s*["']?(?P<written>.+?)["']?(?=,\s*["']?(?:min|max|format)\w*["']?\s*:|\}\s*\)?$)""",
    re.I | re.M,
)
_FORMATS = {
    "a date and time like": "date-time",
    "a date like": "date",
    "a time of day like": "time",
    "ISO 8601 duration": "duration",
    "an email address": "email",
    "an IPv4 address": "ipv4",
    "an IPv6 address": "ipv6",
    "an IP address": "ipv4",
    "a UUID": "uuid",
    "a URI": "uri",
}
_FORMAT = re.compile(r"""\bformat["']?\s*[:=]\s*["']?([a-z][a-z0-9-]*)|\b[Ii]n ([a-z][a-z0-9-]*) format""")
_KEYS = re.compile(r"\bkeys (.+)$", re.I | re.M)
_OF = {
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "array": {"minItems", "maxItems", "uniqueItems"},
    "object": {"propertyNames"},
}
_OF["number"] = _OF["integer"]


def with_hints(schema: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return *schema*, of type *kind*, with the constraints of its description. Its own keywords take precedence."""
    description = schema.get("description")
    if not isinstance(description, str) or kind not in _OF:
        return schema
    found: dict[str, Any] = {}
    for keyword, number in _KEYWORD.findall(description):
        found.setdefault(keyword, _number(number))
    for words, number, counted in _PHRASE.findall(description):
        keyword = _PHRASES.get((words.lower(), counted.lower()), "")
        found.setdefault(keyword, _number(number))
    if kind == "string":
        if pattern := _PATTERN.search(description):
            found["pattern"] = _closed(pattern["prose"] or pattern["written"])
        if form := _format(description):
            found["format"] = form
    elif kind == "object":
        if keys := _KEYS.search(description):
            names = with_hints({"type": "string", "description": keys.group(1)}, "string")
            found["propertyNames"] = {keyword: said for keyword, said in names.items() if keyword != "description"}
    elif kind == "array" and "no item twice" in description.lower():
        found["uniqueItems"] = True
    hints = {keyword: value for keyword, value in found.items() if keyword in _OF[kind]}
    return {**hints, **schema} if hints else schema


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value == int(value) else value


def _closed(pattern: str) -> str:
    # The constraint is in parentheses after a description, so the last parenthesis may not belong to the pattern.
    if pattern.endswith(")") and pattern.count("(") < pattern.count(")"):
        return pattern[:-1]
    return pattern


def _format(description: str) -> str:
    if found := _FORMAT.search(description):
        return found.group(1) or found.group(2)
    lowered = description.lower()
    return next((form for words, form in _FORMATS.items() if words.lower() in lowered), "")
