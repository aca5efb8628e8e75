"""What is known of Google's API and models, as data.

Facts with their sources; what is unknown of a model is learned at its first 400 (see `quirks`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pllm_notebook.providers.bodies import FieldWriter, at, list_at, one_of_at
from pllm_notebook.providers.provider import ModelFacts, PromptCacheFacts
from pllm_notebook.schema import Dialect

__all__ = ["CHEAP_MODEL", "DIALECT", "KEYWORDS", "MODELS", "PROMPT_CACHE"]

# (genai-prices, November 2026)
CHEAP_MODEL = "gemini-3.5-flash-lite"

# Gemini thinks from 2.5 on (ai.google.dev/gemini-api/docs/thinking).
_WITHOUT_THINKING = re.compile(r"(gemini-(1|2\.0)|gemma-)")


def _may_reason(model: str, body: Mapping[str, Any]) -> bool:
    return _WITHOUT_THINKING.match(model) is None


MODELS = ModelFacts(bare=re.compile(r"(gemini-|gemma-)"), continues_answers=True, may_reason=_may_reason)

# (ai.google.dev/gemini-api/docs/caching of October 2026)
PROMPT_CACHE = PromptCacheFacts(minimums=((re.compile(r"gemini-2\.5"), 2048), (re.compile(""), 4096)))

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

_LEVELS = {word: word.upper() for word in ("minimal", "low", "medium", "high", "xhigh")}
# (google/genai/types.py, GenerationConfig and ThinkingConfig)
KEYWORDS: Mapping[str, FieldWriter] = {
    "top_p": at("generationConfig", "topP"),
    "stop": list_at("generationConfig", "stopSequences"),
    "seed": at("generationConfig", "seed"),
    "frequency_penalty": at("generationConfig", "frequencyPenalty"),
    "presence_penalty": at("generationConfig", "presencePenalty"),
    "reasoning_effort": one_of_at(_LEVELS, "generationConfig", "thinkingConfig", "thinkingLevel"),
}
