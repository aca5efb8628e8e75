"""What is known of models by their names: who serves them and what they refuse.

Facts with their source; anything unknown is learned at the first 400 (see `quirks`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["CHEAP", "may_reason", "provider_of", "refuses_prefill", "refuses_sampling", "responses_only"]

# The cheap current model of each provider, in the order in which keys are looked for
# (openai/types/shared/chat_model.py, anthropic/types/model.py, genai-prices, November 2026).
CHEAP = {"openai": "gpt-6-luna", "anthropic": "claude-haiku-5-5", "google": "gemini-3.5-flash-lite"}

_BARE = (
    (re.compile(r"(gpt-|chatgpt-|o\d)"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"(gemini-|gemma-)"), "google"),
)

# In `AllModels` but not in `ChatModel`: no Chat Completions (openai/types/shared/all_models.py).
_RESPONSES_ONLY = re.compile(
    r"(o\d-pro|.*-deep-research|computer-use|gpt-5-pro|gpt-5\.5-pro|gpt-.*codex|gpt-daybreak|gpt-.*cyber|gpt-.*rosalind)"
)

# Sampling parameters are a 400 while reasoning is on; "can" models take them with effort "none"
# (pydantic-ai's profiles/openai.py, whose authors checked them live).
_REASONING_ALWAYS = re.compile(
    r"(o\d|gpt-6-astra|gpt-6\.1-sol|gpt-5(-mini|-nano|-pro)?(-\d{4}.*)?$|gpt-.*-pro|gpt-5.*-chat)"
)
_REASONING_BY_DEFAULT = re.compile(r"(gpt-6|gpt-5\.[5-9])")

# "`temperature` is deprecated for this model." (pydantic-ai's profiles/anthropic.py)
_CLAUDE_FIXED = re.compile(r"claude-(opus-(4-[7-9]|[5-9])|sonnet-[5-9]|haiku-[5-9]|fable|mythos)")

# Gemini thinks from 2.5 on (ai.google.dev/gemini-api/docs/thinking).
_GEMINI_PLAIN = re.compile(r"(gemini-(1|2\.0)|gemma-)")

# "This model does not support assistant message prefill." From Claude 4.6 on
# (platform.claude.com/docs/en/about-claude/models/migration-guide).
_CLAUDE_ANEW = re.compile(r"claude-(opus|sonnet|haiku)-4-6")


def provider_of(name: str) -> str | None:
    """Return which provider a bare model name belongs to, None when it cannot be told."""
    return next((provider for pattern, provider in _BARE if pattern.match(name)), None)


def responses_only(model: str) -> bool:
    """Return whether OpenAI serves *model* through Responses alone."""
    return _RESPONSES_ONLY.match(model) is not None


def refuses_sampling(provider: str, model: str, body: Mapping[str, Any]) -> bool:
    """Return whether temperature and the like would be a 400 for this request."""
    if provider == "anthropic":
        return _CLAUDE_FIXED.match(model) is not None
    if provider == "openai":
        if _REASONING_ALWAYS.match(model):
            return True
        effort = body.get("reasoning_effort") or (body.get("reasoning") or {}).get("effort")
        return _REASONING_BY_DEFAULT.match(model) is not None and effort != "none"
    return False


def may_reason(provider: str | None, model: str, body: Mapping[str, Any]) -> bool:
    """Return whether answers may have tokens that nobody sees, unless it is known that they have none."""
    if provider == "openai":
        return refuses_sampling(provider, model, body)
    if provider == "anthropic":
        return "thinking" in body or _CLAUDE_FIXED.match(model) is not None
    return provider != "local" and not (provider == "google" and _GEMINI_PLAIN.match(model))


def refuses_prefill(model: str) -> bool:
    """Return whether one of Anthropic's models refuses a conversation that ends with the beginning of its answer."""
    return (_CLAUDE_ANEW.match(model) or _CLAUDE_FIXED.match(model)) is not None
