"""Find JSON in the prose around it. Everything here takes time in proportion to the text, whatever it says.

A model that is not held to JSON thinks first, gives examples, and answers last. So all values are found, the last one
first, and the caller decides which of them is the answer.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

__all__ = ["Excerpt", "excerpts", "extract_json", "literals", "without_reasoning"]

# Brackets and strings that are looked at. A text with more of them than this around its JSON is not an answer.
_MAX_TOKENS = 200_000
# Texts that are decoded, together, as a multiple of the whole: brackets in brackets would be read again and again.
_MAX_DECODED = 4
_MAX_EXCERPTS = 20
# Python's own reader takes a hundred times as long as that of JSON.
_LONGEST_LITERAL = 20_000

_REASONING = re.compile(
    r"<(?P<end>/?)(?P<name>think|thinking|thoughts?|reasoning|reflection|scratchpad|analysis|seed:think)"
    r"(?:\s[^<>]{0,80})?>|\[(?P<end2>/?)(?P<name2>THINK)\]",
    re.IGNORECASE,
)
# Where an object or array can begin. White space is gone over once, since only one bracket comes before it.
_OPENING = re.compile(r'\{(?=\s*+["}])|\[(?=\s*+["\[{\]\-0-9tfn])')
# A string without its end is taken up to the end of its line, so that nothing is looked at twice.
_TOKEN = re.compile(r'"(?:[^"\\\n]++|\\[^\n])*+"?|[\[\]{}]')
_CLOSES = {"}": "{", "]": "["}
_FENCED = re.compile(r"```[A-Za-z0-9]{0,20}[ \t]*+\n")
# An escape that Python would warn of.
_ODD_ESCAPE = re.compile(r"""\\(?![\\'"nrtabfvxuUN0-7\n])""")


class Excerpt(NamedTuple):
    """A JSON value in a text.

    Attributes:
        text: As it is there.
        value: Decoded; an object or an array.
    """

    text: str
    value: Any

    @property
    def scalars(self) -> bool:
        """Whether it is an array without an object or array in it: "[1]" is more often a reference than an answer."""
        return isinstance(self.value, list) and not any(isinstance(item, dict | list) for item in self.value)


def extract_json(text: str) -> str | None:
    """Return the last JSON object or array in prose, None without one.

    Reasoning in tags (`<think>`, `<reasoning>`) is passed over; an array of plain values only counts where there is
    nothing else.
    """
    found = excerpts(text)
    best = next((one for one in found if not one.scalars), found[0] if found else None)
    return None if best is None else best.text


def excerpts(text: str) -> list[Excerpt]:
    """Return the JSON objects and arrays in prose, the last first; none of them lies in another.

    A text that is one whole value is that value, whatever it holds. At most 20.
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
            continue  # within one that was taken, or the text is too tangled
        left -= end - start
        one = _decoded(text[start:end])
        if one is not None:
            found.append(one)
            before = start
            if len(found) == _MAX_EXCERPTS:
                break
    return found


def literals(text: str) -> list[Excerpt]:
    """Return the Python dicts and lists in prose, as JSON: what some models write in its place. The last first."""
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
    """Return a text without its reasoning blocks; all that follows a beginning without an end is one.

    An end without a beginning closes one too: the beginning was part of the prompt.
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
    """Return the parts of a text that could be one Python value: blocks of code, then the outermost brackets."""
    fences = [fence.end() for fence in _FENCED.finditer(text)]
    for start in reversed(fences[-3:]):
        yield text[start:].partition("```")[0].strip()
    for opening, closing in ("{}", "[]"):
        start, end = text.find(opening), text.rfind(closing)
        if 0 <= start < end:
            yield text[start : end + 1]


def _spans(text: str) -> list[tuple[int, int]]:
    """Return where brackets open and close again, in the order of their ends; strings are passed over."""
    spans: list[tuple[int, int]] = []
    stack: list[tuple[str, int]] = []
    at = looked = 0
    while looked < _MAX_TOKENS:
        looked += 1
        # Outside of all brackets a quotation mark is one of prose.
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
