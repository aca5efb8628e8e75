"""Read the documents of a call into a prompt.

A single text is sent unchanged, so that its call equals that of a dataframe row with the same text. Several texts of
one turn are delimited, so that the model sees where each ends and ("ab", "c") differs from ("a", "bc").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import Dialogue, Prompt, Turn
from pllm_notebook.sessions.document_reader import DocumentReader, DocumentStore

__all__ = ["dialogue_of", "prompt_of", "turns_from"]


def prompt_of(documents: Iterable[Any], store: DocumentStore | None = None) -> Prompt:
    """Read documents into a prompt: a string for a single text, otherwise a conversation.

    Args:
        documents: Texts, data (dictionaries, Pydantic models), messages in a provider's format, (role, text), images
            and PDFs (bytes, `Path`, PIL), lists of these, tool calls and outputs, earlier replies, conversations. A
            `str` is always text; use a `Path` for a file. After a reply that called tools, pass the reply itself and
            then the outputs: the reply has the signatures of its provider, its calls alone do not.
        store: Stores each text and each file, None to store nothing.

    Raises:
        UsageError: For an unreadable document or a missing file, none at all, or an earlier reply as the last one.
            Nothing was sent.
    """
    dialogue = dialogue_of(documents, store)
    if dialogue.system is None and len(dialogue.turns) == 1:
        turn = dialogue.turns[0]
        if turn == Turn("user", turn.text):
            return turn.text
    return dialogue


def dialogue_of(documents: Iterable[Any], store: DocumentStore | None = None) -> Dialogue:
    """Read documents into a conversation (see `prompt_of`). Its system is None if no document is an instruction.

    Raises:
        UsageError: For an unreadable document, none at all, or an earlier reply as the last one. Nothing was sent.
    """
    reader = DocumentReader(store)
    reader.read_all(documents)
    dialogue = reader.whole()
    if not dialogue.turns:
        raise UsageError("There is no document; pass at least one. Nothing was sent.")
    if reader.ends_with_answer:
        raise UsageError(
            "The last document is an earlier reply, so there is no question after it. Put the question after the "
            "reply, or pass the reply's text: reply.resolve(). Nothing was sent."
        )
    return dialogue


def turns_from(documents: Iterable[Any], store: DocumentStore | None = None) -> Dialogue:
    """Read documents into part of a conversation, which may be empty or end with any turn."""
    reader = DocumentReader(store)
    reader.read_all(documents)
    return reader.whole()
