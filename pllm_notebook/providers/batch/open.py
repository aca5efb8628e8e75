"""Each provider's batch API, by the maker of its wire format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pllm_notebook.protocols import BatchAPI
from pllm_notebook.records import BatchLimits

__all__ = ["BatchFormat", "open_batch_api"]


def open_batch_api(maker: str, transport: Any, path: str) -> BatchAPI:
    """Open the batch API that a transport leads to.

    Args:
        maker: Of the wire format: "openai", "anthropic" or "google".
        transport: As live calls use it; closed with it.
        path: The wire's.
    """
    if maker == "openai":
        from pllm_notebook.providers.openai.batch import OpenAIBatchAPI

        return OpenAIBatchAPI(transport, path)
    if maker == "anthropic":
        from pllm_notebook.providers.anthropic.batch import AnthropicBatchAPI

        return AnthropicBatchAPI(transport)
    from pllm_notebook.providers.google.batch import GoogleBatchAPI

    return GoogleBatchAPI(transport, path)


@dataclass(frozen=True, slots=True)
class BatchFormat:
    """What the request files of a batch API are made of, known with nothing opened.

    Attributes:
        maker: As for `open_batch_api`.
        path: As for `open_batch_api`.
        client_names: Of the class of a caller's own client (see `clients.class_names`).
    """

    maker: str
    path: str
    client_names: frozenset[str] = frozenset()

    def line(self, custom_id: str, body: bytes) -> bytes:
        """Return one line (see `BatchAPI.line`)."""
        if self.maker == "openai":
            from pllm_notebook.providers.openai.batch import line_of as of_openai

            return of_openai(self.path, self.client_names, custom_id, body)
        if self.maker == "anthropic":
            from pllm_notebook.providers.anthropic.batch import line_of as of_anthropic

            return of_anthropic(custom_id, body)
        from pllm_notebook.providers.google.batch import line_of as of_google

        return of_google(custom_id, body)

    @property
    def limits(self) -> BatchLimits:
        """What one job may hold."""
        if self.maker == "openai":
            from pllm_notebook.providers.openai.batch import OpenAIBatchAPI

            return OpenAIBatchAPI.limits
        if self.maker == "anthropic":
            from pllm_notebook.providers.anthropic.batch import AnthropicBatchAPI

            return AnthropicBatchAPI.limits
        from pllm_notebook.providers.google.batch import GoogleBatchAPI

        return GoogleBatchAPI.limits
