"""Packed requests on the provider's side: several items in the prompt, a list of answers in the reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

__all__ = ["ITEMS", "items_of", "with_indices", "with_item_count"]

ITEMS = "\n\nItems:\n"
"""Text before the items of a packed prompt. Repeated here, because a provider has no access to the package's own."""


def items_of(prompt: str) -> list[dict[str, Any]] | None:
    """Return the items of a packed prompt, each with its `index` and `item`; None for any other prompt.

    `answers` functions may use it too: `item` has a row's own data.
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
    """Return *schema* with exactly *count* answers, or None if it is not the schema of a packed reply."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or list(properties) != ["answers"]:
        return None
    answers = {**properties["answers"], "minItems": count, "maxItems": count}
    return {**schema, "properties": {"answers": answers}}


def with_indices(value: Any, items: list[dict[str, Any]]) -> Any:
    """Return a generated reply with the index of its item in each entry, as a model would."""
    for entry, item in zip(value["answers"], items, strict=False):
        entry["index"] = item["index"]
    return value
