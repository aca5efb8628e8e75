"""From any type that Pydantic can validate to what each provider accepts, and back.

Pure: nothing here sends, waits or keeps anything.
"""

from __future__ import annotations

from pllm_notebook.schema.checked_schema import is_beyond
from pllm_notebook.schema.choices import ChoiceField, spelling
from pllm_notebook.schema.excerpts import extract_json
from pllm_notebook.schema.fields import OutputField
from pllm_notebook.schema.fitted_schema import FittedSchema, Invalid, Parsed, repair_lines
from pllm_notebook.schema.fitting import Fit, fit
from pllm_notebook.schema.json_length import longest_json
from pllm_notebook.schema.json_types import kind_of
from pllm_notebook.schema.output import OutputType, packed
from pllm_notebook.schema.provider_support import GRAMMAR, NUMBER_KEYWORDS, PLAIN, STRING_KEYWORDS, Dialect
from pllm_notebook.schema.size_limits import check_limits

__all__ = [
    "GRAMMAR",
    "NUMBER_KEYWORDS",
    "PLAIN",
    "STRING_KEYWORDS",
    "ChoiceField",
    "Dialect",
    "Fit",
    "FittedSchema",
    "Invalid",
    "OutputField",
    "OutputType",
    "Parsed",
    "check_limits",
    "extract_json",
    "fit",
    "is_beyond",
    "kind_of",
    "longest_json",
    "packed",
    "repair_lines",
    "spelling",
]
