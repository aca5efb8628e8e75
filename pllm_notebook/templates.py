r"""Templates: prompts with `{column}` placeholders for a row's values.

A template supports only `{column}`: no attributes, indexes or conversions, so that a cell can never access the
program. A name in braces that is not a column is an error, since it would be sent and paid for in every row. `{{x}}` is
the literal `{x}`. Braces without a name (JSON, LaTeX's `\frac{1}{2}`) stay as written. A template is filled in one
pass, so braces in a cell are data.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pllm_notebook.exceptions import UnknownColumnError, UsageError
from pllm_notebook.options import is_unicode

__all__ = ["Template", "is_nameable", "require_text"]

_BRACE = re.compile(r"[{}]")
_INNERMOST = re.compile(r"[^{}\n]+")
_NAME = re.compile(r"[^\W\d]\w*")
# A name and the beginning of an expression or format, as in f-strings and `str.format`.
_USED = re.compile(r"\s*([^\W\d]\w*)\s*[.\[!:(].*")
# The same, only if unambiguous: LaTeX has `{fig:plot}` and `{eq:1}`, prose has `{e.g. this}`.
_FORMATTED = re.compile(
    r"\s*([^\W\d]\w*)(?:(?:\.[^\W\d]\w*(?:\(\))?|\[[^\[\]\s]*\])+(?:![rsa])?(?::\S*)?"
    r"|![rsa](?::\S*)?|:(?:.?[<>=^]\S*|[-+]?[\d,_]*\.\d+[a-zA-Z%]?|,\S*|%\S+|\S*%\S*))\s*"
)
_WORDS = re.compile(r"[^\W\d][\w -]*")
# Below this similarity to a column, words in braces are prose; above it, a typing error.
_NEAR_MISS = 0.8
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt compiled to its fixed parts and the column names between them.

    Attributes:
        source: The prompt with its placeholders, and with `{{x}}` as the literal `{x}`.
        literals: Fixed parts, one more than `names`.
        names: Column names between the fixed parts, in order; a column used twice is listed twice.
    """

    source: str
    literals: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def compile(
        cls,
        source: str,
        columns: Iterable[object],
        *,
        also: Mapping[str, str] | None = None,
        named_by: str = "The prompt",
        there: str | None = "the frame",
    ) -> Template:
        """Compile *source* and find its columns.

        Args:
            source: The prompt.
            columns: The frame's column names; names that are not strings are matched by `str`.
            also: Additional names, mapped to their columns.
            named_by: The subject of error messages.
            there: The owner of the columns, for error messages; None if there are too many columns to list.

        Raises:
            UnknownColumnError: If a name in braces is not a column. Nothing was sent.
            UsageError: If braces contain more than a name (`{price:.2f}`). Nothing was sent.
        """
        known = dict.fromkeys(map(str, columns))
        places = {name: name for name in known} | dict(also or {})
        literals: list[str] = []
        names: list[str] = []
        parts: list[str] = []
        for text, word in _pieces(source):
            parts.append(text)
            if word is None:
                continue
            if word in places:
                names.append(places[word])
                literals.append("".join(parts))
                parts = []
                continue
            _raise_unknown_name(word, list(places), named_by, there)
            parts.append(f"{{{word}}}")
        literals.append("".join(parts))
        read = "".join(f"{part}{{{name}}}" for part, name in zip(literals, names, strict=False)) + literals[-1]
        return cls(read, tuple(literals), tuple(names))

    def fill(self, columns: Sequence[Sequence[str]], rows: range) -> Iterator[str]:
        """Yield the prompts of *rows*.

        Args:
            columns: The texts of the whole column, for each of `names`.
            rows: Positions to fill.
        """
        literals = self.literals
        if len(self.names) == 1:  # the usual case; takes a third of the time of the general one
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


def require_text(prompt: object) -> None:
    """Check that a prompt is text that a request can contain.

    Raises:
        UsageError: If it is not a string or has half a surrogate pair. Nothing was sent.
    """
    if not isinstance(prompt, str):
        shown = repr(prompt)
        shown = shown if "\n" not in shown else f"a {type(prompt).__name__}"
        order = f" A type comes before the prompt: parse({prompt.__name__}, '…')." if isinstance(prompt, type) else ""
        raise UsageError(f"The prompt is text, not {shown}.{order} Nothing was sent.")
    if not is_unicode(prompt):
        raise UsageError("The prompt has half a surrogate pair, which no provider takes: write its character whole. "
                         "Nothing was sent.")  # fmt: skip


def is_nameable(column: str) -> bool:
    """Return whether a prompt can refer to a column, so that its name can be written in braces."""
    return len(column) <= _LONGEST_NAME and _INNERMOST.fullmatch(column) is not None


def _pieces(source: str) -> Iterator[tuple[str, str | None]]:
    """Yield the text before each innermost pair of braces, and the braces' content; None at the end.

    If two braces open together and close together, one pair is removed, and their content is not a name. Only
    such pairs count: a `}}` alone ends two JSON objects.
    """
    closes = _matching(source)
    dropped: set[int] = set()
    kept: set[int] = set()
    for opening in sorted(closes):
        if opening not in kept and closes.get(opening + 1) == closes[opening] - 1:
            dropped |= {opening, closes[opening]}
            kept.add(opening + 1)
    parts: list[str] = []
    at = 0
    for brace in _BRACE.finditer(source):
        here = brace.start()
        if here < at:
            continue  # the end of a name that was already yielded
        parts.append(source[at:here])
        end = closes.get(here, here)
        # Check the length first: nested braces would copy their content once per level.
        inside = source[here + 1 : end] if 0 < end - here - 1 <= _LONGEST_NAME else ""
        if here in dropped:
            at = here + 1
        elif here in kept or not inside or not _INNERMOST.fullmatch(inside):
            parts.append(source[here])
            at = here + 1
        else:
            yield "".join(parts), inside
            parts, at = [], end + 1
    yield "".join(parts) + source[at:], None


def _matching(source: str) -> dict[int, int]:
    """Return the position of each opening brace's closing brace. An unclosed brace has no entry."""
    open_ones: list[int] = []
    closes = {}
    for match in _BRACE.finditer(source):
        if match[0] == "{":
            open_ones.append(match.start())
        elif open_ones:
            closes[open_ones.pop()] = match.start()
    return closes


def _raise_unknown_name(word: str, known: Sequence[str], named_by: str, there: str | None) -> None:
    """Raise a `UsageError` if `{word}` was probably meant as a column."""
    name = word.strip()
    used = _USED.fullmatch(word)
    column = name if used is None else used[1]
    if column in known:
        raise UsageError(
            f"{named_by} has {{{word}}}, and a template takes a column as it is: {{{column}}}. Make a column of what "
            f"you want of it first, or write {{{{{word}}}}} for the text {{{word}}}. Nothing was sent."
        )
    if _NAME.fullmatch(name):
        raise UnknownColumnError(name, known, named_by, there=there, literal=word)
    if (used is not None and _FORMATTED.fullmatch(word)) or (
        (used is not None or _WORDS.fullmatch(name))
        and difflib.get_close_matches(column, known, n=1, cutoff=_NEAR_MISS)
    ):
        raise UnknownColumnError(column, known, named_by, there=there, literal=word)
