"""Convert any type that Pydantic can validate to each provider's schema, and replies back to values.

Pure functions: nothing here sends, waits or stores anything.
"""

from __future__ import annotations

from pllm_notebook.schema.choices import ChoiceField, names_without_choices, spelling
from pllm_notebook.schema.decided import DecisionOutput, Misread, read_answers
from pllm_notebook.schema.evidence import QuotingSchema
from pllm_notebook.schema.excerpts import extract_json
from pllm_notebook.schema.fields import OutputField
from pllm_notebook.schema.fitted_schema import FittedSchema, Invalid, Parsed, repair_lines
from pllm_notebook.schema.fitting import Fit, fit
from pllm_notebook.schema.json_length import longest_json
from pllm_notebook.schema.json_types import kind_of
from pllm_notebook.schema.number_checks import is_beyond
from pllm_notebook.schema.output import OutputType, packed
from pllm_notebook.schema.partial import partial_value
from pllm_notebook.schema.plain_answers import PlainAnswers
from pllm_notebook.schema.provider_support import GRAMMAR, NUMBER_KEYWORDS, PLAIN, STRING_KEYWORDS, Dialect
from pllm_notebook.schema.questions import MAX_LEVELS, DecisionAnswer, FieldQuestions, QuestionPlan
from pllm_notebook.schema.size_limits import check_limits
from pllm_notebook.schema.value_spans import Path, spans_by_path
from pllm_notebook.schema.value_tokens import OptionShares, Token, ValueStep, chosen_option, option_shares, steps_of

__all__ = [
    "GRAMMAR",
    "MAX_LEVELS",
    "NUMBER_KEYWORDS",
    "PLAIN",
    "STRING_KEYWORDS",
    "ChoiceField",
    "DecisionAnswer",
    "DecisionOutput",
    "Dialect",
    "FieldQuestions",
    "Fit",
    "FittedSchema",
    "Invalid",
    "Misread",
    "OptionShares",
    "OutputField",
    "OutputType",
    "Parsed",
    "Path",
    "PlainAnswers",
    "QuestionPlan",
    "QuotingSchema",
    "Token",
    "ValueStep",
    "check_limits",
    "chosen_option",
    "extract_json",
    "fit",
    "is_beyond",
    "kind_of",
    "longest_json",
    "names_without_choices",
    "option_shares",
    "packed",
    "partial_value",
    "read_answers",
    "repair_lines",
    "spans_by_path",
    "spelling",
    "steps_of",
]
