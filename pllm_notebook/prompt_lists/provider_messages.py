"""One conversation in the words of each provider, written by the wire formats that the calls themselves use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, overload

from pllm_notebook.messages import dialogue_from_messages
from pllm_notebook.messages_types import Dialogue, Request, Tool
from pllm_notebook.protocols import Wire
from pllm_notebook.providers import Provider, anthropic, google, openai

__all__ = [
    "AnthropicMessages",
    "GoogleMessages",
    "msg_dict_to_anthropic",
    "msg_dict_to_google",
    "msg_dict_to_oai",
    "to_anthropic",
    "to_google",
    "to_openai",
    "to_tool_definition",
]

Message = Mapping[str, Any]
AnthropicMessages = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""The blocks of the instruction, empty for none, and the messages."""
GoogleMessages = tuple[dict[str, Any] | None, list[dict[str, Any]]]
"""The `systemInstruction`, None for none, and the contents."""


@overload
def msg_dict_to_oai(messages: Sequence[Message], *, model: str | None = None) -> list[dict[str, Any]]: ...
@overload
def msg_dict_to_oai(
    messages: Sequence[Sequence[Message]], *, model: str | None = None
) -> list[list[dict[str, Any]]]: ...
def msg_dict_to_oai(messages: Any, *, model: str | None = None) -> Any:
    """Return messages in OpenAI's words (Chat Completions), the instruction as the first of them.

    Args:
        messages: Mappings in OpenAI's, Anthropic's or Google's words, one list or a list of lists. Media may be bytes,
            paths, addresses or PIL images: `{"type": "image", "image": …}`.
        model: As OpenAI names it, where it matters what the model takes. None for the cheap current one.

    Returns:
        One list of messages, or one for each list.

    Raises:
        UsageError: For what cannot be carried, or what the model does not take. Nothing was sent.
    """
    return _one_or_many(messages, lambda dialogue: to_openai(dialogue, model))


@overload
def msg_dict_to_anthropic(messages: Sequence[Message], *, model: str | None = None) -> AnthropicMessages: ...
@overload
def msg_dict_to_anthropic(
    messages: Sequence[Sequence[Message]], *, model: str | None = None
) -> list[AnthropicMessages]: ...
def msg_dict_to_anthropic(messages: Any, *, model: str | None = None) -> Any:
    """Return messages in Anthropic's words: the blocks of the instruction, and the messages.

    Turns of one role that follow each other are rolled up, since roles must alternate there.

    Args:
        messages: As for `msg_dict_to_oai`.
        model: As Anthropic names it; newer ones take no beginning of the answer. None for the cheap current one.

    Returns:
        (blocks of the instruction, messages), or one such pair for each list.

    Raises:
        UsageError: For what cannot be carried, or what the model does not take. Nothing was sent.
    """
    return _one_or_many(messages, lambda dialogue: to_anthropic(dialogue, model))


@overload
def msg_dict_to_google(messages: Sequence[Message], *, model: str | None = None) -> GoogleMessages: ...
@overload
def msg_dict_to_google(messages: Sequence[Sequence[Message]], *, model: str | None = None) -> list[GoogleMessages]: ...
def msg_dict_to_google(messages: Any, *, model: str | None = None) -> Any:
    """Return messages in Google's words: the `systemInstruction`, None for none, and the contents.

    Args:
        messages: As for `msg_dict_to_oai`.
        model: As Google names it. None for the cheap current one.

    Returns:
        (systemInstruction, contents), or one such pair for each list.

    Raises:
        UsageError: For what cannot be carried, or what the model does not take. Nothing was sent.
    """
    return _one_or_many(messages, lambda dialogue: to_google(dialogue, model))


def to_openai(dialogue: Dialogue, model: str | None = None) -> list[dict[str, Any]]:
    """Return a conversation as OpenAI's messages (see `msg_dict_to_oai`)."""
    written: list[dict[str, Any]] = _body(openai.PROVIDER, dialogue, model)["messages"]
    return written


def to_anthropic(dialogue: Dialogue, model: str | None = None) -> AnthropicMessages:
    """Return a conversation as Anthropic's messages (see `msg_dict_to_anthropic`)."""
    body = _body(anthropic.PROVIDER, dialogue, model)
    system = body.get("system") or []
    blocks = [{"type": "text", "text": system}] if isinstance(system, str) else list(system)
    return blocks, body["messages"]


def to_google(dialogue: Dialogue, model: str | None = None) -> GoogleMessages:
    """Return a conversation as Google's contents (see `msg_dict_to_google`)."""
    body = _body(google.PROVIDER, dialogue, model)
    return body.get("systemInstruction"), body["contents"]


def to_tool_definition(wire: Wire, tool: Tool, model: str) -> dict[str, Any]:
    """Return one tool's definition as *wire* sends it."""
    request = Request(
        model=model, turns=dialogue_from_messages([{"role": "user", "content": "-"}]).turns, tools=(tool,)
    )
    definition: dict[str, Any] = wire.encode(request)["tools"][0]
    return definition


def _body(provider: Provider, dialogue: Dialogue, model: str | None) -> dict[str, Any]:
    asked = Request(model=model or provider.cheap_model, turns=dialogue.turns, system=dialogue.system)
    return provider.wires[0].encode(asked)


def _one_or_many(messages: Any, write: Callable[[Dialogue], Any]) -> Any:
    items = list(messages) if isinstance(messages, Iterable) and not isinstance(messages, (str, Mapping)) else messages
    if isinstance(items, list) and items and all(isinstance(item, (list, tuple)) for item in items):
        return [write(dialogue_from_messages(item)) for item in items]
    return write(dialogue_from_messages(items))
