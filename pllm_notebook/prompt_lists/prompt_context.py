"""One prompt with everything that belongs to it: instruction, conversation, tools, and whom it is for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self
from uuid import uuid4

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator

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
from pllm_notebook.providers import Provider, anthropic, google, openai
from pllm_notebook.providers.bodies import schema_instruction
from pllm_notebook.tools import StructuredTool, ToolCallOutput

__all__ = ["LLMPromptContext"]

# Also for the providers' JSON modes, some of which want the word in the prompt.
_JSON = "Answer with one JSON object, and with nothing else."
_OPENING = "{"
# Characters of a text that a representation shows.
_SHOWN = 500


class LLMPromptContext(BaseModel):
    """One prompt, and all that decides what is asked and whom. JSON round-trip.

        LLMPromptContext(new_message="Is this a fair review?", llm_config=LLMConfig(client="google"))
        LLMPromptContext(new_message=["What is this?", Path("tea.png")], structured_output=Drink, llm_config=…)

    What is not JSON becomes it when the prompt is made: files, bytes and PIL pictures among the parts of a message, a
    function or a model in place of a `StructuredTool`. A path in a mapping (`{"type": "image", "image": "tea.png"}`)
    stays one, and is read when the prompt is asked.

    Attributes:
        id: Its name, which its output has as `source_id`. Made up where none is given. Two prompts may have one.
        system_string: The instruction, None for none.
        history: Messages that come before the new one, in OpenAI's, Anthropic's or Google's words.
        new_message: What the user says now: text, or a list of texts, media and parts of a message. None where the
            history ends with what is to be answered.
        prefill: The beginning of the answer, put into the model's mouth; a model that takes none is not asked, and
            neither is one for a "structured_output" or a "tool", which the provider writes as a whole. "" for none,
            and with the format "json_beg" for the bracket that begins an object.
        postfill: Put at the end of the new message.
        structured_output: What the answer has to be: a Pydantic model, a JSON schema with a title, or a
            `StructuredTool`. It is asked for with the formats "structured_output" and "tool"; with the JSON formats it
            is asked for in words, and the answer is validated by it without being repaired.
        tools: What the model may call: functions, Pydantic models, JSON schemas, providers' definitions.
        use_schema_instruction: Whether the instruction says in words what `structured_output` looks like, with any
            format.
        llm_config: Whom it is for, and how it is asked.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

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
        # A picture among the parts would fill the cell that shows it.
        return [(name, _shortened(value)) for name, value in super().__repr_args__()]

    # What is said.

    @property
    def instruction(self) -> str | None:
        """The system text: the instruction, and the words that the format needs; None for none."""
        told = [self.system_string] if self.system_string else []
        json = self.llm_config.response_format in ("json_object", "json_beg")
        if self.structured_output is not None and (self.use_schema_instruction or json):
            told.append(_as_text(self.structured_output))
        elif json:
            told.append(_JSON)
        return "\n\n".join(told) if told else None

    @property
    def beginning(self) -> str:
        """The beginning of the answer that is put into the mouth of a model that takes one, "" for none."""
        begins = self.llm_config.response_format == "json_beg"
        return self.prefill or (_OPENING if begins else "")

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All messages, with role and content as they are meant, in the words that they were given in."""
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
        """Return the conversation; *prefilled* with the beginning of the answer, or without.

        Raises:
            UsageError: For a message that cannot be carried, and where nothing is asked. Nothing was sent.
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
                f"The prompt {self.id!r} asks nothing: give it a new_message, or a history that ends with the user or "
                f"with results of tools. Nothing was sent."
            )
        return dialogue

    @property
    def oai_messages(self) -> list[dict[str, Any]]:
        """The conversation in OpenAI's words (see `msg_dict_to_oai`)."""
        return to_openai(self._for(openai.PROVIDER), self._model_of(openai.PROVIDER))

    @property
    def anthropic_messages(self) -> AnthropicMessages:
        """The conversation in Anthropic's words (see `msg_dict_to_anthropic`)."""
        return to_anthropic(self._for(anthropic.PROVIDER), self._model_of(anthropic.PROVIDER))

    @property
    def google_messages(self) -> GoogleMessages:
        """The conversation in Google's words (see `msg_dict_to_google`)."""
        return to_google(self._for(google.PROVIDER), self._model_of(google.PROVIDER))

    def get_tool(self) -> dict[str, Any] | None:
        """Return `structured_output` as a tool, in the words of the provider that the prompt is for; None for none.

        Raises:
            UsageError: Where there is no such provider, or the schema is none that it takes. Nothing was sent.
        """
        if self.structured_output is None:
            return None
        target = target_of(self.llm_config)
        return to_tool_definition(target.wire, self.structured_output.fit(target.dialect), target.model)

    # How it goes on.

    def update_llm_config(self, llm_config: LLMConfig | None = None, **values: Any) -> Self:
        """Return a copy for another model, or asked in another way. The prompt itself is not changed.

            three = [prompt.update_llm_config(client=client) for client in ("openai", "anthropic", "google")]

        Args:
            llm_config: In place of the whole; None to go on from what is there.
            **values: Single fields of `LLMConfig`.

        Raises:
            ValidationError: For a name that is no field, or a value outside its range.
        """
        base = self.llm_config if llm_config is None else llm_config
        return self._changed(llm_config=LLMConfig.model_validate(base.model_dump() | values))

    def update_history(self, history: Iterable[Mapping[str, Any]]) -> Self:
        """Return a copy with another history. The prompt itself is not changed.

        Raises:
            UsageError: For a message that cannot be carried.
        """
        messages = [_plain_message(message) for message in history]
        dialogue_from_messages(messages)
        return self._changed(history=messages)

    def append_to_history(self, messages: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> Self:
        """Return a copy whose history ends with a further message, or several. The prompt itself is not changed.

        Raises:
            UsageError: For a message that cannot be carried.
        """
        added = [messages] if isinstance(messages, Mapping) else list(messages)
        return self.update_history([*self.history, *added])

    def add_chat_turn_history(self, llm_output: LLMOutput, results: Sequence[ToolCallOutput] = ()) -> Self:
        """Return a copy whose history ends with the new message and its answer. The prompt itself is not changed.

            following = prompt.add_chat_turn_history(output)
            following.new_message = "And the second one?"

        The copy has no `new_message`: what is said next is one; after results of tools it may stay None. The answer
        is kept with what its provider must be given back (signatures, reasoning), and as plain turns for any other
        provider.

        A call has one result. Where none is given, a tool with no function behind it has received what it was called
        with, and arguments that did not fit are an error; the result of a function must be given, since no function
        runs unasked.

        Args:
            llm_output: The answer to this prompt.
            results: Of the tools that were called.

        Raises:
            UsageError: For an output without an answer, a result of no call, or a call that has no result.
        """
        # An answer that was begun by the caller is no more the provider's own message.
        wire = None if self.beginning or llm_output.raw_result is None else target_of(self.llm_config).wire
        offered = [*self.tools, *([self.structured_output] if self.structured_output else [])]
        turns = turns_of(llm_output, wire, offered, results)
        said = [] if self.new_message is None else [{"role": "user", "content": self._asked()}]
        following = self.append_to_history([*said, *write_messages(turns)])
        return following._changed(new_message=None)

    def _changed(self, **values: Any) -> Self:
        """Copy the prompt, with lists of its own: what is added to the copy is not added to the prompt."""
        lists = {"history": list(self.history), "tools": list(self.tools)}
        return self.model_copy(update=lists | values)

    # What it is made of.

    def _asked(self) -> Any:
        if not self.postfill:
            return self.new_message
        if isinstance(self.new_message, str):
            return self.new_message + self.postfill
        return [*(self.new_message or ()), {"type": "text", "text": self.postfill}]

    def _for(self, maker: Provider) -> Dialogue:
        """Return the conversation as a maker's model would be asked, which need not be the one that it is for."""
        # What was not asked for in so many words is left out where it cannot be; what was is refused by the wire.
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
    # A tool that was written as JSON is read back by its own model.
    written = isinstance(source, Mapping) and "json_schema" in source
    return source if source is None or written else StructuredTool.of(source)
