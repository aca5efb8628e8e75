"""The keywords of OpenAI's client: which are sent, which are not supported, and their fields in Responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from pllm_notebook.providers.bodies import FieldWriter, at

__all__ = ["CARRIED", "DEFAULTS", "NOT_CARRIED", "RESPONSES_KEYWORDS", "OpenAIKeywords"]


class OpenAIKeywords(TypedDict, total=False):
    """Keywords of OpenAI's client that are sent, as each provider's own fields."""

    # Keywords of `AsyncCompletions.parse` that it puts into the body unchanged
    # (openai/resources/chat/completions/completions.py).
    frequency_penalty: float | None
    logit_bias: Mapping[str, int] | None
    logprobs: bool | None
    metadata: Mapping[str, str] | None
    presence_penalty: float | None
    prompt_cache_key: str | None
    prompt_cache_options: Mapping[str, Any] | None
    prompt_cache_retention: str | None
    reasoning_effort: str | None
    safety_identifier: str | None
    seed: int | None
    service_tier: str | None
    stop: str | Sequence[str] | None
    store: bool | None
    top_logprobs: int | None
    top_p: float | None
    user: str | None
    verbosity: str | None


CARRIED = frozenset(OpenAIKeywords.__annotations__)
# Other keywords of `parse`, with the reason why each is not supported.
NOT_CARRIED = {
    "n": "several answers are samples, each a call of its own (num_processors=, replicate=)",
    "stream": "a reply is stored and checked whole",
    "stream_options": "a reply is stored and checked whole",
    "functions": "they would not be run",
    "function_call": "the functions would not be run",
    "audio": "answers are text",
    "modalities": "answers are text",
    "prediction": "no part of the answer is known",
    "moderation": "its result would be lost",
    "web_search_options": "what it finds is not stored with the answer",
}
# Values that only repeat the default.
DEFAULTS: Mapping[str, tuple[Any, ...]] = {"n": (1,), "stream": (False,), "logprobs": (False,)}
# Responses lacks these, or has them in a field that this package fills (openai/types/responses/
# response_create_params.py).
_CHAT_ONLY = {
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "presence_penalty",
    "seed",
    "stop",
    "top_logprobs",
    "verbosity",
}
RESPONSES_KEYWORDS: Mapping[str, FieldWriter] = {
    **{name: at(name) for name in CARRIED - _CHAT_ONLY},
    "reasoning_effort": at("reasoning", "effort"),
}
