"""Records of the messages to and from a model: turns, media, tool calls, and requests.

They are frozen and have no behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pllm_notebook.exceptions import UsageError

__all__ = [
    "DecisionQuestion",
    "Dialogue",
    "Example",
    "Media",
    "Prompt",
    "ProviderMessage",
    "RawRequest",
    "Request",
    "Tool",
    "ToolCall",
    "ToolCallOutput",
    "Turn",
]


@dataclass(frozen=True, slots=True)
class Media:
    """An image or document for the model.

    Attributes:
        mime: "image/png", "application/pdf", …
        data: The file in base64. "" if there is a URL.
        url: The URL from which the provider fetches it. "" if there is a file.
        name: Name of a document. "" for none.
    """

    mime: str
    data: str = ""
    url: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the model may call.

    Attributes:
        name: Letters, digits, `_` and `-`, at most 64.
        description: Its purpose.
        schema: JSON schema of the arguments, an object, fitted to the provider.
        strict: Whether the schema is one that the provider can guarantee.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call of the model.

    Attributes:
        id: The provider's id, or one derived from its position if the provider has none.
        name: Name of the tool.
        arguments: The arguments as JSON text, as the model wrote it.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, init=False)
class ToolCallOutput:
    """The result of a tool.

        ToolCallOutput(call_id=call.id, name=call.name, content="4")

    Attributes:
        id: Id of the call. Also accepted as `call_id`.
        name: Name of the tool.
        content: The text for the model.
        failed: Whether it is an error message.
    """

    id: str
    name: str
    content: str
    failed: bool = False

    def __init__(
        self,
        id: str | None = None,  # noqa: A002  # the field's own name
        name: str = "",
        content: str = "",
        failed: bool = False,
        *,
        call_id: str = "",
    ) -> None:
        if id is not None and call_id not in ("", id):
            raise UsageError(
                f"ToolCallOutput has id={id!r} and call_id={call_id!r}, which are two names for the call's id. The "
                f"tool's result is content=."
            )
        for field_name, value in (
            ("id", call_id if id is None else id),
            ("name", name),
            ("content", content),
            ("failed", failed),
        ):
            object.__setattr__(self, field_name, value)

    @property
    def call_id(self) -> str:
        """Alias of `id`."""
        return self.id


@dataclass(frozen=True, slots=True)
class ProviderMessage:
    """A model's message in the form that its provider needs in later turns, with signatures and reasoning.

    Attributes:
        form: Name of the wire format that can read it (`Wire.format_name`).
        content: The message as JSON.
    """

    form: str
    content: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation.

    Attributes:
        role: The speaker. "tool" has the results of the calls in the previous turn.
        text: The text. "" for none.
        media: Media before the text, only for users.
        calls: Tool calls, only for assistants.
        results: Tool results, only for tools.
        echo: The same message in its provider's form, which the same wire format sends instead.
    """

    role: Literal["user", "assistant", "tool"]
    text: str
    media: tuple[Media, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    results: tuple[ToolCallOutput, ...] = ()
    echo: ProviderMessage | None = None

    @property
    def final_answer(self) -> str:
        """The text, under the name that replies use for it."""
        return self.text

    def resolve(self) -> str:
        """Return the text, like the method of replies."""
        return self.text


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt with its correct answer, shown to the model before a row's prompt.

    Attributes:
        prompt: A prompt like a row's.
        answer: Text, or with a type, its value as JSON in the type's form.
    """

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A row's prompt that is more than text: a conversation, media, or its own system prompt or examples.

    Attributes:
        turns: The turns. The last is a user's turn or tool results; an assistant's turn at the end prefills the answer.
        system: System prompt that replaces the question's. None for the question's.
        examples: Examples that replace the question's. None for the question's.
        shown: Number of turns at the beginning of a conversation that are examples.
    """

    turns: tuple[Turn, ...]
    system: str | None = None
    examples: tuple[Example, ...] | None = None
    shown: int = 0


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A row's prompt that is a complete request written by the caller: the intended body itself.

    Attributes:
        fields: The body.
        has_gone_on: Whether the conversation has an assistant turn that is not an example.
    """

    fields: Mapping[str, Any]
    has_gone_on: bool = field(default=False, kw_only=True)


Prompt = str | Dialogue | RawRequest
"""The prompt of one row."""


@dataclass(frozen=True, slots=True)
class DecisionQuestion:
    """One question of a request to a decision endpoint: the reply has a probability for each option.

    Attributes:
        name: Name of a field, or of one label of a field (`topics.price`); unique in a request.
        kind: "predicate" for a statement that is true or false, with the options "true" and "false"; "choice" for one
            of several options; "scale" for one of several ordered levels.
        instructions: The question, or the statement of a predicate. Never empty.
        options: Unique names of the options on the wire; the labels of the levels for a scale.
        notes: Descriptions of a choice's options, "" for none; () if no option has one.
    """

    name: str
    kind: Literal["predicate", "choice", "scale"]
    instructions: str
    options: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def described(self) -> tuple[tuple[str, str], ...]:
        """Pairs of option and description."""
        return tuple(zip(self.options, self.notes or ("",) * len(self.options), strict=True))


@dataclass(frozen=True, slots=True)
class Request:
    """A call before it is encoded in a provider's format.

    `schema` is a JSON schema already adapted to the provider, None for plain text.
    `max_output_tokens` None means the provider's own limit (or the adapter's, if the provider
    requires one). `tool_choice` is "auto", "required", "none" or the name of a tool.
    `parallel_tool_calls` None means the provider's default. `json_object` requests JSON of any
    shape, if there is no schema. `questions` are for a decision endpoint, () for all others.
    """

    model: str
    turns: tuple[Turn, ...]
    system: str | None = None
    schema: Mapping[str, Any] | None = None
    schema_name: str = "answer"
    temperature: float | None = None
    max_output_tokens: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    parallel_tool_calls: bool | None = None
    json_object: bool = False
    questions: tuple[DecisionQuestion, ...] = ()
