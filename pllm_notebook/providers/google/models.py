"""What is known of Google's models by their names.

Facts with their source; anything unknown is learned at the first 400 (see `quirks`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pllm_notebook.providers.provider import ModelFacts, PromptCacheFacts

__all__ = ["CHEAP_MODEL", "FACTS", "PROMPT_CACHE"]

# (genai-prices, November 2026)
CHEAP_MODEL = "gemini-3.5-flash-lite"

# Gemini thinks from 2.5 on (ai.google.dev/gemini-api/docs/thinking).
_WITHOUT_THINKING = re.compile(r"(gemini-(1|2\.0)|gemma-)")


def _may_reason(model: str, body: Mapping[str, Any]) -> bool:
    return _WITHOUT_THINKING.match(model) is None


FACTS = ModelFacts(bare=re.compile(r"(gemini-|gemma-)"), continues_answers=True, may_reason=_may_reason)

# (ai.google.dev/gemini-api/docs/caching of October 2026)
PROMPT_CACHE = PromptCacheFacts(minimums=((re.compile(r"gemini-2\.5"), 2048), (re.compile(""), 4096)))
