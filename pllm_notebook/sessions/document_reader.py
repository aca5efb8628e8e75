"""Read documents of any kind into turns of a conversation (see `prompt_reader`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, runtime_checkable

import orjson
from pydantic import BaseModel

from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.local_files import local_path
from pllm_notebook.media import load_media, read_media_file
from pllm_notebook.messages import dialogue_from_messages as said_in
from pllm_notebook.messages import write_messages
from pllm_notebook.messages_types import Dialogue, Media, ToolCall, ToolCallOutput, Turn
from pllm_notebook.tools import Called, CalledTool

__all__ = ["DocumentReader", "DocumentStore", "EarlierReply", "HasDialogue", "delimited"]

_DATA = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY
_SYSTEM = ("system", "developer")
_SPEAKERS: Mapping[str, Literal["user", "assistant"]] = {"user": "user", "assistant": "assistant", "model": "assistant"}
_RESULTS = ("tool", "function")
# In OpenAI's Responses API, calls and their outputs are items beside the messages.
_CALL, _OUTPUT = "function_call", "function_call_output"


@runtime_checkable
class HasDialogue(Protocol):
    """A conversation: a `MessageState`."""

    def dialogue(self) -> Dialogue:
        """Return the whole conversation."""


@runtime_checkable
class EarlierReply(Protocol):
    """An earlier reply."""

    def to_assistant_message(self) -> Any:
        """Return the reply as an assistant turn."""


class DocumentStore(Protocol):
    """Stores the documents of calls."""

    def keep_text(self, text: str) -> str:
        """Store a text, and return its hash."""

    def keep_media(self, media: Media) -> tuple[Media, str]:
        """Store an image or a PDF, and return it with its hash. Equal content is one shared object."""


def delimited(texts: Sequence[str]) -> str:
    """Join the texts of one turn: a single text unchanged, or each of several in a tag.

    No text can close its own tag: if a text contains the closing tag, all texts get another tag.
    """
    if len(texts) == 1:
        return texts[0]
    tag, number = "document", 1
    while any(f"</{tag}>" in text for text in texts):
        number += 1
        tag = f"document_{number}"
    return "\n".join(f'<{tag} index="{index}">\n{text}\n</{tag}>' for index, text in enumerate(texts, 1))


class DocumentReader:
    """A reader of documents into turns, in order.

    Args:
        store: Stores each text and each file, None to store nothing.

    Attributes:
        ends_with_answer: Whether the last document is an earlier reply.
    """

    ends_with_answer = False

    def __init__(self, store: DocumentStore | None) -> None:
        self._store = store
        self._turns: list[Turn] = []
        self._system: list[str] = []
        # Parts of the user's turn that is being built.
        self._texts: list[str] = []
        self._media: list[Media] = []
        # Consecutive messages are read together: results are matched to the calls before them.
        self._messages: list[Mapping[str, Any]] = []

    def read_all(self, documents: Iterable[Any]) -> None:
        """Read documents, in order."""
        for number, document in enumerate(documents, 1):
            self.read(document, number)

    def read(self, document: Any, number: int) -> None:
        """Read one document; *number* counts from 1."""
        self.ends_with_answer = False
        if isinstance(document, Mapping) and _is_message(document):
            self._end_texts()
            self._messages.append(document)
            return
        self._end_messages()
        if isinstance(document, str):
            self._texts.append(self._kept_text(str(document)))  # also a member of a string enum
        elif isinstance(document, list):
            for each in document:
                self.read(each, number)
        elif isinstance(document, tuple):
            self._spoken(document, number)
        elif isinstance(document, Mapping):
            self._mapping(document, number)
        elif isinstance(document, Turn):
            self._add(document)
        elif isinstance(document, HasDialogue):
            self._conversation(document.dialogue())
        elif isinstance(document, Dialogue):
            self._conversation(document)
        elif isinstance(document, EarlierReply):
            # First, so that the turns before the reply are complete.
            self._end()
            self.read(document.to_assistant_message(), number)
            self.ends_with_answer = True
        elif isinstance(document, (Called, CalledTool, ToolCall, ToolCallOutput)):
            self._tool(document)
        elif isinstance(document, BaseModel):
            self._texts.append(self._kept_text(document.model_dump_json(indent=2)))
        else:
            self._shown(document, number)

    def whole(self) -> Dialogue:
        """Return the conversation that was read."""
        self._end()
        return Dialogue(tuple(_named(self._turns)), "\n\n".join(self._system) or None)

    # Kinds of documents.

    def _spoken(self, document: tuple[Any, ...], number: int) -> None:
        role = document[0] if len(document) == 2 else None
        if not isinstance(role, str) or (role not in _SPEAKERS and role not in _SYSTEM):
            known = (*_SYSTEM, *_SPEAKERS)
            near = guess(role, known) if isinstance(role, str) else ""
            raise UsageError(
                f"Document {number} is the tuple {document!r:.80}; a tuple is (role, text), with a role of "
                f"{', '.join(known)}.{near} Several documents are a list. Nothing was sent."
            )
        said = document[1]
        if isinstance(said, str):
            self._text_of(role, self._kept_text(said))
        elif role != "user":
            raise UsageError(
                f"Document {number} is ({role!r}, {type(said).__name__}); the text of {role!r} is a string. "
                f"Nothing was sent."
            )
        else:
            self._end()
            self.read(said, number)
            self._end()

    def _text_of(self, role: str, text: str) -> None:
        if role in _SYSTEM:
            self._system.append(text)
        else:
            self._add(Turn(_SPEAKERS[role], text))

    def _mapping(self, document: Mapping[str, Any], number: int) -> None:
        if "call_id" in document and document.get("type") == _CALL:
            self._tool(ToolCall(document["call_id"], document.get("name", ""), document.get("arguments", "{}")))
        elif "call_id" in document and document.get("type") == _OUTPUT:
            output = document.get("output", "")
            content = output if isinstance(output, str) else orjson.dumps(output).decode()
            self._tool(ToolCallOutput(document["call_id"], document.get("name", ""), content))
        else:
            try:
                data = orjson.dumps(document, option=_DATA).decode()
            except TypeError as error:
                raise UsageError(
                    f"Document {number} is a dictionary that cannot be written as JSON: {error}. Nothing was sent."
                ) from error
            self._texts.append(self._kept_text(data))

    def _conversation(self, dialogue: Dialogue) -> None:
        if dialogue.system is not None:
            self._system.append(dialogue.system)
        for turn in dialogue.turns:
            self._add(turn)

    def _tool(self, document: Called | CalledTool | ToolCall | ToolCallOutput) -> None:
        self._end()
        before = self._turns[-1] if self._turns else None
        if isinstance(document, ToolCallOutput):
            result = document
            if before is not None and before.role == "tool":
                self._turns[-1] = replace(before, results=(*before.results, result))
            else:
                self._turns.append(Turn("tool", "", results=(result,)))
            return
        if isinstance(document, Called):
            self._turns.append(Turn("assistant", document.text, calls=tuple(map(_call, document.calls))))
            return
        call = _call(document)
        if before is None or before.role != "assistant":
            self._turns.append(Turn("assistant", "", calls=(call,)))
        elif call not in before.calls:  # an earlier reply already contains its calls
            self._turns[-1] = replace(before, calls=(*before.calls, call))

    def _shown(self, document: Any, number: int) -> None:
        if isinstance(document, os.PathLike):
            content = read_media_file(local_path(document))
            text = _text_in(content)
            if text is not None:
                self._texts.append(self._kept_text(text))
            else:
                self._media.append(self._kept_media(replace(load_media(content), name="")))
            return
        if not isinstance(document, (bytes, bytearray, memoryview, Media)) and not hasattr(document, "getbands"):
            raise UsageError(
                f"Document {number} is of type {type(document).__name__} ({document!r:.60}). A document is text, a "
                f"dictionary, a Pydantic model, (role, text), an image or a PDF (bytes, a Path, PIL), a tool's call or "
                f"output, an earlier reply, a MessageState, or a list of these. Nothing was sent."
            )
        # The file's name is not part of its content.
        self._media.append(self._kept_media(replace(load_media(document), name="")))

    # Turns.

    def _add(self, turn: Turn) -> None:
        self._end()
        self._turns.append(turn)

    def _end(self) -> None:
        """Finish the turn that is being built."""
        self._end_texts()
        self._end_messages()

    def _end_texts(self) -> None:
        if self._texts or self._media:
            self._turns.append(Turn("user", delimited(self._texts) if self._texts else "", tuple(self._media)))
            self._texts, self._media = [], []

    def _end_messages(self) -> None:
        if not self._messages:
            return
        messages, self._messages = self._messages, []
        # Results may belong to calls of an earlier reply.
        before = self._open()
        said = said_in([*write_messages(before), *messages])
        if said.system is not None:
            self._system.append(self._kept_text(said.system))
        del self._turns[len(self._turns) - len(before) :]
        for at, turn in enumerate(said.turns):
            if at >= len(before):
                media = tuple(self._kept_media(each) for each in turn.media)
                turn = replace(turn, text=self._kept_text(turn.text), media=media)
            self._turns.append(turn)

    def _open(self) -> list[Turn]:
        """Return the last turns if results may follow: the turn with the calls, and the results after it."""
        for at in reversed(range(len(self._turns))):
            if self._turns[at].calls:
                return self._turns[at:]
            if self._turns[at].role != "tool":
                break
        return []

    def _kept_text(self, text: str) -> str:
        if self._store is not None and text:
            self._store.keep_text(text)
        return text

    def _kept_media(self, media: Media) -> Media:
        return media if self._store is None else self._store.keep_media(media)[0]


def _is_message(value: Mapping[str, Any]) -> bool:
    """Return whether a mapping is a message: it has a known role, and content or calls."""
    role = value.get("role")
    known = isinstance(role, str) and (role in _SPEAKERS or role in _SYSTEM or role in _RESULTS)
    return known and any(name in value for name in ("content", "parts", "tool_calls"))


def _call(called: CalledTool | ToolCall) -> ToolCall:
    return called if isinstance(called, ToolCall) else ToolCall(called.id, called.name, called.text)


def _named(turns: Iterable[Turn]) -> Iterable[Turn]:
    """Return turns with the tool's name in each result; not every provider's messages repeat it."""
    names: dict[str, str] = {}
    for turn in turns:
        names |= {call.id: call.name for call in turn.calls}
        if all(result.name for result in turn.results):
            yield turn
        else:
            results = (replace(each, name=each.name or names.get(each.id, "")) for each in turn.results)
            yield replace(turn, results=tuple(results))


def _text_in(content: bytes) -> str | None:
    """Decode a text file; return None if it is not UTF-8, or a PDF."""
    try:
        return None if content.startswith(b"%PDF-") or b"\0" in content else content.decode("utf-8")
    except UnicodeDecodeError:
        return None
