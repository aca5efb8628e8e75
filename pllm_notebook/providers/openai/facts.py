"""Facts about OpenAI's API and models, as data, with their sources.

Anything unknown about a model is learned from its first 400 (see `quirks`).
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

# Models in `AllModels` but not in `ChatModel` have no Chat Completions (openai/types/shared/all_models.py).
_RESPONSES_ONLY = re.compile(
    r"(o\d-pro|.*-deep-research|computer-use|gpt-5-pro|gpt-5\.5-pro|gpt-.*codex|gpt-daybreak|gpt-.*cyber|gpt-.*rosalind)"
)

# Sampling parameters are a 400 while reasoning is on. Models that reason by default take them with effort "none"
# (pydantic-ai's profiles/openai.py, whose authors checked them live).
_REASONING_ALWAYS = re.compile(
    r"(o\d|gpt-6-astra|gpt-6\.1-sol|gpt-5(-mini|-nano|-pro)?(-\d{4}.*)?$|gpt-.*-pro|gpt-5.*-chat)"
)
_REASONING_BY_DEFAULT = re.compile(r"(gpt-6|gpt-5\.[5-9])")


def responses_only(model: str) -> bool:
    """Return whether OpenAI serves *model* only through Responses."""
    return _RESPONSES_ONLY.match(model) is not None


def _reasons(model: str, body: Mapping[str, Any]) -> bool:
    if _REASONING_ALWAYS.match(model):
        return True
    effort = body.get("reasoning_effort") or (body.get("reasoning") or {}).get("effort")
    return _REASONING_BY_DEFAULT.match(model) is not None and effort != "none"


# The first pattern that matches applies. Our "max" is the highest effort that Chat Completions takes, which is not its
# `max` (same source). For `-pro`, `-chat` and Codex models the efforts are unknown.
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
    # Only without reasoning. Whether gpt-6 gives them in that case is not documented (vercel/ai, issue 10932).
    gives_tokens=lambda model, body: False if _reasons(model, body) else None,
)

# The cache mark is a body field, which compatible servers may reject without naming it
# (developers.openai.com/api/docs/guides/prompt-caching).
PROMPT_CACHE = PromptCacheFacts(minimums=((re.compile(""), 1024),), marks_travel=False)

# OpenAI's guide "Structured model outputs", section "Supported schemas": the root is an object,
# all fields are required, additionalProperties is always false, 10 levels, 5,000 properties,
# 1,000 enum values, recursion by $ref, no allOf, not, if, patternProperties, uniqueItems.
# The keywords and formats below are the guide's. A $ref has no siblings: openai-python
# (openai/lib/_pydantic.py) inlines the definition in that case, and so do we.
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
