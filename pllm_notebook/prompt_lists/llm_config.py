"""Whom a prompt is for and how it is asked, and the rates that a caller sets for a provider."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pllm_notebook.providers.registry import cheap_model_of

__all__ = ["LLMConfig", "RequestLimits", "ResponseFormat"]

ResponseFormat = Literal["text", "json_object", "json_beg", "structured_output", "tool"]


class LLMConfig(BaseModel):
    """Whom a prompt is for, and how it is asked.

    Attributes:
        client: "openai", "anthropic" or "google"; a server's or a client's name as `configure` was given it; or
            "sim:openai", "sim:anthropic", "sim:google" for a rehearsal. Any provider that a model's name can begin
            with.
        model: As the provider names it. None for the cheap current model of the provider; a server of the caller's
            own has none.
        max_tokens: The most that an answer may have, None for the provider's own limit.
        temperature: Sent only where said.
        response_format: What is asked for.

            - "text": Whatever the model writes.
            - "json_object": Any JSON object, in the provider's JSON mode where there is one, and in words.
            - "json_beg": The same, with the beginning of the object put into the model's mouth where the model takes
              that (`LLMPromptContext.prefill`), and in words alone where it does not.
            - "structured_output": What fits the prompt's `structured_output`, in the provider's structured output; an
              answer that does not fit is repaired (`max_repairs`).
            - "tool": A call of a tool, demanded: of the prompt's `structured_output` where there is one, else of any
              of its tools.
        use_cache: Whether the provider's prompt cache is told what to keep. Providers that find equal beginnings by
            themselves do so all the same. It is no part of what is asked: the answers' own cache is `cache=`.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    client: str = Field(default="openai", min_length=1)
    model: str | None = Field(default=None, min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0)
    response_format: ResponseFormat = "text"
    use_cache: bool = True

    @property
    def name(self) -> str:
        """The model as a person writes it, `provider:name`."""
        if self.client.startswith("sim:"):
            return f"{self.client}/{self.model}" if self.model else self.client
        model = cheap_model_of(self.client) if self.model is None else self.model
        return model if model.startswith(f"{self.client}:") else f"{self.client}:{model}"


class RequestLimits(BaseModel):
    """Rates that a caller sets for a provider: the calls of all its models together keep them.

    Attributes:
        max_requests_per_minute: None to find out by itself what the provider allows.
        max_tokens_per_minute: Likewise; of input and output together, as they are estimated when a call leaves.
        provider: Whom they are for: the `client` of the prompts. None for the one whose name the argument has.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    max_requests_per_minute: float | None = Field(default=None, gt=0)
    max_tokens_per_minute: float | None = Field(default=None, gt=0)
    provider: str | None = Field(default=None, min_length=1)
