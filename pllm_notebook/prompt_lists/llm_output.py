"""The result of one prompt: its answer, what it took, or why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, PrivateAttr
from pydantic_core import core_schema

from pllm_notebook.records import Usage

__all__ = ["GeneratedJsonObject", "LLMOutput", "LLMToolCall"]


class GeneratedJsonObject(dict[str, Any]):
    """The object of an answer: a dictionary, and the same under the name `object`.

    Attributes:
        name: The tool whose arguments it is; "parsed_content" for an object that was written as text.
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

    @property
    def call_id(self) -> str:
        """`id` by its other name."""
        return self.id

    @property
    def args(self) -> Any:
        """`arguments` by their other name."""
        return self.arguments


class LLMOutput(BaseModel):
    """The result of one prompt. JSON round-trip, the provider's own body too.

    Attributes:
        source_id: The `id` of the prompt.
        str_content: The answer's whole text, a beginning that was put into the model's mouth included; "" where it
            called tools and said nothing. Of a failure what came back, if anything did. None for no answer.
        json_object: The object that was asked for: of every format but "text", validated where there is something to
            validate it by. A dictionary; `.object` is the same, `.name` the tool's name. None for none.
        tool_calls: Those that the model made, in order.
        usage: Tokens of all calls that led here (repairs, earlier turns of tools), None for unknown.
        cost: US dollars of these calls, None for unknown. Of an answer that was in the cache it is what it cost when
            it was paid for; equal prompts of one list are one call, and each shows its cost.
        result_type: The wire format of `raw_result`: "chat" (OpenAI's Chat Completions, and the servers that speak
            it), "responses", "messages" (Anthropic) or "generate" (Google). None where there is none.
        time_taken: Seconds that the last request took. None where nothing was sent: from the cache, or never.
        start_time: When the last request that led here was sent, in seconds since the epoch; of an answer from the
            cache when it was paid for. None where nothing was ever sent, or nobody knows.
        end_time: When its response had arrived, likewise.
        raw_result: The body of the last response as the provider sent it, None where none is kept.
        error: Why there is no answer, as "kind: message" (the kinds are in docs/errors.md). None for an answer.
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

    # Made when somebody asks: a list of prompts with pictures would hold each of them twice.
    _request: Callable[[], Mapping[str, Any]] | None = PrivateAttr(None)

    @property
    def contains_object(self) -> bool:
        """Whether there is an object: one that was asked for, or the arguments of a tool that was called."""
        return self.json_object is not None or any(isinstance(call.arguments, dict) for call in self.tool_calls)

    @property
    def completion_kwargs(self) -> dict[str, Any] | None:
        """The body of the request in the provider's words, as it was meant; None where it is not known.

        It is not part of the JSON or the pickle of an output.
        """
        return None if self._request is None else dict(self._request())

    def __eq__(self, other: object) -> bool:
        # By its fields: one that came back from JSON does not know its request.
        return isinstance(other, LLMOutput) and self.__dict__ == other.__dict__

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        return state | {"__pydantic_private__": {"_request": None}}
