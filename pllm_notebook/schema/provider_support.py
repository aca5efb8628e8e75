"""What each provider's structured output can express, one constant a provider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ANTHROPIC", "GOOGLE", "GRAMMAR", "OPENAI", "PLAIN", "Dialect"]

_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_STRINGS = frozenset({"minLength", "maxLength", "pattern"})
_ARRAYS = frozenset({"minItems", "maxItems", "uniqueItems"})
_MAPS = frozenset({"minProperties", "maxProperties", "propertyNames", "patternProperties"})


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one provider's structured output can express.

    Attributes:
        name: The provider's name, as errors say it.
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


# OpenAI's guide "Structured model outputs", section "Supported schemas": the root is an object,
# all fields are required, additionalProperties is always false, 10 levels, 5,000 properties,
# 1,000 enum values, recursion by $ref, no allOf, not, if, patternProperties, uniqueItems.
# Its list of keywords and formats is the one below. $ref has no siblings: openai-python,
# openai/lib/_pydantic.py, puts the definition in its place, and so do we.
OPENAI = Dialect(
    name="openai",
    keywords=_NUMBERS | _STRINGS | {"minItems", "maxItems"},
    formats=frozenset(
        {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"},
    ),
    all_required=True,
    free_maps=False,
    tuples=False,
    const=False,
    typed_enums=True,
    max_depth=10,
    max_properties=5000,
    max_enum_values=1000,
)

# Anthropic's page "Structured outputs", section "JSON Schema limitations", and what its own SDK
# strips (anthropic/lib/_parse/_transform.py): no recursion, no numeric or length constraints,
# minItems only 0 or 1, additionalProperties always false (a dict would always come back empty),
# enums of plain values; 24 optional and 16 union-typed parameters, those behind a $ref not counted,
# which is why words beside a $ref move up instead of pulling the definition in.
ANTHROPIC = Dialect(
    name="anthropic",
    keywords=frozenset({"minItems"}),
    formats=frozenset(
        {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"},
    ),
    free_maps=False,
    tuples=False,
    recursion="no",
    ref_siblings="parent",
    max_min_items=1,
    max_optional=24,
    max_unions=16,
)

# google-genai, types.py, GenerateContentConfig.response_json_schema: $defs $ref type format
# description enum (text and numbers) items prefixItems minItems maxItems minimum maximum anyOf
# properties additionalProperties required propertyOrdering; $ref without siblings; cyclic ones only
# behind properties that are not required. Formats: Gemini API guide "Structured outputs".
GOOGLE = Dialect(
    name="google",
    keywords=frozenset({"minItems", "maxItems", "minimum", "maximum"}),
    formats=frozenset({"date-time", "date", "time"}),
    closed=False,
    recursion="optional",
    const=False,
    typed_enums=True,
    scalar_enums=True,
    ordering=True,
)

# What the grammars of llama.cpp (common/json-schema-to-grammar.cpp) and vLLM's xgrammar
# (has_xgrammar_unsupported_json_features) both enforce. llama.cpp takes only whole-text patterns,
# neither takes multipleOf or uniqueItems.
GRAMMAR = Dialect(
    name="grammar",
    keywords=(_NUMBERS - {"multipleOf"}) | _STRINGS | {"minItems", "maxItems"},
    formats=frozenset({"date-time", "date", "time", "uuid"}),
    untyped=True,
    anchored=True,
)

# Shown to the model in its prompt and enforced by no one, so everything goes.
PLAIN = Dialect(
    name="plain",
    keywords=_NUMBERS | _STRINGS | _ARRAYS | _MAPS,
    closed=False,
    untyped=True,
    defaults=True,
    lookaround=True,
    ref_siblings="keep",
)
