"""What is said to a model and by it: turns, what they show and call, and the request that they make.

Frozen, and free of behaviour, as all records are.
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
    """An image or a document that the model is shown.

    Attributes:
        mime: "image/png", "application/pdf", …
        data: The file in base64, "" where there is an address.
        url: Where the provider fetches it itself, "" where there is the file.
        name: Of a document, "" for none.
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
        description: What it is for.
        schema: JSON schema of the arguments, an object, fitted to the provider.
        strict: Whether the schema is one that the provider can guarantee.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model made.

    Attributes:
        id: The provider's, or one made from its place where the provider gives none.
        name: Of the tool.
        arguments: JSON, as the model wrote it.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, init=False)
class ToolCallOutput:
    """What a tool gave.

        ToolCallOutput(call_id=call.id, name=call.name, content="4")

    Attributes:
        id: Of the call. As an argument also `call_id`.
        name: Of the tool.
        content: As the model reads it.
        failed: Whether it is an error's message.
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
                f"ToolCallOutput has id={id!r} and call_id={call_id!r}, which are two names of one thing: the call's. "
                f"What the tool gave is content=."
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
        """`id` by its other name."""
        return self.id


@dataclass(frozen=True, slots=True)
class ProviderMessage:
    """A model's message as its provider wants it given back, unchanged: with signatures and reasoning.

    Attributes:
        form: Name of the wire format that can read it (`Wire.form`).
        content: JSON.
    """

    form: str
    content: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation.

    Attributes:
        role: Who speaks; "tool" gives the results of the calls in the turn before.
        text: "" without text.
        media: What is shown before the text; of users alone.
        calls: Of assistants alone.
        results: Of tools alone.
        echo: The same message in the provider's own words, which the same wire format sends in place of the rest.
    """

    role: Literal["user", "assistant", "tool"]
    text: str
    media: tuple[Media, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    results: tuple[ToolCallOutput, ...] = ()
    echo: ProviderMessage | None = None

    @property
    def final_answer(self) -> str:
        """The text, by the name that a reply has for it."""
        return self.text

    def resolve(self) -> str:
        """Return the text, as a reply does."""
        return self.text


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt with its right answer, which the model is shown before a row's own prompt.

    Attributes:
        prompt: As a row's.
        answer: Text; where there is a type, its value as JSON, in the type's own form.
    """

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A row's prompt that is more than a text: a whole conversation, media, an instruction or examples of its own.

    Attributes:
        turns: The user's last, or tools' results; an assistant's last turn is the beginning of the answer (prefill).
        system: In place of the question's own instruction; None for that.
        examples: In place of the question's own examples; None for those.
        shown: Of a whole conversation, the number of turns at its beginning that are examples.
    """

    turns: tuple[Turn, ...]
    system: str | None = None
    examples: tuple[Example, ...] | None = None
    shown: int = 0


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A row's prompt that is a whole request, as its caller wrote it: the intended body itself.

    Attributes:
        fields: The body.
        has_gone_on: Whether the model has spoken in the conversation, other than in examples.
    """

    fields: Mapping[str, Any]
    has_gone_on: bool = field(default=False, kw_only=True)


Prompt = str | Dialogue | RawRequest
"""What one row asks."""


@dataclass(frozen=True, slots=True)
class DecisionQuestion:
    """One question of a request to a decision endpoint: the reply has a probability for each option.

    Attributes:
        name: Of the field, or of a label of one (`topics.price`); unique in a request.
        kind: "predicate" for a statement that is true or not, whose options are "true" and "false"; "choice" for one
            of several; "scale" for one of several levels in order.
        instructions: What is asked; of a predicate the statement. Never empty.
        options: As the wire names them, unique; of a scale the labels of its levels.
        notes: Of a choice, what is written about each option, "" for nothing; () where that is so for all.
    """

    name: str
    kind: Literal["predicate", "choice", "scale"]
    instructions: str
    options: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def described(self) -> tuple[tuple[str, str], ...]:
        """Each option, and what is written about it."""
        return tuple(zip(self.options, self.notes or ("",) * len(self.options), strict=True))


@dataclass(frozen=True, slots=True)
class Request:
    """A call before any provider has put it in its own words.

    `schema` is a JSON schema already fitted to the provider, None for plain text.
    `max_output_tokens` None leaves the provider's own limit (or, where it demands one,
    the adapter's). `tool_choice` is "auto", "required", "none" or the name of a tool;
    `parallel_tool_calls` None leaves the provider's own way. `json_object` asks for JSON of any
    shape, where there is no schema. `questions` are for a decision endpoint, () for all others.
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
