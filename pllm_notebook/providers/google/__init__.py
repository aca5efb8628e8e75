"""Google's Gemini."""

from __future__ import annotations

from typing import Any

from pllm_notebook.providers.google import facts
from pllm_notebook.providers.google.batch import BATCH
from pllm_notebook.providers.google.decision_wire import DECISIONS
from pllm_notebook.providers.google.file_lines import LINES
from pllm_notebook.providers.google.generate import TOKENS, Generate
from pllm_notebook.providers.google.transport import GenaiTransport, connect
from pllm_notebook.providers.provider import Provider, SDKClients

__all__ = ["PROVIDER"]

_GENERATE = Generate()


def _problem(client: Any) -> str:
    return "" if hasattr(client, "aio") else "give the Client"


PROVIDER = Provider(
    name="google",
    title="Google",
    wires=(_GENERATE,),
    dialect=facts.DIALECT,
    telemetry_name="gcp.gemini",
    key_variables=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    cheap_model=facts.CHEAP_MODEL,
    connect=connect,
    sdk=SDKClients(
        module="google",
        imports=("google.genai",),
        over=GenaiTransport,
        problem=_problem,
        # Vertex takes its requests from a bucket.
        has_batches=lambda client: getattr(client, "vertexai", False) is not True,
    ),
    hosts=("googleapis.com",),
    api_host="generativelanguage.googleapis.com",
    models=facts.MODELS,
    service_tiers=facts.SERVICE_TIERS,
    token_formats={_GENERATE.format_name: TOKENS},
    prompt_cache=facts.PROMPT_CACHE,
    decisions=DECISIONS,
    batch=BATCH,
    lines=LINES,
    simulated=True,
)
