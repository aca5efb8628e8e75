"""Who is asked: a model by its name, by a provider and a name, or under a name of the caller's own."""

from __future__ import annotations

from dataclasses import dataclass

from pllm_notebook.exceptions import UsageError
from pllm_notebook.providers.models import CHEAP, provider_of
from pllm_notebook.settings import current

__all__ = ["LLMIdentity", "model_of"]


@dataclass(frozen=True, slots=True)
class LLMIdentity:
    """A model under a name of the caller's own.

    Attributes:
        identity: The caller's name for it, shown where its calls are listed; it is no part of a call's key, which
            has the model itself.
        provider: "" for the one that the model's name shows.
        model_name: As the provider takes it; "" for the provider's cheap current model.
    """

    identity: str
    provider: str = ""
    model_name: str = ""

    def __str__(self) -> str:
        return self.identity


def model_of(llm: str | LLMIdentity | None, provider: str | None, model: str | None) -> str | None:
    """Give the model of one call as `provider:name`; None where nobody has named one.

    Args:
        llm: Of the call: `provider:name`, a bare name, or an identity; None for the session's.
        provider: Of the session, None for none.
        model: Of the session, None for the cheap current model of its provider.

    Raises:
        UsageError: For what is no model's name. Nothing was sent.
    """
    if isinstance(llm, LLMIdentity):
        provider, name = llm.provider or None, llm.model_name or None
        if provider is None and name is None:
            name = llm.identity
    elif llm is None or isinstance(llm, str):
        name = llm or model
    else:
        raise UsageError(
            f"llm is a model's name ('openai:gpt-6-luna', 'claude-haiku-5-5') or an LLMIdentity, not "
            f"{type(llm).__name__}. Nothing was sent."
        )
    if name is None:
        return None if provider is None else _cheap(provider)
    if ":" in name:
        return name
    # A server of the caller's own may serve a model whose name looks like another provider's.
    if provider is not None and (provider in current().servers or provider in current().clients):
        return f"{provider}:{name}"
    known = provider_of(name) or provider
    return name if known is None else f"{known}:{name}"


def _cheap(provider: str) -> str:
    return f"{provider}:{CHEAP[provider]}" if provider in CHEAP else provider
