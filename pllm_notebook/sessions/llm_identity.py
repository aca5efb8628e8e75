"""The model of a call: by name, by provider and name, or under the caller's own alias."""

from __future__ import annotations

from pllm_notebook.exceptions import UsageError
from pllm_notebook.providers import cheap_model_of, is_hosted, provider_of
from pllm_notebook.settings import current

__all__ = ["LLMIdentity", "model_of"]


class LLMIdentity:
    """A model, optionally under the caller's own alias. Hashable; equal if all three parts are equal.

        LLMIdentity("gpt-6-luna")
        LLMIdentity("gpt-6-luna", provider="openai")
        LLMIdentity("the thrifty one", "google", "gemini-3.5-flash-lite")

    Args:
        identity: The provider's name of the model, `provider:name` or `provider/name`. With *model_name*, any alias. It
            is shown in listings of calls but is not part of a call's key, which contains the model.
        provider: None to infer it from the model's name.
        model_name: None if *identity* is the model.
        provider_type: Alias of *provider*.

    Attributes:
        identity: As given.
        provider: The provider. "" for the session's, if neither an argument nor the model's name identifies it.
        model_name: The provider's name of the model.

    Raises:
        UsageError: For an empty name. Nothing was sent.
    """

    __slots__ = ("identity", "model_name", "provider")

    def __init__(
        self,
        identity: str,
        provider: str | None = None,
        model_name: str | None = None,
        *,
        provider_type: str | None = None,
    ) -> None:
        named, provider = model_name or identity, provider or provider_type
        if not isinstance(named, str) or not named:
            raise UsageError(f"An LLMIdentity names a model, not {named!r}. Nothing was sent.")
        if not provider:
            provider, named = split_name(named)
        self.identity = identity
        self.provider = provider or provider_of(named) or ""
        self.model_name = named

    @property
    def provider_type(self) -> str:
        """Alias of `provider`."""
        return self.provider

    def __str__(self) -> str:
        return self.identity

    def __repr__(self) -> str:
        own = "" if self.identity in (self.model_name, self.name) else f" {self.identity!r}"
        return f"<LLMIdentity {self.name}{own}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LLMIdentity) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)

    @property
    def name(self) -> str:
        """`provider:name`, or the bare name if no provider is known."""
        return f"{self.provider}:{self.model_name}" if self.provider else self.model_name

    @property
    def _parts(self) -> tuple[str, str, str]:
        return self.identity, self.provider, self.model_name


def split_name(name: str) -> tuple[str | None, str]:
    """Split `provider:name` or `provider/name`. The provider of a bare name is None.

    Many model names contain a slash. It separates a provider only if a provider of that name is known.
    """
    provider, colon, model = name.partition(":")
    if colon:
        return provider, model
    provider, slash, model = name.partition("/")
    known = is_hosted(provider) or provider in current().servers or provider in current().clients
    return (provider, model) if slash and model and known else (None, name)


def model_of(llm: str | LLMIdentity | None, provider: str | None, model: str | LLMIdentity | None) -> str | None:
    """Return the model of a call as `provider:name`; None if neither call nor session names one.

    Args:
        llm: The call's model: `provider:name`, `provider/name`, a bare name, or an identity; None for the session's.
        provider: The session's provider, None for none.
        model: The session's model. None for the current low-cost model of its provider.

    Raises:
        UsageError: For a value that is not a model's name. Nothing was sent.
    """
    asked = model if llm is None else llm
    if asked is None:
        return None if provider is None else _cheap(provider)
    if isinstance(asked, LLMIdentity):
        if asked.provider:
            return asked.name
        asked = asked.model_name
    if not isinstance(asked, str) or not asked:
        raise UsageError(
            f"llm is a model's name ('openai:gpt-6-luna', 'claude-haiku-5-5') or an LLMIdentity, not {asked!r}. "
            f"Nothing was sent."
        )
    if ":" in asked:
        return asked
    # A configured server may serve a model whose name looks like another provider's.
    if provider is not None and (provider in current().servers or provider in current().clients):
        return f"{provider}:{asked}"
    named, bare = split_name(asked)
    known = named or provider_of(bare) or provider
    return asked if known is None else f"{known}:{bare}"


def _cheap(provider: str) -> str:
    cheap = cheap_model_of(provider)
    return f"{provider}:{cheap}" if cheap else provider
