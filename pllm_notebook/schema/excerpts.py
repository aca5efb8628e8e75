"""Find JSON in surrounding prose. Everything here takes time proportional to the length of the text.

A model that is not constrained to JSON reasons first, gives examples, and answers last. So all values are found, last
one first, and the caller decides which of them is the answer.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

__all__ = ["Excerpt", "excerpts", "extract_json", "literals", "without_reasoning"]

# Maximum number of brackets and strings examined. A text with more of them around its JSON is not an answer.
_MAX_TOKENS = 200_000
# Total length of decoded texts, as a multiple of the whole: nested brackets would be decoded repeatedly.
_MAX_DECODED = 4
_MAX_EXCERPTS = 20
# Python's literal parser takes a hundred times as long as the JSON parser.
_LONGEST_LITERAL = 20_000

_REASONING = re.compile(
    r"<(?P<end>/?)(?P<name>think|thinking|thoughts?|reasoning|reflection|scratchpad|analysis|seed:think)"
    r"(?:\s[^<>]{0,80})?>|\[(?P<end2>/?)(?P<name2>THINK)\]",
    re.IGNORECASE,
)
# The possible beginnings of an object or array. White space is scanned once, since only one bracket precedes it.
_OPENING = re.compile(r'\{(?=\s*+["}])|\[(?=\s*+["\[{\]\-0-9tfn])')
# An unterminated string ends at the end of its line, so that nothing is scanned twice.
_TOKEN = re.compile(r'"(?:[^"\\\n]++|\\[^\n])*+"?|[\[\]{}]')
_CLOSES = {"}": "{", "]": "["}
_FENCED = re.compile(r"```[A-Za-z0-9]{0,20}[ \t]*+\n")
# An escape for which Python would show a warning.
_ODD_ESCAPE = re.compile(r"""\\(?![\\'"nrtabfvxuUN0-7\n])""")


class Excerpt(NamedTuple):
    """A JSON value in a text.

    Attributes:
        text: The original text.
        value: The decoded object or array.
    """

    text: str
    value: Any

    @property
    def scalars(self) -> bool:
        """Whether it is an array without an object or array in it: "[1]" is more often a reference than an answer."""
        return isinstance(self.value, list) and not any(isinstance(item, dict | list) for item in self.value)


def extract_json(text: str) -> str | None:
    """Return the last JSON object or array in prose, or None.

    Reasoning in tags (`<think>`, `<reasoning>`) is skipped. An array of plain values counts only if there is nothing
    else.
    """
    found = excerpts(text)
    best = next((one for one in found if not one.scalars), found[0] if found else None)
    return None if best is None else best.text


def excerpts(text: str) -> list[Excerpt]:
    """Return the JSON objects and arrays in prose, last first, without nested ones.

    A text that is a single value gives that value. At most 20 are returned.
    """
    whole = text.strip()
    if whole[:1] in ("{", "[") and (one := _decoded(whole)) is not None:
        return [one]
    text = without_reasoning(text)
    found: list[Excerpt] = []
    left = _MAX_DECODED * len(text) + 1000
    before = len(text) + 1
    for start, end in reversed(_spans(text)):
        if end > before or end - start > left:
            continue  # inside a value already taken, or the limit is reached
        left -= end - start
        one = _decoded(text[start:end])
        if one is not None:
            found.append(one)
            before = start
            if len(found) == _MAX_EXCERPTS:
                break
    return found


def literals(text: str) -> list[Excerpt]:
    """Return the Python dicts and lists in prose as JSON, last first. Some models write them instead of JSON."""
    text = without_reasoning(text).strip()
    found = []
    for written in _written(text):
        if len(written) > _LONGEST_LITERAL or _ODD_ESCAPE.search(written):
            continue
        try:
            value = ast.literal_eval(written)
            one = _decoded(to_json(value).decode()) if isinstance(value, dict | list | tuple) else None
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if one is not None:
            found.append(one)
    return found


def without_reasoning(text: str) -> str:
    """Return a text without its reasoning blocks. An unclosed block extends to the end of the text.

    A closing tag without an opening one also ends a block: the opening tag was part of the prompt.
    """
    kept: list[str] = []
    at, open_, depth = 0, "", 0
    for tag in _REASONING.finditer(text):
        name = (tag["name"] or tag["name2"]).lower()
        ends = bool(tag["end"] or tag["end2"])
        if not open_ and ends:
            kept.clear()
            at = tag.end()
        elif not open_:
            kept.append(text[at : tag.start()])
            open_, depth = name, 1
        elif name == open_:
            depth += -1 if ends else 1
            if not depth:
                open_, at = "", tag.end()
    return "".join([*kept, "" if open_ else text[at:]])


def _written(text: str) -> Iterator[str]:
    """Yield the parts of a text that may be a Python value: code blocks, then the outermost brackets."""
    fences = [fence.end() for fence in _FENCED.finditer(text)]
    for start in reversed(fences[-3:]):
        yield text[start:].partition("```")[0].strip()
    for opening, closing in ("{}", "[]"):
        start, end = text.find(opening), text.rfind(closing)
        if 0 <= start < end:
            yield text[start : end + 1]


def _spans(text: str) -> list[tuple[int, int]]:
    """Return the spans of matching brackets, in the order of their ends, skipping strings."""
    spans: list[tuple[int, int]] = []
    stack: list[tuple[str, int]] = []
    at = looked = 0
    while looked < _MAX_TOKENS:
        looked += 1
        # Outside of all brackets, a quotation mark belongs to the prose.
        token = (_TOKEN if stack else _OPENING).search(text, at)
        if token is None:
            break
        at = token.end()
        char = text[token.start()]
        if char == '"':
            continue
        if char in "{[":
            if not stack or _OPENING.match(text, token.start()):
                stack.append((char, token.start()))
            continue
        opener = _CLOSES[char]
        if stack[-1][0] != opener and not any(one == opener for one, _ in stack[-50:]):
            continue
        while stack[-1][0] != opener:
            stack.pop()  # it was never closed
        spans.append((stack.pop()[1], at))
    return spans


def _decoded(text: str) -> Excerpt | None:
    # Not orjson: it refuses NaN and turns whole numbers above 64 bits into floats.
    try:
        return Excerpt(text, from_json(text.encode("utf-8", "surrogatepass")))
    except ValueError:
        return None
