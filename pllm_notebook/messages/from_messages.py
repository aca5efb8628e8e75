"""Convert messages in any of three formats to turns, from which every wire format is written.

One reader handles OpenAI's, Anthropic's and Google's formats, which do not conflict: a list may even mix them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages.parts import ProviderOnlyPart, as_json, call_of, parts_of, text_of
from pllm_notebook.messages_types import Dialogue, Media, ProviderMessage, ToolCall, ToolCallOutput, Turn

__all__ = ["dialogue_from_messages"]

_SYSTEM = ("system", "developer")
_ASSISTANT = ("assistant", "model")
_RESULTS = ("tool", "function")


def dialogue_from_messages(messages: Iterable[Any], system: str | None = None) -> Dialogue:
    """Convert messages to a conversation.

    "system" and "developer" messages become one system prompt, wherever they are. Consecutive tool results become one
    turn. Other messages become one turn each; the writers of wire formats merge turns of roles that must alternate.
    Within a turn, media come before the text.

    Args:
        messages: Mappings, or message objects of an SDK, in OpenAI's, Anthropic's or Google's format.
        system: A system prompt that precedes those of the messages. None for none.

    Raises:
        UsageError: For an unsupported role or part, and for a result without a preceding call. Nothing was sent.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise UsageError("messages is a list of {'role': …, 'content': …}. Nothing was sent.")
    reader = _Reader()
    for at, message in enumerate(messages):
        reader.read(_fields(message, at), f"messages[{at}]")
    parts = [text for text in (system, *reader.system) if text]
    return Dialogue(tuple(reader.turns), "\n\n".join(parts) if parts else None)


class _Reader:
    """A reader of messages, one after another.

    Attributes:
        system: The instructions so far.
        turns: The turns so far.
    """

    def __init__(self) -> None:
        self.system: list[str] = []
        self.turns: list[Turn] = []
        # Calls without a result so far, from id to name, in order.
        self._open: dict[str, str] = {}
        self._calls = 0

    def read(self, fields: Mapping[str, Any], where: str) -> None:
        role = fields["role"]
        content = fields.get("parts", fields.get("content"))
        if role in _SYSTEM:
            self.system.append(text_of(content, where))
        elif role in _ASSISTANT:
            self._assistant(fields, content, where)
        elif role in _RESULTS:
            given = ToolCallOutput(
                str(fields.get("tool_call_id") or ""),
                str(fields.get("name") or ""),
                text_of(content, where),
                bool(fields.get("failed")),
            )
            self._results([given], where)
        elif role == "user":
            self._user(content, where)
        else:
            raise UsageError(
                f"{where} has the role {role!r}; the roles are system, developer, user, assistant (or model) and tool. "
                f"Nothing was sent."
            )

    def _user(self, content: Any, where: str) -> None:
        texts, media, results = [], [], []
        for part in parts_of(content, where):
            if isinstance(part, str):
                texts.append(part)
            elif isinstance(part, Media):
                media.append(part)
            elif isinstance(part, ToolCallOutput):
                results.append(part)
            else:
                raise UsageError(f"{where} is a user message but contains a tool call or reasoning. Nothing was sent.")
        if results:
            self._results(results, where)
        if texts or media or not results:
            self.turns.append(Turn("user", "\n".join(texts), tuple(media)))

    def _assistant(self, fields: Mapping[str, Any], content: Any, where: str) -> None:
        texts, calls, private = [], [], False
        for part in parts_of(content, where):
            if isinstance(part, str):
                texts.append(part)
            elif isinstance(part, ToolCall):
                calls.append(part)
            elif isinstance(part, ProviderOnlyPart):
                private = True
            else:
                raise UsageError(f"{where} is an assistant message with media or tool results. Nothing was sent.")
        calls += [call_of(call, where) for call in fields.get("tool_calls") or ()]
        named = []
        for call in calls:
            # Google may omit the id. The position in the conversation serves as one.
            call = call if call.id else replace(call, id=f"call_{self._calls}")
            self._calls += 1
            self._open[call.id] = call.name
            named.append(call)
        self.turns.append(Turn("assistant", "\n".join(texts), calls=tuple(named), echo=_echo(fields, content, private)))

    def _results(self, results: list[ToolCallOutput], where: str) -> None:
        answered = tuple(self._answered(result, where) for result in results)
        last = self.turns[-1] if self.turns else None
        if last is not None and last.role == "tool":
            self.turns[-1] = replace(last, results=(*last.results, *answered))
        else:
            self.turns.append(Turn("tool", "", results=answered))

    def _answered(self, result: ToolCallOutput, where: str) -> ToolCallOutput:
        """Match a result to its call: by id, or, without an id, to the first open call of its name."""
        found = result.id if result.id in self._open else None
        if found is None and not result.id:
            found = next((own for own, name in self._open.items() if not result.name or name == result.name), None)
        if found is None:
            raise UsageError(
                f"{where} is the result of the call {result.id or result.name!r}, which no message before it makes, or "
                f"which has a result already. Nothing was sent."
            )
        return replace(result, id=found, name=self._open.pop(found))


def _fields(message: Any, at: int) -> Mapping[str, Any]:
    dump = getattr(message, "model_dump", None)
    fields = message if isinstance(message, Mapping) else dump(exclude_none=True) if callable(dump) else None
    if not isinstance(fields, Mapping) or "role" not in fields:
        raise UsageError(f"messages[{at}] is {type(message).__name__} without a role. Nothing was sent.")
    return fields


def _echo(fields: Mapping[str, Any], content: Any, private: bool) -> ProviderMessage | None:
    """Keep a message in its provider's form if parts of it are only for that provider."""
    kept = fields.get("echo")
    if isinstance(kept, Mapping):
        return ProviderMessage(str(kept["form"]), str(kept["content"]))
    if "parts" in fields:
        signed = any(isinstance(part, Mapping) and _signature(part) for part in content or ())
        written = orjson.dumps({"role": "model", "parts": as_json(content)}).decode()
        return ProviderMessage("generate", written) if signed else None
    return ProviderMessage("messages", orjson.dumps(content).decode()) if private else None


def _signature(part: Mapping[str, Any]) -> bool:
    return bool(part.get("thoughtSignature") or part.get("thought_signature"))
