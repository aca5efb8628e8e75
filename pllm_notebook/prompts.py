"""Prompt texts: a row without a template, a type without a prompt, and several rows in one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from pllm_notebook.cell_text import as_json_value
from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages_types import Prompt, RawRequest, Turn

__all__ = ["ITEMS", "as_labelled_json", "instruction", "packed", "prompt_as_text"]

ITEMS = "\n\nItems:\n"
"""The text before the items of a pack. After it, line breaks occur only between items."""

# This text does not depend on the items or their number, so that all packs of a run share it as their prefix.
_PACKED = (
    "This message ends with a JSON array of items, each with its index. Every item is a task of its own. Answer every "
    "item separately, by its own content alone, as if that had been sent as a message of its own: no item says "
    "anything about another. Give one entry for each item, with the item's index and its answer."
)
_PACKED_TEMPLATE = "The instruction for each item, where a name in braces stands for the item's field of that name:\n"


def as_labelled_json(names: Sequence[str], values: Sequence[Any]) -> str:
    """Return a row as one JSON object: its prompt if there is no template.

    JSON labels the values, keeps their types and delimits any content.

    Raises:
        UsageError: If a value cannot be written as JSON. Nothing was sent.
    """
    row = dict(zip(names, map(as_json_value, values), strict=True))
    try:
        return orjson.dumps(row, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError as error:  # integers beyond 64 bits
        import json

        if "64-bit" not in str(error) and "surrogates" not in str(error):
            raise UsageError(f"A row cannot be written as JSON: {error}. Nothing was sent.") from error
        return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def instruction(doc: str, fields: Sequence[tuple[str, str]] | None, *, shown: bool = False) -> str:
    """Return the instruction for a type without a prompt: its docstring and its fields' descriptions.

    Args:
        doc: The type's docstring, "" for none.
        fields: (name, description) in order; descriptions may be "".
        shown: Whether the row has images.
    """
    lines = [doc or "Read the data and fill in the answer."]
    described = [(name, text) for name, text in fields or () if text]
    if described:
        lines.append("Fields:\n" + "\n".join(f"- {name}: {text}" for name, text in described))
    if shown:
        lines.append(
            "The user's message is what there is to look at, and any data of the same row as a JSON object. Answer "
            "from it alone."
        )
    else:
        lines.append("The user's message is one row of data as a JSON object. Answer from it alone.")
    return "\n\n".join(lines)


def packed(source: str, items: Sequence[bytes]) -> str:
    """Return one prompt for several rows: the shared text first, the items last.

    Args:
        source: The template as written. "" if an item is a row's whole message.
        items: The data of each row as JSON. An item's index is its position.
    """
    template = f"\n\n{_PACKED_TEMPLATE}{source}" if source else ""
    entries = b",\n".join(b'{"index":%d,"item":%b}' % entry for entry in enumerate(items))
    return f"{_PACKED}{template}{ITEMS}[{entries.decode('utf-8', 'surrogatepass')}]"


def prompt_as_text(prompt: Prompt) -> str:
    """Return a prompt as readable text: media as their names, a complete request as JSON."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, RawRequest):
        return orjson.dumps(prompt.fields, default=str).decode()
    if len(prompt.turns) == 1 and prompt.turns[0].role == "user" and prompt.system is None:
        return turn_as_text(prompt.turns[0])
    said = [f"{turn.role}: {turn_as_text(turn)}" for turn in prompt.turns]
    return "\n\n".join(said if prompt.system is None else [f"system: {prompt.system}", *said])


def turn_as_text(turn: Turn) -> str:
    """Return a turn as readable text: media names, text, tool calls and tool results, one per line."""
    parts = [f"[{media.name or media.url or media.mime}]" for media in turn.media]
    if turn.text:
        parts.append(turn.text)
    parts += [f"{call.name}({call.arguments})" for call in turn.calls]
    parts += [f"{result.name} gave {result.content}" for result in turn.results]
    return "\n".join(parts)
