"""The metadata of a stored reply: decoded with every type checked, never trusted.

A cache may come from disks, imports and other people. Decoding always returns the facts below, each with the right
type, for any content.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import orjson

__all__ = ["decode_metadata", "invalid_field"]

# No provider counts beyond this, and sums up to it are exact.
_MOST_TOKENS = 2**53
# The end of the year 9999, the last that Python's dates support.
_LATEST = 253_402_300_799


def decode_metadata(meta: bytes) -> dict[str, Any]:
    """Decode `StoredReply.meta`. An invalid or missing fact is unknown (see `_UNKNOWN`); an optional one is absent."""
    decoded = _decoded(meta)
    if decoded is None:
        return dict(_UNKNOWN)
    odd = [name for name, value in decoded.items() if name in _VALIDATORS and not _VALIDATORS[name](value)]
    for name in odd:
        del decoded[name]
    return decoded if len(decoded.keys() & _UNKNOWN.keys()) == len(_UNKNOWN) else {**_UNKNOWN, **decoded}


def invalid_field(meta: bytes) -> str:
    """Return the name of the first invalid fact of `StoredReply.meta`, "" for none. A missing fact is valid."""
    decoded = _decoded(meta)
    if decoded is None:
        return "meta"
    for name, value in decoded.items():
        validate = _VALIDATORS.get(name)
        if validate is not None and not validate(value):
            return name
    return ""


def _decoded(meta: bytes) -> dict[str, Any] | None:
    try:
        decoded = orjson.loads(meta)
    except ValueError:
        return None
    return decoded if type(decoded) is dict else None


def _is_text(value: object) -> bool:
    return type(value) is str


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST_TOKENS


def _is_amount(value: object) -> bool:
    return (type(value) is float or type(value) is int) and 0 <= value < math.inf


def _is_cost(value: object) -> bool:
    return value is None or _is_amount(value)


def _is_moment(value: object) -> bool:
    return _is_amount(value) and value <= _LATEST  # type: ignore[operator]


def _is_usage(value: object) -> bool:
    return value is None or (type(value) is list and len(value) == 5 and all(map(_is_count, value)))


def _are_calls(value: object) -> bool:
    return type(value) is list and all(
        type(call) is list and len(call) == 3 and all(map(_is_text, call)) for call in value
    )


def _is_tool(value: object) -> bool:
    if type(value) is not dict:
        return False
    return type(value.get("failed")) is bool and all(_is_text(value.get(name)) for name in ("name", "content"))


_UNKNOWN: Mapping[str, Any] = {
    "usage": None,
    "cost_usd": None,
    "model": "",
    "asked": "",
    "request_id": "",
    "detail": "",
    "latency_s": 0.0,
    "attempts": 0,
    "created_at": 0.0,
}
_VALIDATORS: Mapping[str, Callable[[object], bool]] = {
    "usage": _is_usage,
    "cost_usd": _is_cost,
    "model": _is_text,
    "asked": _is_text,
    "request_id": _is_text,
    "detail": _is_text,
    "latency_s": _is_amount,
    "attempts": _is_count,
    "created_at": _is_moment,
    "calls": _are_calls,
    "pack": _is_count,
    "pack_id": _is_text,
    "pack_cost_usd": _is_cost,
    "tool": _is_tool,
    "reason": _is_text,
}
