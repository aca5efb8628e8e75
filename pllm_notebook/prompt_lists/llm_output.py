"""The result of one prompt: its answer with usage and cost, or the error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, PrivateAttr
from pydantic_core import core_schema

from pllm_notebook.types import Usage

__all__ = ["GeneratedJsonObject", "LLMOutput", "LLMToolCall"]


class GeneratedJsonObject(dict[str, Any]):
    """The JSON object of an answer: a dictionary, also available as `object`.

    Attributes:
        name: Name of the tool with these arguments; "parsed_content" for an object in the answer's text.
    """

    def __init__(
        self, fields: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), *, name: str = "parsed_content"
    ) -> None:
        super().__init__(fields)
        self.name = name

    @property
    def object(self) -> dict[str, Any]:
        """The fields as a plain dictionary."""
        return dict(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def validated(value: Any, inner: core_schema.ValidatorFunctionWrapHandler) -> GeneratedJsonObject:
            return cls(inner(value), name=getattr(value, "name", "parsed_content"))

        return core_schema.no_info_wrap_validator_function(validated, handler(dict[str, Any]))


class LLMToolCall(BaseModel):
    """One call of a tool that a model made.

    Attributes:
        id: The provider's id, which the result must repeat; derived from its position if the provider has none.
        name: Name of the tool.
        arguments: The validated arguments; their text if they are invalid.
        text: The arguments as the model wrote them. `StructuredTool.parse` reads them as typed values.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    name: str
    arguments: Any
    text: str

    @property
    def call_id(self) -> str:
        """Alias of `id`."""
        return self.id

    @property
    def args(self) -> Any:
        """Alias of `arguments`."""
        return self.arguments


class LLMOutput(BaseModel):
    """The result of one prompt. It survives a JSON round-trip, including the provider's own body.

    Attributes:
        source_id: The `id` of the prompt.
        str_content: The text of the answer, with its prefill; "" for tool calls without text. For a failure, the text
            that came back. None if there is no text.
        json_object: The JSON object of an answer in any format except "text", validated against the prompt's schema if
            it has one. A dictionary; `.object` is the same, `.name` the tool's name. None if there is no object.
        tool_calls: Tool calls of the model, in order.
        usage: Tokens of all calls for this answer (repairs, earlier tool turns), None if unknown.
        cost: US dollars of these calls, None if unknown. For a cached answer, its cost when it was paid; equal prompts
            of a list are one call, and each output shows its cost.
        result_type: The wire format of `raw_result`: "chat" (OpenAI's Chat Completions and compatible servers),
            "responses", "messages" (Anthropic) or "generate" (Google). None without a raw result.
        time_taken: Duration of the last request in seconds. None if nothing was sent.
        start_time: When the first request for this answer was sent, in seconds since the epoch; for a cached answer,
            when it was paid. None if unknown, or nothing was ever sent.
        end_time: When the last response arrived; None as for `start_time`.
        raw_result: The body of the last response as the provider sent it, None if it is not stored or not JSON.
        error: Why there is no answer, as "kind: message" (see docs/errors.md). None for an answer.
    """

    model_config = ConfigDict(extra="forbid")

    source_id: str
    str_content: str | None = None
    json_object: GeneratedJsonObject | None = None
    tool_calls: list[LLMToolCall] = Field(default_factory=list)
    usage: Usage | None = None
    cost: float | None = None
    result_type: str | None = None
    time_taken: float | None = None
    start_time: float | None = None
    end_time: float | None = None
    raw_result: dict[str, Any] | None = Field(default=None, repr=False)
    error: str | None = None

    # Built on use: otherwise a list of prompts with images would hold each image twice.
    _request: Callable[[], Mapping[str, Any]] | None = PrivateAttr(None)

    @property
    def contains_object(self) -> bool:
        """Whether there is a JSON object: the answer's, or the arguments of a tool call."""
        return self.json_object is not None or any(isinstance(call.arguments, dict) for call in self.tool_calls)

    @property
    def completion_kwargs(self) -> dict[str, Any] | None:
        """The body of the request in the provider's format, None if unknown.

        It is not part of an output's JSON or pickle.
        """
        return None if self._request is None else dict(self._request())

    def __eq__(self, other: object) -> bool:
        # Only the fields are compared: an output read from JSON has no request.
        return isinstance(other, LLMOutput) and self.__dict__ == other.__dict__

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        return state | {"__pydantic_private__": {"_request": None}}
