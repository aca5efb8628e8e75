"""Capabilities of structured output: the class, and the dialects that do not belong to one provider.

The dialect of each provider is in its folder (`providers/NAME/facts.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["GRAMMAR", "NUMBER_KEYWORDS", "PLAIN", "STRING_KEYWORDS", "Dialect"]

NUMBER_KEYWORDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
STRING_KEYWORDS = frozenset({"minLength", "maxLength", "pattern"})
_ARRAYS = frozenset({"minItems", "maxItems", "uniqueItems"})
_MAPS = frozenset({"minProperties", "maxProperties", "propertyNames", "patternProperties"})


@dataclass(frozen=True, slots=True)
class Dialect:
    """Capabilities of one provider's structured output.

    Attributes:
        name: The provider's name, stored in the record of each run.
        keywords: Supported validation keywords. The others are described in words.
        formats: Supported values of `format`, None for all.
        all_required: Whether every property must be required. Optional ones are then also requested.
        closed: Whether every object needs `additionalProperties: false`.
        free_maps: Whether `additionalProperties` may be a schema. Otherwise a dict is requested as
            a list of `{"key", "value"}` objects.
        tuples: Whether `prefixItems` is supported. Otherwise a tuple is requested as an object with
            the properties `item_1`, `item_2`, ….
        recursion: Whether a type may contain itself: "yes", "no", or only behind properties that
            are not required ("optional").
        untyped: Whether a schema may leave the type of a value open.
        const: Whether `const` is supported. Otherwise it becomes an `enum` of one value.
        typed_enums: Whether all values of an `enum` must have the same type. Mixed ones become unions.
        scalar_enums: Whether an `enum` may contain only text and numbers.
        defaults: Whether `default` is supported.
        lookaround: Whether a `pattern` may look ahead and behind.
        anchored: Whether a `pattern` must match the whole text, from `^` to `$`.
        ref_siblings: Treatment of keywords next to a `$ref`: "keep" leaves them, "inline" replaces the
            `$ref` by its definition, "parent" moves them to the description of the parent.
        max_min_items: Largest supported `minItems`, None for any.
        ordering: Whether every object gets `propertyOrdering`.
        max_depth: Maximum nesting of objects; None for no limit, as for the limits below.
        max_properties: Maximum properties of all objects, with each definition counted once.
        max_enum_values: Maximum values of all enums.
        max_optional: Maximum properties that are not required, outside definitions.
        max_unions: Maximum properties that are unions, outside definitions.
    """

    name: str
    keywords: frozenset[str]
    formats: frozenset[str] | None = None
    all_required: bool = False
    closed: bool = True
    free_maps: bool = True
    tuples: bool = True
    recursion: Literal["yes", "no", "optional"] = "yes"
    untyped: bool = False
    const: bool = True
    typed_enums: bool = False
    scalar_enums: bool = False
    defaults: bool = False
    lookaround: bool = False
    anchored: bool = False
    ref_siblings: Literal["keep", "inline", "parent"] = "inline"
    max_min_items: int | None = None
    ordering: bool = False
    max_depth: int | None = None
    max_properties: int | None = None
    max_enum_values: int | None = None
    max_optional: int | None = None
    max_unions: int | None = None

    @property
    def taker(self) -> str:
        """Name of the recipient in error messages: the provider, or "this server" for other servers."""
        return "this server" if self.name in ("grammar", "plain") else self.name


# Keywords enforced by both the grammars of llama.cpp (common/json-schema-to-grammar.cpp) and vLLM's
# xgrammar (has_xgrammar_unsupported_json_features). llama.cpp accepts only whole-text patterns, and
# neither accepts multipleOf or uniqueItems.
GRAMMAR = Dialect(
    name="grammar",
    keywords=(NUMBER_KEYWORDS - {"multipleOf"}) | STRING_KEYWORDS | {"minItems", "maxItems"},
    formats=frozenset({"date-time", "date", "time", "uuid"}),
    untyped=True,
    anchored=True,
)

# Shown to the model in its prompt and not enforced, so everything is allowed.
PLAIN = Dialect(
    name="plain",
    keywords=NUMBER_KEYWORDS | STRING_KEYWORDS | _ARRAYS | _MAPS,
    closed=False,
    untyped=True,
    defaults=True,
    lookaround=True,
    ref_siblings="keep",
)
