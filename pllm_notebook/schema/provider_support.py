"""What structured output can express: the class, and what no single provider owns.

Each provider's own is in its folder (`providers/NAME/facts.py`).
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
    """What one provider's structured output can express.

    Attributes:
        name: The provider's name; runs are recorded with it.
        keywords: Validation keywords that stay; the others become words of the description.
        formats: Values of `format` that stay, None for all.
        all_required: Every property must be required; optional ones are then asked for too.
        closed: Every object says `additionalProperties: false`.
        free_maps: `additionalProperties` may be a schema; otherwise a dict is asked for as a
            list of `{"key", "value"}` objects.
        tuples: `prefixItems` may be used; otherwise a tuple is asked for as an object with the
            properties `item_1`, `item_2`, ….
        recursion: Whether a type may hold itself: "yes", "no", or only behind properties that
            are not required ("optional").
        untyped: A value may be anything.
        const: `const` stays; otherwise it becomes an `enum` of one.
        typed_enums: Every `enum` has the one type of its values; mixed ones become unions.
        scalar_enums: Only text and numbers may be listed in an `enum`.
        defaults: `default` stays.
        lookaround: A `pattern` may look ahead and behind.
        anchored: A `pattern` must match the whole text, from `^` to `$`.
        ref_siblings: How words beside a `$ref` are kept: "keep" as they are, "inline" by putting
            the definition in its place, "parent" by telling them in the description above.
        max_min_items: The largest `minItems` that stays, None for any.
        ordering: Every object says `propertyOrdering`.
        max_depth: Objects inside each other, None for no limit; so for the limits below.
        max_properties: Properties of all objects, each definition counted once.
        max_enum_values: Values of all enums.
        max_optional: Properties that are not required, outside definitions.
        max_unions: Properties that are unions, outside definitions.
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
        """Who takes the type, as errors name it: the provider, or a server that belongs to none."""
        return "this server" if self.name in ("grammar", "plain") else self.name


# What the grammars of llama.cpp (common/json-schema-to-grammar.cpp) and vLLM's xgrammar
# (has_xgrammar_unsupported_json_features) both enforce. llama.cpp takes only whole-text patterns,
# neither takes multipleOf or uniqueItems.
GRAMMAR = Dialect(
    name="grammar",
    keywords=(NUMBER_KEYWORDS - {"multipleOf"}) | STRING_KEYWORDS | {"minItems", "maxItems"},
    formats=frozenset({"date-time", "date", "time", "uuid"}),
    untyped=True,
    anchored=True,
)

# Shown to the model in its prompt and not enforced, so everything goes.
PLAIN = Dialect(
    name="plain",
    keywords=NUMBER_KEYWORDS | STRING_KEYWORDS | _ARRAYS | _MAPS,
    closed=False,
    untyped=True,
    defaults=True,
    lookaround=True,
    ref_siblings="keep",
)
