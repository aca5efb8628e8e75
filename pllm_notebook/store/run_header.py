"""Checks of a run's file beyond its checksum: anyone may have written a file that came in a bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import NoneType
from typing import Any

__all__ = ["array_fault", "header_fault"]

_NUMBER = (int, float)
# The fields that are read of every run when runs are listed or searched, and their types.
_FIELDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("state", "origin", "label", "model", "answers", "part_of"), (str,)),
    **dict.fromkeys(("prompt", "system", "source", "dialect"), (str, NoneType)),
    **dict.fromkeys(("asked", "served", "failure_kinds", "made", "fields", "field_names"), (list,)),
    **dict.fromkeys(("options", "shaping"), (dict,)),
    **dict.fromkeys(("process", "ensemble", "examples"), (dict, NoneType)),
    **dict.fromkeys(("simulated", "explode", "takes_empty"), (bool,)),
    **dict.fromkeys(("total", "answered", "cached", "failed", "not_sent", "skipped"), (int,)),
    **dict.fromkeys(("input_tokens", "output_tokens"), (int, NoneType)),
    "duration_s": _NUMBER,
    "cost_usd": (*_NUMBER, NoneType),
    "template": (list, NoneType),
}
_OF_TEXTS = ("asked", "served", "failure_kinds", "fields", "field_names")
_LATEST_S = 1e11
_LARGEST_ARRAY_BYTES = 2**31


def header_fault(header: Any) -> str:
    """Return what is invalid in a run's header, "" if nothing is."""
    if not isinstance(header, dict):
        return "its header is no JSON object"
    run: Any = header.get("id")
    started_at: Any = header.get("started_at")
    # The id becomes part of a file name.
    if not (isinstance(run, str) and run.isascii() and run.isalnum() and len(run) <= 64):
        return f"its id is {str(run)[:80]!r}"
    if not (_is_a(started_at, _NUMBER) and 0 <= started_at < _LATEST_S):
        return f"it began at {str(started_at)[:80]}"
    if not isinstance(header.get("arrays"), list):
        return "it lists no arrays"
    for name, kinds in _FIELDS.items():
        if name in header and not _is_a(header[name], kinds):
            return f"{name} is of the type {type(header[name]).__name__}"
    for name in _OF_TEXTS:
        if not all(isinstance(one, str) for one in header.get(name, ())):
            return f"{name} is not a list of texts"
    return ""


def array_fault(listed: Any) -> str:
    """Return what is invalid in the description of an array, "" if nothing is.

    Args:
        listed: `[name, dtype, shape, size, packed]`.
    """
    if not (isinstance(listed, list) and len(listed) == 5):
        return "an array is not described"
    name, dtype, shape, size, packed = listed
    if not (isinstance(name, str) and isinstance(packed, bool) and _is_a(size, (int,)) and size >= 0):
        return "an array is described otherwise"
    # Numbers and booleans only: other dtypes hold objects, or the number in their name is not a size in bytes.
    if not (isinstance(dtype, str) and dtype[:1] in "<>=|" and dtype[1:2] in tuple("uifb") and dtype[2:].isdigit()):
        return f"the array {name[:80]!r} has the dtype {str(dtype)[:80]!r}"
    if not (isinstance(shape, list) and all(_is_a(one, (int,)) and one >= 0 for one in shape) and 1 <= len(shape) <= 3):
        return f"the array {name[:80]!r} has the shape {str(shape)[:80]}"
    if math.prod(shape) * int(dtype[2:]) > _LARGEST_ARRAY_BYTES:
        return f"the array {name[:80]!r} would take more than {_LARGEST_ARRAY_BYTES:,} bytes"
    return ""


def _is_a(value: Any, kinds: tuple[type, ...]) -> bool:
    """Return whether a value has one of these types. A bool is not a number here; NaN and infinity are not valid."""
    if isinstance(value, bool) and bool not in kinds:
        return False
    return isinstance(value, kinds) and not (isinstance(value, float) and not math.isfinite(value))
