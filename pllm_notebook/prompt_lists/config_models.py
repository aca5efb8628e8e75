"""The model of a prompt, resolved from its configuration."""

from __future__ import annotations

from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.execution import options_for, resolve_model
from pllm_notebook.messages_types import Request, Turn
from pllm_notebook.prompt_lists.llm_config import LLMConfig
from pllm_notebook.providers import ResolvedModel, provider_names
from pllm_notebook.settings import current

__all__ = ["model_of", "takes_prefill", "target_of"]


def model_of(config: LLMConfig) -> str:
    """Return the name of a prompt's model.

    Raises:
        UsageError: If no model is named and the client has no default. Nothing was sent.
    """
    if config.name.endswith(":"):
        settings = current()
        known = [*provider_names(), *settings.servers, *settings.clients]
        if config.client not in known:
            hint = guess(config.client, known) or f" Known are {', '.join(known)}."
            raise UsageError(f"LLMConfig(client={config.client!r}) names no provider.{hint} Nothing was sent.")
        raise UsageError(
            f"LLMConfig(client={config.client!r}) needs a model: only openai, anthropic and google have a default. "
            f"Give model=…. Nothing was sent."
        )
    return config.name


def target_of(config: LLMConfig) -> ResolvedModel:
    """Resolve a prompt's model.

    Raises:
        UsageError: If the provider or model is unknown. Nothing was sent.
    """
    return resolve_model(options_for({"model": model_of(config)}))


def takes_prefill(target: ResolvedModel) -> bool:
    """Return whether a model accepts a prefill."""
    turns = (Turn("user", "-"), Turn("assistant", "{"))
    try:
        target.wire.encode(Request(model=target.model, turns=turns))
    except UsageError:
        return False
    return True
