"""What Anthropic's structured output can express."""

from __future__ import annotations

from pllm_notebook.schema import Dialect

__all__ = ["DIALECT"]

# Anthropic's page "Structured outputs", section "JSON Schema limitations", and what its own SDK
# strips (anthropic/lib/_parse/_transform.py): no recursion, no numeric or length constraints,
# minItems only 0 or 1, additionalProperties always false (a dict would always come back empty),
# enums of plain values; 24 optional and 16 union-typed parameters, those behind a $ref not counted,
# which is why words beside a $ref move up instead of pulling the definition in.
DIALECT = Dialect(
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
