"""Constraints in plain words, for providers that cannot enforce them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json

__all__ = ["format_prose", "has_lookaround", "keyword_prose", "with_prose"]

_FORMATS = {
    "binary": "",  # Pydantic's format for bytes, which arrive as text anyway
    "date": "a date like 2026-01-31",
    "date-time": "a date and time like 2026-01-31T12:00:00Z",
    "decimal": "a decimal number",
    "duration": "an ISO 8601 duration like PT1H30M",
    "email": "an email address",
    "ipv4": "an IPv4 address",
    "ipv6": "an IPv6 address",
    "ipvanyaddress": "an IP address",
    "password": "",
    "path": "a file path",
    "time": "a time of day like 12:00:00",
    "uri": "a URI",
    "uuid": "a UUID",
}


def format_prose(name: str) -> str:
    """Describe text of the format *name*; "" for a format without a useful description."""
    return _FORMATS.get(name, f"in {name} format")


def keyword_prose(keyword: str, value: Any) -> str:
    """Describe one validation keyword in words; "" for a keyword that constrains nothing."""
    match keyword:
        case "minimum":
            return f"at least {_plain(value)}"
        case "maximum":
            return f"at most {_plain(value)}"
        case "exclusiveMinimum":
            return f"greater than {_plain(value)}"
        case "exclusiveMaximum":
            return f"less than {_plain(value)}"
        case "multipleOf":
            return f"a multiple of {_plain(value)}"
        case "minLength" | "maxLength":
            return f"{_bound(keyword)} {_count(value, 'character')}"
        case "minItems" | "maxItems":
            return f"{_bound(keyword)} {_count(value, 'item')}"
        case "minProperties" | "maxProperties":
            return f"{_bound(keyword)} {_count(value, 'entry', 'entries')}"
        case "uniqueItems":
            return "no item twice" if value else ""
        case "pattern":
            return f"matching the regular expression {value}"
        case "format":
            return format_prose(value)
        case "examples":
            return f"for example {', '.join(map(_plain, value))}" if isinstance(value, list) and value else ""
        case "propertyNames":
            return _property_names_prose(value)
        case "patternProperties":
            return f"keys matching the regular expression {' or '.join(value)}" if value else ""
    return ""


def with_prose(description: str, words: Sequence[str]) -> str:
    """Add *words* to a description, which may be ""."""
    prose = "; ".join(word for word in words if word)
    if not prose:
        return description
    return f"{description} ({prose})" if description else prose[0].upper() + prose[1:]


def has_lookaround(pattern: str) -> bool:
    """Return whether *pattern* has lookahead, lookbehind or a backreference."""
    return re.search(r"\(\?(=|!|<=|<!)|\\[1-9]|\(\?P=", pattern) is not None


def _property_names_prose(value: Mapping[str, Any]) -> str:
    if isinstance(value.get("enum"), list):
        return f"keys are among {', '.join(map(_plain, value['enum']))}"
    prose = [keyword_prose(keyword, item) for keyword, item in value.items()]
    prose = [word for word in prose if word]
    return f"each key {'; '.join(prose)}" if prose else ""


def _bound(keyword: str) -> str:
    return "at least" if keyword.startswith("min") else "at most"


def _count(number: Any, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _plain(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    return to_json(value, fallback=str).decode()
