"""Anthropic."""

from __future__ import annotations

from typing import Any

from pllm_notebook.protocols import Transport
from pllm_notebook.providers.anthropic import facts
from pllm_notebook.providers.anthropic.batch import BATCH
from pllm_notebook.providers.anthropic.file_lines import LINES
from pllm_notebook.providers.anthropic.messages import Messages
from pllm_notebook.providers.anthropic.transport import connect
from pllm_notebook.providers.provider import Provider, SDKClients
from pllm_notebook.providers.sdk_transport import SDKTransport, class_names, client_problem

__all__ = ["PROVIDER"]

_CLOUDS = frozenset(
    {"AsyncAnthropicBedrock", "AsyncAnthropicBedrockMantle", "AsyncAnthropicFoundry", "AsyncAnthropicVertex"}
)


def _over(client: Any) -> Transport:
    return SDKTransport(client, owned=False)


PROVIDER = Provider(
    name="anthropic",
    title="Anthropic",
    wires=(Messages(),),
    dialect=facts.DIALECT,
    key_variables=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    cheap_model=facts.CHEAP_MODEL,
    connect=connect,
    sdk=SDKClients(
        module="anthropic",
        imports=("anthropic",),
        over=_over,
        problem=client_problem,
        clouds=_CLOUDS,
        # The clouds have no batch API, or one of their own that takes its requests from a bucket.
        has_batches=lambda client: _CLOUDS.isdisjoint(class_names(client)),
    ),
    hosts=("anthropic.com",),
    api_host="api.anthropic.com",
    models=facts.MODELS,
    service_tiers=facts.SERVICE_TIERS,
    prompt_cache=facts.PROMPT_CACHE,
    batch=BATCH,
    lines=LINES,
    takes_extras=True,
    largest_request_bytes=32_000_000,  # platform.claude.com/docs/en/api/overview
    simulated=True,
)
