"""Facts about Anthropic's API and models, as data, with their sources.

Anything unknown about a model is learned from its first 400 (see `quirks`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pllm_notebook.providers.bodies import FieldWriter, at, list_at, one_of_at
from pllm_notebook.providers.provider import ModelFacts, PromptCacheFacts
from pllm_notebook.schema import Dialect

__all__ = ["CHEAP_MODEL", "DIALECT", "KEYWORDS", "MODELS", "PROMPT_CACHE", "SERVICE_TIERS", "refuses_prefill"]

# (anthropic/types/model.py, genai-prices, November 2026)
CHEAP_MODEL = "claude-haiku-5-5"

# "`temperature` is deprecated for this model." (pydantic-ai's profiles/anthropic.py)
_WITHOUT_SAMPLING = re.compile(r"claude-(opus-(4-[7-9]|[5-9])|sonnet-[5-9]|haiku-[5-9]|fable|mythos)")

# "This model does not support assistant message prefill." From Claude 4.6 on
# (platform.claude.com/docs/en/about-claude/models/migration-guide).
_WITHOUT_PREFILL = re.compile(r"claude-(opus|sonnet|haiku)-4-6")


def refuses_prefill(model: str) -> bool:
    """Return whether *model* rejects a prefill: a conversation that ends with the beginning of its answer."""
    return (_WITHOUT_PREFILL.match(model) or _WITHOUT_SAMPLING.match(model)) is not None


def _refuses_sampling(model: str, body: Mapping[str, Any]) -> bool:
    return _WITHOUT_SAMPLING.match(model) is not None


def _may_reason(model: str, body: Mapping[str, Any]) -> bool:
    if "thinking" in body:
        return (body["thinking"] or {}).get("type") not in ("disabled", "between_tools")
    return _WITHOUT_SAMPLING.match(model) is not None


# Models that think only on request do nothing special for "none". Of the models that think by default, only some can
# be stopped, Sonnet 5.5 by a value of its own. (pydantic-ai's profiles/anthropic.py; platform.claude.com/docs,
# models/sonnet-5-5/overview; anthropic/types/thinking_config_between_tools_param.py)
_Efforts = Mapping[str, str | Mapping[str, Any]]
_UP_TO_HIGH: _Efforts = {word: word for word in ("low", "medium", "high")}
_UP_TO_MAX: _Efforts = {**_UP_TO_HIGH, "max": "max"}
_EFFORTS_TAKEN: tuple[tuple[re.Pattern[str], _Efforts], ...] = (
    (re.compile(r"claude-(haiku-4|sonnet-4-[05]|sonnet-4-2|opus-4-[01]|opus-4-2|3)"), {"none": {}}),
    (re.compile(r"claude-opus-4-5"), {"none": {}, **_UP_TO_HIGH, "max": "high"}),
    (re.compile(r"claude-(opus-4|sonnet-4)"), {"none": {}, **_UP_TO_MAX}),
    (re.compile(r"claude-(fable|mythos|opus-5-5)"), _UP_TO_MAX),
    (re.compile(r"claude-sonnet-5-5"), {"none": {"thinking": {"type": "between_tools"}}, **_UP_TO_MAX}),
    (re.compile(r"claude-(opus|sonnet|haiku)-5"), {"none": {"thinking": {"type": "disabled"}}, **_UP_TO_MAX}),
)


def _efforts(model: str) -> Mapping[str, str | Mapping[str, Any]] | None:
    return next((takes for pattern, takes in _EFFORTS_TAKEN if pattern.match(model)), None)


MODELS = ModelFacts(
    bare=re.compile(r"claude-"), refuses_sampling=_refuses_sampling, may_reason=_may_reason, efforts=_efforts
)

# (anthropic/types/message_create_params.py)
SERVICE_TIERS = {"auto": {"service_tier": "auto"}, "standard": {"service_tier": "standard_only"}}

# (platform.claude.com/docs/en/build-with-claude/prompt-caching; for newer models
# docs.litellm.ai/docs/completion/prompt_caching of October 2026; for Opus 4.7 both 2,048 and 4,096 are documented)
PROMPT_CACHE = PromptCacheFacts(
    minimums=(
        (re.compile(r"claude-(opus|fable|mythos)-5(-\d{8})?$"), 512),
        (re.compile(r"claude-(sonnet-5|opus-4-8|opus-4-1|opus-4|sonnet-4-[56]|sonnet-4)(-\d{8})?$"), 1024),
        (re.compile(""), 4096),
    )
)

# Anthropic's page "Structured outputs", section "JSON Schema limitations", and what its own SDK
# strips (anthropic/lib/_parse/_transform.py): no recursion, no numeric or length constraints,
# minItems only 0 or 1, additionalProperties always false (a dict would always come back empty),
# enums of plain values, at most 24 optional and 16 union-typed parameters. Those behind a $ref do not
# count, so words beside a $ref move to the parent's description, and the definition is not inlined.
DIALECT = Dialect(
    name="anthropic",
    keywords=frozenset({"minItems"}),
    formats=frozenset(
        {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"},
    ),
    free_maps=False,
    tuples=False,
    recursion="no",
    ref_siblings="parent",
    max_min_items=1,
    max_optional=24,
    max_unions=16,
)

_EFFORTS = {word: word for word in ("low", "medium", "high", "xhigh", "max")}
# (anthropic/types/message_create_params.py)
KEYWORDS: Mapping[str, FieldWriter] = {
    "top_p": at("top_p"),
    "stop": list_at("stop_sequences"),
    "user": at("metadata", "user_id"),
    "reasoning_effort": one_of_at(_EFFORTS, "output_config", "effort"),
    "service_tier": one_of_at({"auto": "auto", "default": "standard_only"}, "service_tier"),
}
