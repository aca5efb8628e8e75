"""One conversation in each provider's format, encoded by the same wire formats as the calls."""

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
"""The blocks of the instruction (empty for none) and the messages."""
GoogleMessages = tuple[dict[str, Any] | None, list[dict[str, Any]]]
"""The `systemInstruction`, None for none, and the contents."""


@overload
def msg_dict_to_oai(messages: Sequence[Message], *, model: str | None = None) -> list[dict[str, Any]]: ...
@overload
def msg_dict_to_oai(
    messages: Sequence[Sequence[Message]], *, model: str | None = None
) -> list[list[dict[str, Any]]]: ...
def msg_dict_to_oai(messages: Any, *, model: str | None = None) -> Any:
    """Convert messages to OpenAI's format (Chat Completions), with the instruction first.

    Args:
        messages: Mappings in OpenAI's, Anthropic's or Google's format, one list or a list of lists. Media may be bytes,
            paths, URLs or PIL images: `{"type": "image", "image": …}`.
        model: OpenAI's name of the model, if the format depends on it. None for the cheap current one.

    Returns:
        One list of messages, or one for each list.

    Raises:
        UsageError: For content that cannot be converted, or that the model does not accept. Nothing was sent.
    """
    return _one_or_many(messages, lambda dialogue: to_openai(dialogue, model))


@overload
def msg_dict_to_anthropic(messages: Sequence[Message], *, model: str | None = None) -> AnthropicMessages: ...
@overload
def msg_dict_to_anthropic(
    messages: Sequence[Sequence[Message]], *, model: str | None = None
) -> list[AnthropicMessages]: ...
def msg_dict_to_anthropic(messages: Any, *, model: str | None = None) -> Any:
    """Convert messages to Anthropic's format: the blocks of the instruction, and the messages.

    Consecutive turns of one role are merged, since roles must alternate there.

    Args:
        messages: See `msg_dict_to_oai`.
        model: Anthropic's name of the model; newer ones accept no prefill. None for the cheap current one.

    Returns:
        (blocks of the instruction, messages), or one such pair for each list.

    Raises:
        UsageError: For content that cannot be converted, or that the model does not accept. Nothing was sent.
    """
    return _one_or_many(messages, lambda dialogue: to_anthropic(dialogue, model))


@overload
def msg_dict_to_google(messages: Sequence[Message], *, model: str | None = None) -> GoogleMessages: ...
@overload
def msg_dict_to_google(messages: Sequence[Sequence[Message]], *, model: str | None = None) -> list[GoogleMessages]: ...
def msg_dict_to_google(messages: Any, *, model: str | None = None) -> Any:
    """Convert messages to Google's format: the `systemInstruction`, None for none, and the contents.

    Args:
        messages: See `msg_dict_to_oai`.
        model: Google's name of the model. None for the cheap current one.

    Returns:
        (systemInstruction, contents), or one such pair for each list.

    Raises:
        UsageError: For content that cannot be converted, or that the model does not accept. Nothing was sent.
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
    """Return the definition of a tool in the format of *wire*."""
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
