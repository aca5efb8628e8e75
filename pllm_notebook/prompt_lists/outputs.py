"""What comes of one prompt: its answer, what it took, or why there is none."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pllm_notebook.records import Usage

__all__ = ["LLMOutput", "LLMToolCall"]


class LLMToolCall(BaseModel):
    """One call of a tool that a model made.

    Attributes:
        id: The provider's, which the result must bear; made from its place where the provider gives none.
        name: Of the tool.
        arguments: What the JSON says, once it has been validated; the text itself where it did not fit.
        text: The arguments as the model wrote them. `StructuredTool.parse` makes typed values of it.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    name: str
    arguments: Any
    text: str


class LLMOutput(BaseModel):
    """What came of one prompt. JSON round-trip, the provider's own body too.

    Attributes:
        source_id: The `id` of the prompt.
        str_content: The answer's whole text, a beginning that was put into the model's mouth included; "" where it
            called tools and said nothing. Of a failure what came back, if anything did. None for no answer.
        json_object: The object that was asked for: of every format but "text", validated where there is something to
            validate it by. None for none.
        tool_calls: Those that the model made, in order.
        usage: Tokens of all calls that led here (repairs, earlier turns of tools), None for unknown.
        cost: US dollars of these calls, None for unknown. Of an answer that was in the cache it is what it cost when
            it was paid for; equal prompts of one list are one call, and each shows its cost.
        result_type: The wire format of `raw_result`: "chat" (OpenAI's Chat Completions, and the servers that speak
            it), "responses", "messages" (Anthropic) or "generate" (Google). None where there is none.
        time_taken: Seconds that the last request took. None where nothing was sent: from the cache, or never.
        raw_result: The body of the last response as the provider sent it, None where none is kept.
        error: Why there is no answer, as "kind: message" (the kinds are in docs/errors.md). None for an answer.
    """

    model_config = ConfigDict(extra="forbid")

    source_id: str
    str_content: str | None = None
    json_object: dict[str, Any] | None = None
    tool_calls: list[LLMToolCall] = Field(default_factory=list)
    usage: Usage | None = None
    cost: float | None = None
    result_type: str | None = None
    time_taken: float | None = None
    raw_result: dict[str, Any] | None = Field(default=None, repr=False)
    error: str | None = None

    @property
    def contains_object(self) -> bool:
        """Whether there is an object: one that was asked for, or the arguments of a tool that was called."""
        return self.json_object is not None or any(isinstance(call.arguments, dict) for call in self.tool_calls)
