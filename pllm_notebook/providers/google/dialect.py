"""What Gemini's structured output can express."""

from __future__ import annotations

from pllm_notebook.schema import Dialect

__all__ = ["DIALECT"]

# google-genai, types.py, GenerateContentConfig.response_json_schema: $defs $ref type format
# description enum (text and numbers) items prefixItems minItems maxItems minimum maximum anyOf
# properties additionalProperties required propertyOrdering; $ref without siblings; cyclic ones only
# behind properties that are not required. Formats: Gemini API guide "Structured outputs".
DIALECT = Dialect(
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
