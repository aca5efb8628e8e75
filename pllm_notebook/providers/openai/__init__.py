"""OpenAI, and every server that speaks its Chat Completions."""

from __future__ import annotations

from typing import Any

from pllm_notebook.protocols import Transport, Wire
from pllm_notebook.providers.openai import facts
from pllm_notebook.providers.openai.batch import BATCH
from pllm_notebook.providers.openai.chat import Chat
from pllm_notebook.providers.openai.decision_wire import DECISIONS
from pllm_notebook.providers.openai.file_lines import LINES
from pllm_notebook.providers.openai.logprobs import CHAT_TOKENS, RESPONSES_TOKENS
from pllm_notebook.providers.openai.responses import Responses
from pllm_notebook.providers.openai.transport import connect
from pllm_notebook.providers.provider import Provider, SDKClients
from pllm_notebook.providers.sdk_transport import SDKTransport, client_problem

__all__ = ["COMPATIBLE_CHAT", "PROVIDER"]

_CHAT, _RESPONSES = Chat(), Responses()

COMPATIBLE_CHAT: Wire = Chat("max_tokens", strict=False)
"""Chat Completions in the form that most other servers accept."""


def _over(client: Any) -> Transport:
    return SDKTransport(client, owned=False)


PROVIDER = Provider(
    name="openai",
    title="OpenAI",
    other_names=("openai-chat",),
    wires=(_CHAT, _RESPONSES),
    choose_wire=lambda model: _RESPONSES if facts.responses_only(model) else _CHAT,
    dialect=facts.DIALECT,
    key_variables=("OPENAI_API_KEY",),
    cheap_model=facts.CHEAP_MODEL,
    connect=connect,
    sdk=SDKClients(
        module="openai",
        # `httpx` is loaded first: at each response the SDK checks whether it is loaded, but does not notice if that is
        # still in progress. A call would fail if Google's SDK imported `httpx` on another thread at that moment.
        imports=("httpx", "openai"),
        over=_over,
        problem=client_problem,
        clouds=frozenset({"AsyncAzureOpenAI"}),
    ),
    hosts=("openai.com", "openai.azure.com", "services.ai.azure.com", "cognitiveservices.azure.com"),
    api_host="api.openai.com",
    models=facts.MODELS,
    service_tiers=facts.SERVICE_TIERS,
    token_formats={_CHAT.format_name: CHAT_TOKENS, _RESPONSES.format_name: RESPONSES_TOKENS},
    decisions=DECISIONS,
    prompt_cache=facts.PROMPT_CACHE,
    batch=BATCH,
    lines=LINES,
    takes_extras=True,
    largest_request_bytes=50_000_000,  # developers.openai.com/api/docs/guides/pdf-files
    simulated=True,
)
