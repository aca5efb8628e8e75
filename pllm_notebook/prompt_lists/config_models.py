"""Whom a prompt's configuration names."""

from __future__ import annotations

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import options_for
from pllm_notebook.execution.call_spec import resolve_model
from pllm_notebook.messages_types import Request, Turn
from pllm_notebook.prompt_lists.llm_config import LLMConfig
from pllm_notebook.providers import ResolvedModel

__all__ = ["model_of", "takes_prefill", "target_of"]


def model_of(config: LLMConfig) -> str:
    """Name the model that a prompt is for.

    Raises:
        UsageError: Where none is named, and the client has none of its own. Nothing was sent.
    """
    if config.name.endswith(":"):
        raise UsageError(
            f"LLMConfig(client={config.client!r}) names no model, and only openai, anthropic and google have one that "
            f"is taken then. Give model=…. Nothing was sent."
        )
    return config.name


def target_of(config: LLMConfig) -> ResolvedModel:
    """Resolve whom a prompt is for.

    Raises:
        UsageError: Where there is no such provider, or it has no such model. Nothing was sent.
    """
    return resolve_model(options_for({"model": model_of(config)}))


def takes_prefill(target: ResolvedModel) -> bool:
    """Return whether a model takes the beginning of its answer."""
    turns = (Turn("user", "-"), Turn("assistant", "{"))
    try:
        target.wire.encode(Request(model=target.model, turns=turns))
    except UsageError:
        return False
    return True
