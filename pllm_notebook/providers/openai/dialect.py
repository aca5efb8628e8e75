"""What OpenAI's structured output can express."""

from __future__ import annotations

from pllm_notebook.schema import NUMBER_KEYWORDS, STRING_KEYWORDS, Dialect

__all__ = ["DIALECT"]

# OpenAI's guide "Structured model outputs", section "Supported schemas": the root is an object,
# all fields are required, additionalProperties is always false, 10 levels, 5,000 properties,
# 1,000 enum values, recursion by $ref, no allOf, not, if, patternProperties, uniqueItems.
# Its list of keywords and formats is the one below. $ref has no siblings: openai-python,
# openai/lib/_pydantic.py, puts the definition in its place, and so do we.
DIALECT = Dialect(
    name="openai",
    keywords=NUMBER_KEYWORDS | STRING_KEYWORDS | {"minItems", "maxItems"},
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
