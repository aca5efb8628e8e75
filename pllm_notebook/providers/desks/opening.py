"""Each provider's batch API, by the maker of its wire format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pllm_notebook.protocols import BatchDesk
from pllm_notebook.records import BatchLimits

__all__ = ["RequestForm", "open_desk"]


def open_desk(maker: str, transport: Any, path: str) -> BatchDesk:
    """Open the batch API that a transport leads to.

    Args:
        maker: Of the wire format: "openai", "anthropic" or "google".
        transport: As live calls use it; closed with the desk.
        path: The wire's.
    """
    if maker == "openai":
        from pllm_notebook.providers.desks.openai import OpenAIDesk

        return OpenAIDesk(transport, path)
    if maker == "anthropic":
        from pllm_notebook.providers.desks.anthropic import AnthropicDesk

        return AnthropicDesk(transport)
    from pllm_notebook.providers.desks.google import GoogleDesk

    return GoogleDesk(transport, path)


@dataclass(frozen=True, slots=True)
class RequestForm:
    """What the request files of a batch API are made of, known with nothing opened.

    Attributes:
        maker: As for `open_desk`.
        path: As for `open_desk`.
        client_names: Of the class of a caller's own client (see `clients.class_names`).
    """

    maker: str
    path: str
    client_names: frozenset[str] = frozenset()

    def line(self, custom_id: str, body: bytes) -> bytes:
        """Return one line (see `BatchDesk.line`)."""
        if self.maker == "openai":
            from pllm_notebook.providers.desks.openai import line_of as of_openai

            return of_openai(self.path, self.client_names, custom_id, body)
        if self.maker == "anthropic":
            from pllm_notebook.providers.desks.anthropic import line_of as of_anthropic

            return of_anthropic(custom_id, body)
        from pllm_notebook.providers.desks.google import line_of as of_google

        return of_google(custom_id, body)

    @property
    def limits(self) -> BatchLimits:
        """What one job may hold."""
        if self.maker == "openai":
            from pllm_notebook.providers.desks.openai import OpenAIDesk

            return OpenAIDesk.limits
        if self.maker == "anthropic":
            from pllm_notebook.providers.desks.anthropic import AnthropicDesk

            return AnthropicDesk.limits
        from pllm_notebook.providers.desks.google import GoogleDesk

        return GoogleDesk.limits
