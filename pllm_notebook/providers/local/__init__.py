"""Small models in this process."""

from __future__ import annotations

from pllm_notebook.providers.local.llama import SLOTS, LocalChat, LocalTransport, weights_of
from pllm_notebook.providers.openai.logprobs import chat_tokens
from pllm_notebook.providers.provider import InProcess, ModelFacts, Provider
from pllm_notebook.schema import GRAMMAR

__all__ = ["PROVIDER"]

_CHAT = LocalChat()

# Switches thinking off in the chat template; llama.cpp has no levels.
_EFFORTS = {"none": {"chat_template_kwargs": {"enable_thinking": False}}}

PROVIDER = Provider(
    name="local",
    title="A local model",
    wires=(_CHAT,),
    dialect=GRAMMAR,
    in_process=InProcess(find=weights_of, open=LocalTransport, max_parallel=SLOTS),
    models=ModelFacts(
        may_reason=lambda model, body: False, efforts=lambda model: _EFFORTS, gives_tokens=lambda *_: True
    ),
    token_formats={_CHAT.format_name: chat_tokens(50)},  # llama.cpp gives any number of alternatives
    no_batch_reason="A local model costs nothing and has no batch API.",
)
