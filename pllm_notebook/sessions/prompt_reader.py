"""What a program shows a model, whatever it is made of, read into turns.

A text that stands alone is sent exactly as it is, so that its call is the one that a dataframe's row with the same
text makes. Several texts of one turn are set apart: a model sees where each ends, and ("ab", "c") is another call
than ("a", "bc").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import Dialogue, Prompt, Turn
from pllm_notebook.sessions.document_reader import DocumentReader, DocumentStore

__all__ = ["dialogue_of", "prompt_of", "turns_from"]


def prompt_of(documents: Iterable[Any], keep: DocumentStore | None = None) -> Prompt:
    """Read what a program asks: a text where that is all, else a conversation.

    Args:
        documents: Texts, data (dictionaries, Pydantic models), messages as a provider writes them, (role, text),
            images and PDFs (bytes, `Path`, PIL), lists of these, tools' calls and outputs, earlier replies,
            conversations. A `str` is always text; a file is named by a `Path`. Of a reply that called tools the
            reply itself is given back, then the outputs: it carries what its provider signed, its calls do not.
        keep: Told of each text and each file that the program gives, None for nobody.

    Raises:
        UsageError: For what cannot be read, or a missing file. Nothing was sent.
    """
    dialogue = dialogue_of(documents, keep)
    if dialogue.system is None and len(dialogue.turns) == 1:
        turn = dialogue.turns[0]
        if turn == Turn("user", turn.text):
            return turn.text
    return dialogue


def dialogue_of(documents: Iterable[Any], keep: DocumentStore | None = None) -> Dialogue:
    """Read documents into a conversation (see `prompt_of`); its system is None where no document is an instruction."""
    reader = DocumentReader(keep)
    reader.read_all(documents)
    dialogue = reader.whole()
    if not dialogue.turns:
        raise UsageError("There is no document to ask about; give at least one. Nothing was sent.")
    if reader.ends_with_answer:
        raise UsageError(
            "The last document is an earlier reply, so nothing is asked after it. Put the question after the reply, "
            "or give the reply's text: reply.resolve(). Nothing was sent."
        )
    return dialogue


def turns_from(documents: Iterable[Any], keep: DocumentStore | None = None) -> Dialogue:
    """Read documents that are a part of a conversation: any turn may be the last, and there may be none."""
    reader = DocumentReader(keep)
    reader.read_all(documents)
    return reader.whole()
