"""Packed requests, seen from the provider's side: several items in the prompt, a list of answers wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

__all__ = ["ITEMS", "items_of", "with_indices", "with_item_count"]

ITEMS = "\n\nItems:\n"
"""What comes before the items of a packed prompt. Written here once more, as a provider would have to."""


def items_of(prompt: str) -> list[dict[str, Any]] | None:
    """Return the items of a packed prompt, each with its `index` and `item`; None for any other prompt.

    For `answers` functions as well: a row's own data is in `item`.
    """
    _, mark, after = prompt.rpartition(ITEMS)
    if not mark:
        return None
    try:
        items = orjson.loads(after)
    except ValueError:
        return None
    whole = isinstance(items, list) and all(isinstance(one, dict) and {"index", "item"} <= one.keys() for one in items)
    return items if whole else None


def with_item_count(schema: Mapping[str, Any], count: int) -> dict[str, Any] | None:
    """Return *schema* with its list of answers held to *count*; None where it is not that of a pack's reply."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or list(properties) != ["answers"]:
        return None
    answers = {**properties["answers"], "minItems": count, "maxItems": count}
    return {**schema, "properties": {"answers": answers}}


def with_indices(value: Any, items: list[dict[str, Any]]) -> Any:
    """Return a made-up reply in which each entry names its item, as a model would."""
    for entry, item in zip(value["answers"], items, strict=False):
        entry["index"] = item["index"]
    return value
