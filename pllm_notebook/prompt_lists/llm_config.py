"""Model and request settings of a prompt, and the caller's rate limits for a provider."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pllm_notebook.argument_models import ArgumentModel
from pllm_notebook.providers import cheap_model_of

__all__ = ["LLMConfig", "RequestLimits", "ResponseFormat"]

ResponseFormat = Literal["text", "json_object", "json_beg", "structured_output", "tool"]


class LLMConfig(ArgumentModel):
    """Model and request settings for one prompt.

    Attributes:
        client: "openai", "anthropic" or "google"; the name of a server or client of `configure`; or "sim:openai",
            "sim:anthropic", "sim:google" for a rehearsal. Any provider prefix of a model's name is accepted.
        model: The provider's name of the model. None for the provider's current low-cost model; a configured server
            has no default.
        max_tokens: Maximum tokens of an answer, None for the provider's own limit.
        temperature: None to leave it to the provider.
        response_format: Format of the answer.

            - "text": Any text.
            - "json_object": Any JSON object, with the provider's JSON mode if it has one, and an instruction.
            - "json_beg": Like "json_object", with `{` as prefill instead of the JSON mode if the model accepts one
              (`LLMPromptContext.prefill`), and with the instruction alone otherwise.
            - "structured_output": An object of the prompt's `structured_output`, with the provider's structured
              output; an answer that does not fit is repaired (`max_repairs`).
            - "tool": A required tool call, of the prompt's `structured_output` if it has one, otherwise of any of its
              tools.
        use_cache: Whether to mark the prompt for the provider's prompt cache. Providers that detect equal prefixes
            do so in any case. It does not affect the local cache of answers, which `cache=` controls.
    """

    client: str = Field(default="openai", min_length=1)
    model: str | None = Field(default=None, min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0)
    response_format: ResponseFormat = "text"
    use_cache: bool = True

    @property
    def name(self) -> str:
        """The name of the model, `provider:name`."""
        if self.client.startswith("sim:"):
            return f"{self.client}/{self.model}" if self.model else self.client
        model = cheap_model_of(self.client) if self.model is None else self.model
        return model if model.startswith(f"{self.client}:") else f"{self.client}:{model}"


class RequestLimits(ArgumentModel):
    """The caller's rate limits for a provider, for all its models together.

    Attributes:
        max_requests_per_minute: None to learn the limit from the provider.
        max_tokens_per_minute: Input and output tokens, as estimated when a call is sent; None to learn the limit.
        provider: The `client` of the prompts that they apply to. None for the provider in the argument's name.
    """

    max_requests_per_minute: float | None = Field(default=None, gt=0)
    max_tokens_per_minute: float | None = Field(default=None, gt=0)
    provider: str | None = Field(default=None, min_length=1)
