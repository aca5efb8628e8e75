"""Token probabilities in OpenAI's wire formats, and from servers with its Chat Completions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pllm_notebook.providers.token_probabilities import TOP, TokenFormat, token
from pllm_notebook.schema import Token

__all__ = ["CHAT_TOKENS", "RESPONSES_TOKENS", "chat_tokens"]

# (openai/types/responses/response_includable.py)
_INCLUDED = "message.output_text.logprobs"


def chat_tokens(top: int = TOP) -> TokenFormat:
    """Return the token format of Chat Completions, with *top* alternatives for each token."""
    return TokenFormat(ask=partial(_ask_chat, top), take=_take_chat)


def _ask_chat(top: int, body: Mapping[str, Any]) -> dict[str, Any]:
    return {**body, "logprobs": True, "top_logprobs": top}


def _take_chat(body: dict[str, Any]) -> list[Token] | None:
    found = body["choices"][0].pop("logprobs", None)
    return None if not found else _tokens(found["content"])


def _ask_responses(body: Mapping[str, Any]) -> dict[str, Any]:
    return {**body, "top_logprobs": TOP, "include": [*(body.get("include") or ()), _INCLUDED]}


def _take_responses(body: dict[str, Any]) -> list[Token] | None:
    tokens: list[Token] = []
    for item in body["output"]:
        if item.get("type") == "message" and item.get("phase") != "commentary":
            for part in item.get("content") or ():
                tokens += _tokens(part.pop("logprobs", None) or [])
    return tokens


def _tokens(described: list[dict[str, Any]]) -> list[Token]:
    return [token(each, each.get("top_logprobs") or (), "token", "logprob") for each in described]


CHAT_TOKENS = chat_tokens()
RESPONSES_TOKENS = TokenFormat(ask=_ask_responses, take=_take_responses)
