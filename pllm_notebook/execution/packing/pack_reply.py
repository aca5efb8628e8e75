"""Split the reply to a pack (several rows in one call) into the answers of its rows. Pure functions.

An answer is cut out of the reply as it was written, so that it equals, byte for byte, the reply to a separate call.
An answer counts only if its index names its row clearly: an index that is missing, occurs twice or is out of range
leaves the row without an answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from json import JSONDecoder
from typing import Any, NamedTuple

import orjson

from pllm_notebook.schema import extract_json
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish

__all__ = ["SplitReply", "divide_usage", "row_replies", "row_text", "split_reply"]

_DECODER = JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")


class SplitReply(NamedTuple):
    """The reply to a pack, split into answers.

    Attributes:
        answers: The JSON of each answer as written in the reply, by the item's position in the pack.
        as_requested: Whether the reply was the requested JSON and nothing else.
    """

    answers: dict[int, str]
    as_requested: bool


def split_reply(text: str, finish: Finish, count: int) -> SplitReply:
    """Split the reply to a pack.

    If the reply was cut off, its complete entries count. A refused or filtered reply has no answers.

    Args:
        text: The reply's text.
        finish: How the reply ended.
        count: Number of items in the pack.
    """
    if finish is Finish.TRUNCATED:
        return SplitReply(_by_index(_PackParser(text).leading(), count), True)
    if finish is not Finish.COMPLETE:
        return SplitReply({}, True)
    found = _PackParser(text).whole()
    if found is not None:
        return SplitReply(_by_index(found, count), True)
    within = extract_json(text)
    found = None if within is None else _PackParser(within).whole()
    return SplitReply({} if found is None else _by_index(found, count), False)


def row_text(answer: str, *, structured: bool, wrapped: bool) -> bytes | None:
    """Return the text that a separate call for the row would have returned; None if the answer has the wrong form.

    Args:
        answer: The answer's JSON.
        structured: Whether a type was requested, not plain text.
        wrapped: Whether a separate call wraps the type's value in an object, as its property `value`.
    """
    if not structured:
        decoded = _DECODER.decode(answer)
        return decoded.encode("utf-8", "surrogatepass") if isinstance(decoded, str) else None
    return (f'{{"value":{answer}}}' if wrapped else answer).encode("utf-8", "surrogatepass")


def divide_usage(whole: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Divide the usage and cost of a pack's call among *count* rows.

    Args:
        whole: The call's metadata (see `StoredReply.metadata`).
        count: Number of rows to divide by.

    Returns:
        The metadata for each row, with its share of `usage` and `cost_usd`. The tokens add up to those of the call:
        the first rows get the remainder. The costs add up except for rounding.
    """
    usage, cost = whole["usage"], whole["cost_usd"]
    parts = []
    for nth in range(count):
        # The remainders go to the first rows for each count, so that no row has more cached tokens than input tokens.
        own = None if usage is None else [total // count + (nth < total % count) for total in usage]
        parts.append({**whole, "usage": own, "cost_usd": None if cost is None else cost / count})
    return parts


def row_replies(
    whole: StoredReply, texts: Mapping[int, bytes], *, pack: int, pack_id: str, output_limit: int | None, raw: bytes
) -> dict[int, StoredReply]:
    """Build an entry for each row with an answer. The entries share the call's whole usage and cost.

    Args:
        whole: The call's own entry.
        texts: The text of each answer (see `row_text`), by the item's position in the pack.
        pack: Maximum number of rows that share a call, as in the keys.
        pack_id: Key of the packed call.
        output_limit: Maximum output tokens of one row's answer, None for no limit.
        raw: The whole response if no store keeps it once for all rows; otherwise b"".

    Returns:
        The entries, by the item's position in the pack.
    """
    made = {}
    for (place, text), metadata in zip(texts.items(), divide_usage(whole.metadata, len(texts)), strict=True):
        meta = orjson.dumps({**metadata, "pack": pack, "pack_id": pack_id})
        tokens = metadata["usage"][1] if metadata["usage"] is not None else 0
        made[place] = StoredReply(Finish.COMPLETE, text, tokens, output_limit or 0, meta, raw)
    return made


def _by_index(entries: list[tuple[Any, str]], count: int) -> dict[int, str]:
    named = Counter(index for index, _ in entries if type(index) is int)
    return {
        index: answer for index, answer in entries if type(index) is int and named[index] == 1 and 0 <= index < count
    }


class _PackParser:
    """Parser of `{"answers": [{"index": …, "answer": …}, …]}`, or of the bare list, from left to right.

    The `json` module could parse complete replies, but it returns neither answers as they were written (numbers lose
    digits) nor the entries before a cut.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> list[tuple[Any, str]] | None:
        """Return (index, answer's JSON) of every entry; None if the whole text is not of the expected form."""
        try:
            entries = list(self._entries())
            self._skip()
        except (ValueError, RecursionError):
            return None
        return entries if self._at == len(self._text) else None

    def leading(self) -> list[tuple[Any, str]]:
        """Return the complete entries up to the point where the text is cut off or malformed."""
        entries = []
        try:
            for entry in self._entries():
                entries.append(entry)
        except (ValueError, RecursionError):
            pass
        return entries

    def _entries(self) -> Iterator[tuple[Any, str]]:
        if self._next() == "[":
            yield from self._list()
            return
        found = False
        for name in self._names():
            if name == "answers" and not found:
                found = True
                yield from self._list()
            else:
                self._value()
        if not found:
            raise ValueError("no answers")

    def _list(self) -> Iterator[tuple[Any, str]]:
        self._take("[")
        if self._next() == "]":
            self._at += 1
            return
        while True:
            if self._next() == "{":
                yield self._entry()
            else:
                self._value()  # not an entry, so no row's answer
            if self._take(",]") == "]":
                return

    def _entry(self) -> tuple[Any, str]:
        index, answer = None, ""
        for name in self._names():
            value, written = self._value()
            if name == "index":
                index = value
            elif name == "answer":
                answer = written
        return (index, answer) if answer else (None, "")

    def _names(self) -> Iterator[str]:
        """Yield each property name of an object. The caller reads the value before asking for the next name."""
        self._take("{")
        if self._next() == "}":
            self._at += 1
            return
        while True:
            name, _ = self._value()
            self._take(":")
            yield name
            if self._take(",}") == "}":
                return

    def _value(self) -> tuple[Any, str]:
        self._skip()
        start = self._at
        value, self._at = _DECODER.raw_decode(self._text, start)
        return value, self._text[start : self._at]

    def _next(self) -> str:
        self._skip()
        return self._text[self._at : self._at + 1]

    def _take(self, expected: str) -> str:
        char = self._next()
        if not char or char not in expected:
            raise ValueError(f"expected one of {expected}")
        self._at += 1
        return char

    def _skip(self) -> None:
        found = _SPACE.match(self._text, self._at)
        assert found is not None  # the pattern also matches the empty string
        self._at = found.end()
