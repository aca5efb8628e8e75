"""Prompts: from a template and a row's values to the text of one user turn.

A template knows `{column}` and nothing more: no attributes, no indexes, no conversions, so
that a cell can never reach into the program. It is filled in one pass, so a cell's own
braces are data. Braces that name no column stay as text, and JSON needs no escaping.
"""

from __future__ import annotations

import base64
import datetime as dt
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

import orjson

from pllm_notebook.conversation import Body, Prompt, Turn
from pllm_notebook.exceptions import UnknownColumnError, UsageError

__all__ = ["ITEMS", "Template", "as_data", "as_text", "in_words", "instruction", "labelled", "packed"]

_BRACES = re.compile(r"\{([^{}\n]{1,200})\}")
_NAME = re.compile(r"[^\W\d]\w*")
# Below this likeness a word in braces is prose, above it a slip of the finger.
_NEAR_MISS = 0.75

ITEMS = "\n\nItems:\n"
"""What stands before the items of a pack. Nothing after it can hold a line break that is not between items."""

# Nothing here depends on the items, not even their number: all packs of a run share it as their prefix.
_PACKED = (
    "This message ends with a JSON array of items, each with its index. Every item is a task of its own. Answer every "
    "item separately, by its own content alone, as if that had been sent as a message of its own: no item says "
    "anything about another. Give one entry for each item, with the item's index and its answer."
)
_PACKED_TEMPLATE = "The instruction for each item, where a name in braces stands for the item's field of that name:\n"


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt compiled to its fixed parts and the names between them.

    Attributes:
        source: The prompt as written.
        literals: Fixed parts, one more than `names`.
        names: Column names between them, in order; one that is used twice stands twice.
    """

    source: str
    literals: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def compile(cls, source: str, columns: Iterable[object]) -> Template:
        """Find the columns that *source* names.

        Args:
            source: The prompt.
            columns: The frame's column names; those that are not text are matched by `str`.

        Raises:
            UnknownColumnError: When a word in braces looks like a mistyped column, or when words in
                braces are all that could have been columns and none of them is.
        """
        known = [str(column) for column in columns]
        literals, names, strangers = [], [], []
        end = 0
        for match in _BRACES.finditer(source):
            word = match[1]
            if word in known:
                literals.append(source[end : match.start()])
                names.append(word)
                end = match.end()
            elif _NAME.fullmatch(word.strip()):
                if word.strip() in known or difflib.get_close_matches(word.strip(), known, n=1, cutoff=_NEAR_MISS):
                    raise UnknownColumnError(word, known)
                strangers.append(word)
        if strangers and not names:
            raise UnknownColumnError(strangers[0], known)
        literals.append(source[end:])
        return cls(source, tuple(literals), tuple(names))

    def fill(self, columns: Sequence[Sequence[str]], rows: range) -> Iterator[str]:
        """Give the prompts of *rows*.

        Args:
            columns: For each of `names`, the texts of the whole column.
            rows: Positions to fill.
        """
        literals = self.literals
        if len(self.names) == 1:  # the common prompt; a third of the time of the general way
            before, after = literals
            column = columns[0]
            for row in rows:
                yield f"{before}{column[row]}{after}"
            return
        for row in rows:
            parts = [literals[0]]
            for literal, column in zip(literals[1:], columns, strict=True):
                parts.append(column[row])
                parts.append(literal)
            yield "".join(parts)


def as_text(value: Any) -> str:
    """Write one cell as a person would read it. The same value always gives the same text.

    Text stays as it is; booleans are `true` and `false`; numbers as Python writes them (`3`, `3.0`);
    dates ISO 8601; an Enum its value; lists, dicts and Pydantic models JSON; bytes base64. A missing
    value never comes here.
    """
    if type(value) is str:
        return value
    if isinstance(value, Enum):
        return as_text(value.value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, Decimal)):
        return str(value)
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, (Mapping, list, tuple, set, frozenset)) or hasattr(value, "model_dump"):
        return orjson.dumps(as_data(value), option=orjson.OPT_NON_STR_KEYS).decode()
    to_list = getattr(value, "tolist", None)  # numpy's scalars and arrays give Python's own
    return as_text(to_list()) if callable(to_list) else str(value)


def as_data(value: Any) -> Any:
    """Turn one cell into what JSON can hold, keeping numbers, booleans, lists and objects."""
    if value is None or type(value) in (str, bool, int):
        return value
    if isinstance(value, Enum):
        return as_data(value.value)
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, Mapping):
        return {str(key): as_data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_data(item) for item in value]
    if isinstance(value, (set, frozenset)):
        # A set has no order, and a key must not depend on the one it happens to have today.
        return sorted((as_data(item) for item in value), key=lambda item: (str(type(item)), str(item)))
    dump: Callable[..., Any] | None = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    to_list = getattr(value, "tolist", None)
    return as_data(to_list()) if callable(to_list) else as_text(value)


def labelled(names: Sequence[str], values: Sequence[Any]) -> str:
    """Write a row as one JSON object: the form of a row where there is no template.

    JSON, since it labels, keeps types and delimits whatever a cell holds.
    """
    row = dict(zip(names, map(as_data, values), strict=True))
    try:
        return orjson.dumps(row, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError as error:  # integers beyond 64 bits
        import json

        if "64-bit" not in str(error) and "surrogates" not in str(error):
            raise UsageError(f"A row cannot be written as JSON: {error}. Nothing was sent.") from error
        return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def instruction(doc: str, fields: Sequence[tuple[str, str]] | None, *, shown: bool = False) -> str:
    """Write the instruction for a type without a prompt: its docstring and its fields' descriptions.

    Args:
        doc: The type's docstring, "" for none.
        fields: (name, description) in order; descriptions may be "".
        shown: Whether images come with the row.
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
    """Write the one prompt of several rows: what they share first, and the items last.

    Args:
        source: The template as written, "" where an item is a row's whole message.
        items: What each row alone has, as JSON; the index is its place.
    """
    told = f"\n\n{_PACKED_TEMPLATE}{source}" if source else ""
    entries = b",\n".join(b'{"index":%d,"item":%b}' % entry for entry in enumerate(items))
    return f"{_PACKED}{told}{ITEMS}[{entries.decode('utf-8', 'surrogatepass')}]"


def in_words(prompt: Prompt) -> str:
    """Give a prompt as a person reads it: media by their names, a whole body as JSON."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Body):
        return orjson.dumps(prompt.fields, default=str).decode()
    if len(prompt.turns) == 1 and prompt.turns[0].role == "user" and prompt.system is None:
        return _spoken(prompt.turns[0])
    said = [f"{turn.role}: {_spoken(turn)}" for turn in prompt.turns]
    return "\n\n".join(said if prompt.system is None else [f"system: {prompt.system}", *said])


def _spoken(turn: Turn) -> str:
    parts = [f"[{media.name or media.url or media.mime}]" for media in turn.media]
    if turn.text:
        parts.append(turn.text)
    parts += [f"{call.name}({call.arguments})" for call in turn.calls]
    parts += [f"{result.name} gave {result.content}" for result in turn.results]
    return "\n".join(parts)
