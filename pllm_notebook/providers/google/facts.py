"""Facts about Google's API and models, as data, with their sources.

Anything unknown about a model is learned from its first 400 (see `quirks`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pllm_notebook.providers.bodies import FieldWriter, at, list_at, one_of_at
from pllm_notebook.providers.provider import ModelFacts, PromptCacheFacts
from pllm_notebook.schema import Dialect

__all__ = ["CHEAP_MODEL", "DIALECT", "KEYWORDS", "MODELS", "PROMPT_CACHE", "SERVICE_TIERS"]

# (genai-prices, November 2026)
CHEAP_MODEL = "gemini-3.5-flash-lite"

# Gemini thinks from 2.5 on (ai.google.dev/gemini-api/docs/thinking).
_WITHOUT_THINKING = re.compile(r"(gemini-(1|2\.0)|gemma-)")


def _may_reason(model: str, body: Mapping[str, Any]) -> bool:
    thinking = (body.get("generationConfig") or {}).get("thinkingConfig") or {}
    return _WITHOUT_THINKING.match(model) is None and thinking.get("thinkingBudget") != 0


def _level(word: str) -> Mapping[str, Any]:
    return {"generationConfig": {"thinkingConfig": {"thinkingLevel": word}}}


def _budget(tokens: int) -> Mapping[str, Any]:
    return {"generationConfig": {"thinkingConfig": {"thinkingBudget": tokens}}}


# Gemini 2.5 takes a number of tokens: these are the numbers that Google itself uses for OpenAI's efforts
# (ai.google.dev/gemini-api/docs/openai, "Thinking"). Its Pro model always thinks. Gemini 3 takes levels, and always
# thinks too. Some of its models do not take MINIMAL (pydantic-ai's profiles/google.py), and 3 Pro does not take MEDIUM
# either (ai.google.dev/gemini-api/docs/thinking). HIGH is the highest level that all of them take.
_BUDGETS = {word: _budget(tokens) for word, tokens in (("low", 1024), ("medium", 8192), ("high", 24_576))}
_LOW_TO_MAX = {"low": _level("LOW"), "medium": _level("MEDIUM"), "high": _level("HIGH"), "max": _level("HIGH")}
_EFFORTS: tuple[tuple[re.Pattern[str], Mapping[str, Mapping[str, Any]] | None], ...] = (
    (_WITHOUT_THINKING, {"none": {}}),
    (re.compile(r"gemini-2\.5-pro"), _BUDGETS | {"max": _budget(32_768)}),
    (re.compile(r"gemini-2\.5"), {"none": _budget(0)} | _BUDGETS | {"max": _budget(24_576)}),
    (re.compile(r"gemini-3-pro"), {word: _LOW_TO_MAX[word] for word in ("low", "high", "max")}),
    (re.compile(r"gemini-(3\.[78]-flash(?!-lite)|3\.1-pro|4-argon|4-carbon)"), _LOW_TO_MAX),
    (re.compile(r"gemini-[3-9]"), {"minimal": _level("MINIMAL")} | _LOW_TO_MAX),
)


def _efforts(model: str) -> Mapping[str, str | Mapping[str, Any]] | None:
    return next((takes for pattern, takes in _EFFORTS if pattern.match(model)), None)


MODELS = ModelFacts(
    bare=re.compile(r"(gemini-|gemma-)"), continues_answers=True, may_reason=_may_reason, efforts=_efforts
)

# (google/genai/types.py, ServiceTier)
SERVICE_TIERS = {word: {"serviceTier": word} for word in ("standard", "flex", "priority")}

# (ai.google.dev/gemini-api/docs/caching of October 2026)
PROMPT_CACHE = PromptCacheFacts(minimums=((re.compile(r"gemini-2\.5"), 2048), (re.compile(""), 4096)))

# google-genai, types.py, GenerateContentConfig.response_json_schema: $defs $ref type format
# description enum (text and numbers) items prefixItems minItems maxItems minimum maximum anyOf
# properties additionalProperties required propertyOrdering. A $ref has no siblings; a cyclic one is
# allowed only in properties that are not required. Formats: Gemini API guide "Structured outputs".
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
