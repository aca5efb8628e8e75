"""One prompt with its instruction, conversation, tools and model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self
from uuid import uuid4

import orjson
from pydantic import Field, field_validator

from pllm_notebook.argument_models import ArgumentModel
from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages import dialogue_from_messages, write_content, write_messages
from pllm_notebook.messages_types import Dialogue
from pllm_notebook.prompt_lists.config_models import target_of
from pllm_notebook.prompt_lists.history import turns_of
from pllm_notebook.prompt_lists.llm_config import LLMConfig
from pllm_notebook.prompt_lists.llm_output import LLMOutput
from pllm_notebook.prompt_lists.provider_messages import (
    AnthropicMessages,
    GoogleMessages,
    to_anthropic,
    to_google,
    to_openai,
    to_tool_definition,
)
from pllm_notebook.providers import Provider, anthropic, google, openai, schema_instruction
from pllm_notebook.tools import StructuredTool, ToolCallOutput

__all__ = ["LLMPromptContext"]

# Also added in a provider's JSON mode, because some providers require the word JSON in the prompt.
_JSON = "Answer with one JSON object, and with nothing else."
_OPENING = "{"
# Maximum characters of a text in a repr.
_SHOWN = 500


class LLMPromptContext(ArgumentModel):
    """One prompt with its conversation, tools and model. Survives a JSON round-trip.

        LLMPromptContext(new_message="Is this a fair review?", llm_config=LLMConfig(client="google"))
        LLMPromptContext(new_message=["What is this?", Path("tea.png")], structured_output=Drink, llm_config=…)

    Other values are converted to JSON when the prompt is created: files, bytes and PIL images in a message, a function
    or a model instead of a `StructuredTool`. A path in a mapping (`{"type": "image", "image": "tea.png"}`) stays a
    path, and is read when the prompt is sent.

    Attributes:
        id: Name of the prompt, and the `source_id` of its output. Generated if not given. Need not be unique.
        system_string: The instruction, None for none.
        history: Earlier messages, in OpenAI's, Anthropic's or Google's format.
        new_message: The user's message: text, or a list of texts, media and message parts. None if the history ends
            with the message to answer.
        prefill: The beginning of the answer, which the model continues. The prompt fails unsent if the model accepts no
            prefill, and with the formats "structured_output" and "tool". "" for no prefill; with "json_beg",
            "" means `{`.
        postfill: Text appended to the new message.
        structured_output: The type of the answer: a Pydantic model, a JSON schema with a title, or a `StructuredTool`.
            The formats "structured_output" and "tool" enforce it; with the JSON formats it is described in the
            instruction, and the answer is validated without repair.
        tools: Tools that the model may call: functions, Pydantic models, JSON schemas, providers' definitions.
        use_schema_instruction: Whether the instruction describes `structured_output`, with any format.
        llm_config: Model and request settings.
    """

    id: str = Field(default_factory=lambda: uuid4().hex)
    system_string: str | None = None
    history: list[dict[str, Any]] = Field(default_factory=list)
    new_message: str | list[dict[str, Any]] | None = None
    prefill: str = ""
    postfill: str = ""
    structured_output: StructuredTool | None = None
    tools: list[StructuredTool] = Field(default_factory=list)
    use_schema_instruction: bool = False
    llm_config: LLMConfig = Field(default_factory=LLMConfig)

    @field_validator("history", mode="before")
    @classmethod
    def _plain_history(cls, messages: Any) -> Any:
        if messages is None:
            return []
        if not isinstance(messages, (list, tuple)):
            return messages
        return [_plain_message(message) for message in messages]

    @field_validator("new_message", mode="before")
    @classmethod
    def _plain_content(cls, content: Any) -> Any:
        return write_content(content)

    @field_validator("structured_output", mode="before")
    @classmethod
    def _as_tool(cls, source: Any) -> Any:
        return _tool_of(source)

    @field_validator("tools", mode="before")
    @classmethod
    def _as_tools(cls, sources: Any) -> Any:
        return [_tool_of(source) for source in sources] if isinstance(sources, (list, tuple)) else sources

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        # The data of an image would fill the cell.
        return [(name, _shortened(value)) for name, value in super().__repr_args__()]

    # Messages.

    @property
    def instruction(self) -> str | None:
        """The system prompt: the instruction with the text required by the format; None if both are empty."""
        parts = [self.system_string] if self.system_string else []
        json = self.llm_config.response_format in ("json_object", "json_beg")
        if self.structured_output is not None and (self.use_schema_instruction or json):
            parts.append(_as_text(self.structured_output))
        elif json:
            parts.append(_JSON)
        return "\n\n".join(parts) if parts else None

    @property
    def beginning(self) -> str:
        """The prefill for a model that accepts one, "" if there is none."""
        begins = self.llm_config.response_format == "json_beg"
        return self.prefill or (_OPENING if begins else "")

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All messages, in the formats in which they were given."""
        said: list[dict[str, Any]] = []
        if self.instruction is not None:
            said.append({"role": "system", "content": self.instruction})
        said += [dict(message) for message in self.history]
        if self.new_message is not None:
            said.append({"role": "user", "content": self._asked()})
        if self.beginning:
            said.append({"role": "assistant", "content": self.beginning})
        return said

    def dialogue(self, *, prefilled: bool) -> Dialogue:
        """Return the conversation, with or without the prefill.

        Raises:
            UsageError: If a message cannot be converted, or there is no message to answer. Nothing was sent.
        """
        said = self.messages
        if self.beginning and not prefilled:
            said.pop()
        dialogue = dialogue_from_messages(said)
        last = next(
            (turn for turn in reversed(dialogue.turns) if not (self.beginning and turn.role == "assistant")), None
        )
        if last is None or last.role == "assistant":
            raise UsageError(
                f"The prompt {self.id!r} has no message to answer: give it a new_message, or a history that ends with "
                f"the user or with tool results. Nothing was sent."
            )
        return dialogue

    @property
    def oai_messages(self) -> list[dict[str, Any]]:
        """The conversation in OpenAI's format (see `msg_dict_to_oai`)."""
        return to_openai(self._for(openai.PROVIDER), self._model_of(openai.PROVIDER))

    @property
    def anthropic_messages(self) -> AnthropicMessages:
        """The conversation in Anthropic's format (see `msg_dict_to_anthropic`)."""
        return to_anthropic(self._for(anthropic.PROVIDER), self._model_of(anthropic.PROVIDER))

    @property
    def google_messages(self) -> GoogleMessages:
        """The conversation in Google's format (see `msg_dict_to_google`)."""
        return to_google(self._for(google.PROVIDER), self._model_of(google.PROVIDER))

    def get_tool(self) -> dict[str, Any] | None:
        """Return `structured_output` as a tool definition in the provider's format. None if it is not set.

        Raises:
            UsageError: If the provider is unknown or does not accept the schema. Nothing was sent.
        """
        if self.structured_output is None:
            return None
        target = target_of(self.llm_config)
        return to_tool_definition(target.wire, self.structured_output.fit(target.dialect), target.model)

    # Changed copies.

    def update_llm_config(self, llm_config: LLMConfig | None = None, **values: Any) -> Self:
        """Return a copy with changed settings. The prompt itself is not changed.

            three = [prompt.update_llm_config(client=client) for client in ("openai", "anthropic", "google")]

        Args:
            llm_config: New settings; None to start from the current ones.
            **values: Single fields of `LLMConfig`.

        Raises:
            ValidationError: If a field is unknown or a value is outside its range.
        """
        base = self.llm_config if llm_config is None else llm_config
        return self._changed(llm_config=LLMConfig(**(base.model_dump() | values)))

    def update_history(self, history: Iterable[Mapping[str, Any]]) -> Self:
        """Return a copy with another history. The prompt itself is not changed.

        Raises:
            UsageError: For a message that cannot be converted.
        """
        messages = [_plain_message(message) for message in history]
        dialogue_from_messages(messages)
        return self._changed(history=messages)

    def append_to_history(self, messages: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> Self:
        """Return a copy with one or more messages added to the history. The prompt itself is not changed.

        Raises:
            UsageError: For a message that cannot be converted.
        """
        added = [messages] if isinstance(messages, Mapping) else list(messages)
        return self.update_history([*self.history, *added])

    def add_chat_turn_history(self, llm_output: LLMOutput, results: Sequence[ToolCallOutput] = ()) -> Self:
        """Return a copy with the new message and its answer added to the history. The prompt itself is not changed.

            following = prompt.add_chat_turn_history(output)
            following.new_message = "And the second one?"

        The copy has no `new_message`; set it, or leave it None after tool results. The answer keeps the data that
        its provider requires in later turns (signatures, reasoning), and becomes plain turns for any other provider.

        Each call needs a result. The result of a function must be given, since functions are not run here. For other
        calls, a missing result is filled in: an error for invalid arguments, otherwise a note that it was received.

        Args:
            llm_output: The answer to this prompt.
            results: Results of its tool calls.

        Raises:
            UsageError: If the output has no answer, a result has no call, or a function call has no result.
        """
        # An answer with a prefill is not the provider's own message.
        wire = None if self.beginning or llm_output.raw_result is None else target_of(self.llm_config).wire
        offered = [*self.tools, *([self.structured_output] if self.structured_output else [])]
        turns = turns_of(llm_output, wire, offered, results)
        said = [] if self.new_message is None else [{"role": "user", "content": self._asked()}]
        following = self.append_to_history([*said, *write_messages(turns)])
        return following._changed(new_message=None)

    def _changed(self, **values: Any) -> Self:
        """Return a changed copy with its own lists, so that changes to them do not affect the prompt."""
        lists = {"history": list(self.history), "tools": list(self.tools)}
        return self.model_copy(update=lists | values)

    # Parts.

    def _asked(self) -> Any:
        if not self.postfill:
            return self.new_message
        if isinstance(self.new_message, str):
            return self.new_message + self.postfill
        return [*(self.new_message or ()), {"type": "text", "text": self.postfill}]

    def _for(self, maker: Provider) -> Dialogue:
        """Return the conversation for a provider's format, which may differ from the format of the prompt's model."""
        # The implicit prefill of "json_beg" is omitted if it is not accepted; an explicit one is refused by the wire.
        return self.dialogue(prefilled=bool(self.prefill) or maker.models.continues_answers)

    def _model_of(self, maker: Provider) -> str | None:
        client = self.llm_config.client.removeprefix("sim:")
        return self.llm_config.model if client == maker.name else None


def _plain_message(message: Any) -> Any:
    dump = getattr(message, "model_dump", None)
    fields = message if isinstance(message, Mapping) else dump(exclude_none=True) if callable(dump) else None
    if fields is None:
        return message
    return dict(fields) | {name: write_content(fields[name]) for name in ("content", "parts") if name in fields}


def _as_text(tool: StructuredTool) -> str:
    if tool.instruction_string is None:
        return schema_instruction(tool.json_schema)
    return f"{tool.instruction_string}\n{orjson.dumps(tool.json_schema).decode()}"


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}… ({len(value):,} characters)"
    if isinstance(value, list):
        return [_shortened(item) for item in value]
    return {name: _shortened(item) for name, item in value.items()} if isinstance(value, dict) else value


def _tool_of(source: Any) -> Any:
    # A tool in JSON form is read by its own Pydantic model.
    written = isinstance(source, Mapping) and "json_schema" in source
    return source if source is None or written else StructuredTool.of(source)
