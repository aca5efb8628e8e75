"""Validation keywords: those that a provider accepts, and those that become text in the description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pllm_notebook.schema.number_checks import is_unsayable
from pllm_notebook.schema.provider_support import Dialect
from pllm_notebook.schema.schema_prose import has_lookaround, keyword_prose, with_prose

__all__ = ["add_constraints", "constraints_prose", "has_constraints", "lines"]

_KEYWORDS = (
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "examples",
)


def has_constraints(raw: Mapping[str, Any]) -> bool:
    """Return whether a schema contains more than its type."""
    return any(name in raw for name in _KEYWORDS)


def add_constraints(
    schema: Mapping[str, Any], raw: Mapping[str, Any], dialect: Dialect, *notes: str, words: Sequence[str] = ()
) -> dict[str, Any]:
    """Add the constraints of the original schema to a fitted one.

    Args:
        schema: The fitted type. The description goes before it, the supported constraints after it.
        raw: Pydantic's schema.
        dialect: What the provider can express.
        *notes: Lines for the description, "" for none.
        words: Constraints that are already described in text.
    """
    kept, lost = _split(raw, dialect)
    description = lines(with_prose(raw.get("description", ""), [*words, *lost]), *notes)
    given = {"description": description} if description else {}
    sayable = "default" in raw and not is_unsayable(raw["default"])
    default = {"default": raw["default"]} if dialect.defaults and sayable else {}
    return {**given, **schema, **kept, **default}


def lines(*texts: str) -> str:
    """Join texts, one per line, without empty ones."""
    return "\n".join(text for text in texts if text)


def constraints_prose(raw: Mapping[str, Any]) -> list[str]:
    """Describe all validation keywords as text, for a schema that cannot contain them."""
    return [keyword_prose(name, raw[name]) for name in _KEYWORDS if name in raw]


def _split(raw: Mapping[str, Any], dialect: Dialect) -> tuple[dict[str, Any], list[str]]:
    kept: dict[str, Any] = {}
    words: list[str] = []
    for name in _KEYWORDS:
        if name not in raw:
            continue
        if _stays(name, raw[name], dialect):
            kept[name] = raw[name]
        elif (inclusive := _inclusive(name, raw, dialect)) is not None:
            kept |= inclusive
        else:
            words.append(keyword_prose(name, raw[name]))
    return kept, words


def _stays(name: str, value: Any, dialect: Dialect) -> bool:
    if is_unsayable(value):  # a request cannot contain such a number
        return False
    if name == "format":
        return dialect.formats is None or value in dialect.formats
    if name == "examples":
        return dialect.defaults
    if name not in dialect.keywords:
        return False
    if name == "pattern":
        if dialect.anchored and not _is_anchored(value):
            return False
        return dialect.lookaround or not has_lookaround(value)
    return name != "minItems" or dialect.max_min_items is None or value <= dialect.max_min_items


def _inclusive(name: str, raw: Mapping[str, Any], dialect: Dialect) -> dict[str, Any] | None:
    """Convert an integer's exclusive bound to an inclusive one if only that is accepted."""
    bound, step = {"exclusiveMinimum": ("minimum", 1), "exclusiveMaximum": ("maximum", -1)}.get(name, ("", 0))
    if raw.get("type") != "integer" or not isinstance(raw[name], int):
        return None
    if bound not in dialect.keywords or bound in raw or is_unsayable(raw[name] + step):
        return None
    return {bound: raw[name] + step}


def _is_anchored(pattern: str) -> bool:
    # "^a|b$" also begins and ends with anchors, but neither of its branches is anchored on both sides.
    return pattern.startswith("^") and pattern.endswith("$") and not pattern.endswith("\\$") and "|" not in pattern
