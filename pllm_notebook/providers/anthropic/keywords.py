"""What the keywords of OpenAI's client are called by Anthropic."""

from __future__ import annotations

from collections.abc import Mapping

from pllm_notebook.providers.body_fields import FieldWriter, at, list_at, one_of_at

__all__ = ["KEYWORDS"]

_EFFORTS = {word: word for word in ("low", "medium", "high", "xhigh", "max")}
# (anthropic/types/message_create_params.py)
KEYWORDS: Mapping[str, FieldWriter] = {
    "top_p": at("top_p"),
    "stop": list_at("stop_sequences"),
    "user": at("metadata", "user_id"),
    "reasoning_effort": one_of_at(_EFFORTS, "output_config", "effort"),
    "service_tier": one_of_at({"auto": "auto", "default": "standard_only"}, "service_tier"),
}
