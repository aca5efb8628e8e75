r"""Templates: a prompt with `{column}` where a row's values go.

A template knows `{column}` and nothing more: no attributes, no indexes, no conversions, so that a cell can never reach
into the program. A name in braces that is no column is an error, since it would go out, and be paid for, in every
row. `{{x}}` is the literal `{x}`. What is no name (JSON, LaTeX's `\frac{1}{2}`) stays as it is written. It is
filled in one pass, so a cell's own braces are data.
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
# A name and the beginning of something that is done with it, as in f-strings and in `str.format`.
_USED = re.compile(r"\s*([^\W\d]\w*)\s*[.\[!:(].*")
# The same where nothing else can be meant; LaTeX has `{fig:plot}` and `{eq:1}`, prose `{e.g. this}`.
_FORMATTED = re.compile(
    r"\s*([^\W\d]\w*)(?:(?:\.[^\W\d]\w*(?:\(\))?|\[[^\[\]\s]*\])+(?:![rsa])?(?::\S*)?"
    r"|![rsa](?::\S*)?|:(?:.?[<>=^]\S*|[-+]?[\d,_]*\.\d+[a-zA-Z%]?|,\S*|%\S+|\S*%\S*))\s*"
)
_WORDS = re.compile(r"[^\W\d][\w -]*")
# Below this likeness words in braces are prose, above it a slip of the finger.
_NEAR_MISS = 0.8
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt compiled to its fixed parts and the names between them.

    Attributes:
        source: The prompt as a model reads it where the names stay: with the literal braces of `{{x}}`.
        literals: Fixed parts, one more than `names`.
        names: Column names between them, in order; one that is used twice is there twice.
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
        """Find the columns that *source* names.

        Args:
            source: The prompt.
            columns: The frame's column names; those that are not text are matched by `str`.
            also: Further names, and the column of each.
            named_by: What names them, for errors.
            there: What has the columns, for errors; None where they are too many to list.

        Raises:
            UnknownColumnError: For a name in braces that is no column. Nothing was sent.
            UsageError: For more than a name in braces (`{price:.2f}`). Nothing was sent.
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


def require_text(prompt: object) -> None:
    """Refuse a prompt that no request can carry.

    Raises:
        UsageError: For what is no text, or has half a surrogate pair. Nothing was sent.
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
    """Return whether a prompt can name a column: braces can hold its name."""
    return len(column) <= _LONGEST_NAME and _INNERMOST.fullmatch(column) is not None


def _pieces(source: str) -> Iterator[tuple[str, str | None]]:
    """Yield the text between innermost braces, and what is in them; None at the end.

    Of two braces that open together and close together, one pair is taken off, and what they hold is no name. Only
    such pairs: a `}}` alone ends two objects of JSON.
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
            continue  # the end of a name that has been passed on
        parts.append(source[at:here])
        end = closes.get(here, here)
        # Its length first: what braces in braces hold would be copied again for each of them.
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
    """Return where each opening brace is closed; one that never is has no entry."""
    open_ones: list[int] = []
    closes = {}
    for match in _BRACE.finditer(source):
        if match[0] == "{":
            open_ones.append(match.start())
        elif open_ones:
            closes[open_ones.pop()] = match.start()
    return closes


def _raise_unknown_name(word: str, known: Sequence[str], named_by: str, there: str | None) -> None:
    """Raise where a person who wrote `{word}` meant a column."""
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
