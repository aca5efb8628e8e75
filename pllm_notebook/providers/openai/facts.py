"""What is known of OpenAI's API and models, as data.

Facts with their sources; what is unknown of a model is learned at its first 400 (see `quirks`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pllm_notebook.providers.provider import ModelFacts, PromptCacheFacts
from pllm_notebook.schema import NUMBER_KEYWORDS, STRING_KEYWORDS, Dialect

__all__ = ["CHEAP_MODEL", "DIALECT", "MODELS", "PROMPT_CACHE", "SERVICE_TIERS", "responses_only"]

# (openai/types/shared/chat_model.py, genai-prices, November 2026)
CHEAP_MODEL = "gpt-6-luna"

# In `AllModels` but not in `ChatModel`: no Chat Completions (openai/types/shared/all_models.py).
_RESPONSES_ONLY = re.compile(
    r"(o\d-pro|.*-deep-research|computer-use|gpt-5-pro|gpt-5\.5-pro|gpt-.*codex|gpt-daybreak|gpt-.*cyber|gpt-.*rosalind)"
)

# Sampling parameters are a 400 while reasoning is on; those that reason by default take them with effort "none"
# (pydantic-ai's profiles/openai.py, whose authors checked them live).
_REASONING_ALWAYS = re.compile(
    r"(o\d|gpt-6-astra|gpt-6\.1-sol|gpt-5(-mini|-nano|-pro)?(-\d{4}.*)?$|gpt-.*-pro|gpt-5.*-chat)"
)
_REASONING_BY_DEFAULT = re.compile(r"(gpt-6|gpt-5\.[5-9])")


def responses_only(model: str) -> bool:
    """Return whether OpenAI serves *model* through Responses alone."""
    return _RESPONSES_ONLY.match(model) is not None


def _reasons(model: str, body: Mapping[str, Any]) -> bool:
    if _REASONING_ALWAYS.match(model):
        return True
    effort = body.get("reasoning_effort") or (body.get("reasoning") or {}).get("effort")
    return _REASONING_BY_DEFAULT.match(model) is not None and effort != "none"


# The first that matches; "max" is the most that Chat Completions takes, which is not `max` (same source). Of `-pro`,
# `-chat` and Codex models only the provider knows.
_Efforts = Mapping[str, str | Mapping[str, Any]]
_UP_TO_HIGH: _Efforts = {word: word for word in ("low", "medium", "high")}
_UP_TO_XHIGH: _Efforts = {**_UP_TO_HIGH, "max": "xhigh"}
_EFFORTS: tuple[tuple[re.Pattern[str], _Efforts | None], ...] = (
    (re.compile(r"gpt-.*(-pro|-chat|codex)"), None),
    (re.compile(r"o\d-(pro|deep)"), None),
    (re.compile(r"o\d"), {**_UP_TO_HIGH, "max": "high"}),
    (re.compile(r"gpt-6-astra|gpt-6\.1-sol"), _UP_TO_XHIGH),
    (re.compile(r"gpt-6|gpt-5\.[2-9]"), {"none": "none", **_UP_TO_XHIGH}),
    (re.compile(r"gpt-5\.1"), {"none": "none", **_UP_TO_HIGH, "max": "high"}),
    (re.compile(r"gpt-5"), {"minimal": "minimal", **_UP_TO_HIGH, "max": "high"}),
    (re.compile(r"gpt-[34]|chatgpt-4"), {"none": {}}),
)


def _efforts(model: str) -> Mapping[str, str | Mapping[str, Any]] | None:
    return next((takes for pattern, takes in _EFFORTS if pattern.match(model)), None)


# (openai/types/chat/completion_create_params.py)
SERVICE_TIERS = {
    "auto": {"service_tier": "auto"},
    "standard": {"service_tier": "default"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}

MODELS = ModelFacts(
    bare=re.compile(r"(gpt-|chatgpt-|o\d)"),
    aliases=("ft",),  # a fine-tuned model, whose name has colons
    refuses_sampling=_reasons,
    may_reason=_reasons,
    efforts=_efforts,
    # Only without reasoning; whether gpt-6 gives them then is not documented (vercel/ai, issue 10932).
    gives_tokens=lambda model, body: False if _reasons(model, body) else None,
)

# The mark is a body field that compatible servers may reject without naming it
# (developers.openai.com/api/docs/guides/prompt-caching).
PROMPT_CACHE = PromptCacheFacts(minimums=((re.compile(""), 1024),), marks_travel=False)

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
