"""What is known of OpenAI's models by their names.

Facts with their source; anything unknown is learned at the first 400 (see `quirks`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pllm_notebook.providers.provider import ModelFacts, PromptCacheFacts

__all__ = ["CHEAP_MODEL", "FACTS", "PROMPT_CACHE", "responses_only"]

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


FACTS = ModelFacts(
    bare=re.compile(r"(gpt-|chatgpt-|o\d)"),
    aliases=("ft",),  # a fine-tuned model, whose name has colons
    refuses_sampling=_reasons,
    may_reason=_reasons,
)

# A mark is a field of the body that other servers of the format may refuse without naming it
# (developers.openai.com/api/docs/guides/prompt-caching).
PROMPT_CACHE = PromptCacheFacts(minimums=((re.compile(""), 1024),), marks_travel=False)
