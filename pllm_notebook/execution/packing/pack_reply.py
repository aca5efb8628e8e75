"""Packs: several rows asked in one call, and the one reply taken apart again. Pure.

An answer is cut out of the reply as it was written, so that it is, byte for byte, what a call of
its own would have held. Only what says plainly whose answer it is counts: an index that is
missing, appears twice or names no item leaves its row without one.
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
    """A pack's reply, taken apart.

    Attributes:
        answers: Item's place to its answer's JSON, as the reply has it.
        followed: Whether the reply was the JSON that was asked for, and nothing else.
    """

    answers: dict[int, str]
    as_requested: bool


def split_reply(text: str, finish: Finish, count: int) -> SplitReply:
    """Take a pack's reply apart.

    Of a reply that was cut off, the entries that came whole count. A refused or filtered one has none.

    Args:
        text: The reply's.
        finish: How it ended.
        count: Items that were asked.
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
    """Return what a call of the row's own would have answered; None where it cannot be.

    Args:
        answer: JSON.
        structured: Whether a type was asked for, and not plain text.
        wrapped: Whether the type's value is the property `value` of an answer of its own.
    """
    if not structured:
        decoded = _DECODER.decode(answer)
        return decoded.encode("utf-8", "surrogatepass") if isinstance(decoded, str) else None
    return (f'{{"value":{answer}}}' if wrapped else answer).encode("utf-8", "surrogatepass")


def divide_usage(whole: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Divide what a pack's call took among *count* rows.

    Args:
        whole: The call's `StoredReply.about`.
        count: Rows that bear it.

    Returns:
        For each row the same with its part of `usage` and `cost_usd`. Tokens add up to the whole's, the
        first rows bearing what does not divide; so do costs, but for rounding.
    """
    usage, cost = whole["usage"], whole["cost_usd"]
    parts = []
    for nth in range(count):
        # Quotients first, so that no row has more tokens read from a prompt cache than tokens.
        own = None if usage is None else [total // count + (nth < total % count) for total in usage]
        parts.append({**whole, "usage": own, "cost_usd": None if cost is None else cost / count})
    return parts


def row_replies(
    whole: StoredReply, texts: Mapping[int, bytes], *, pack: int, pack_id: str, output_limit: int | None, raw: bytes
) -> dict[int, StoredReply]:
    """Make an entry for each row that has an answer; they bear the whole call between them.

    Args:
        whole: The call's own entry.
        texts: Item's place to its answer, as `row_text` gives it.
        pack: Rows that share a call at most, as in the keys.
        pack_id: Key of the packed call.
        output_limit: Tokens that one row's answer can have, None for no limit.
        raw: b"", or the whole response where no store keeps it once for all.
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
    """Reads `{"answers": [{"index": …, "answer": …}, …]}`, or the bare list, from left to right.

    `json` alone would do for whole replies; but it neither gives an answer as it was written (numbers
    lose digits) nor what came before a cut.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> list[tuple[Any, str]] | None:
        """Return (index, answer's JSON) of every entry; None where the text is not that, from end to end."""
        try:
            entries = list(self._entries())
            self._skip()
        except (ValueError, RecursionError):
            return None
        return entries if self._at == len(self._text) else None

    def leading(self) -> list[tuple[Any, str]]:
        """Return the entries that are whole, up to where the text stops being what was asked for."""
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
                self._value()  # no entry, so no row's answer
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
        """Walk an object: give each name, and go on where the caller has read its value."""
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
        assert found is not None  # it matches nothing, too
        self._at = found.end()
