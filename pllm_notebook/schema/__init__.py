"""From any type that Pydantic can validate to what each provider accepts, and back.

Pure: nothing here sends, waits or keeps anything.
"""

from __future__ import annotations

from pllm_notebook.schema.excerpts import extract_json
from pllm_notebook.schema.fields import OutputField
from pllm_notebook.schema.fitted_schema import FittedSchema, Invalid, Parsed, repair_lines
from pllm_notebook.schema.json_length import longest_json
from pllm_notebook.schema.output import OutputType, packed
from pllm_notebook.schema.provider_support import GRAMMAR, NUMBER_KEYWORDS, PLAIN, STRING_KEYWORDS, Dialect

__all__ = [
    "GRAMMAR",
    "NUMBER_KEYWORDS",
    "PLAIN",
    "STRING_KEYWORDS",
    "Dialect",
    "FittedSchema",
    "Invalid",
    "OutputField",
    "OutputType",
    "Parsed",
    "extract_json",
    "longest_json",
    "packed",
    "repair_lines",
]
