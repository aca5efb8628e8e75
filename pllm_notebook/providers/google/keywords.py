"""What the keywords of OpenAI's client are called by Google."""

from __future__ import annotations

from collections.abc import Mapping

from pllm_notebook.providers.body_fields import FieldWriter, at, list_at, one_of_at

__all__ = ["KEYWORDS"]

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
