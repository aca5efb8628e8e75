"""From any type that Pydantic can validate to what each provider accepts, and back.

Pure: nothing here sends, waits or keeps anything.
"""

from __future__ import annotations

from pllm_notebook.schema.bounds import longest_json
from pllm_notebook.schema.dialects import ANTHROPIC, GOOGLE, GRAMMAR, OPENAI, PLAIN, Dialect
from pllm_notebook.schema.excerpts import extract_json
from pllm_notebook.schema.fields import OutputField
from pllm_notebook.schema.output import OutputType
from pllm_notebook.schema.packed import packed
from pllm_notebook.schema.replies import FittedSchema, Invalid, Parsed, repair_lines

__all__ = [
    "ANTHROPIC",
    "GOOGLE",
    "GRAMMAR",
    "OPENAI",
    "PLAIN",
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
