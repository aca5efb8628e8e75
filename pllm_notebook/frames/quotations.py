"""Search for a quote in a text, word for word, regardless of white space and Unicode form."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple, overload

__all__ = ["Span", "find_quote", "normalised"]

# Compatibility forms that are typographic variants of the same characters. Superscripts and fractions are excluded:
# 10² is not 102.
_SAME_CHARACTERS = ("<compat>", "<wide>", "<narrow>", "<noBreak>", "<vertical>", "<small>")
_BLANKS, _RUNS = re.compile(r"\s+"), re.compile(r"\s{2,}")
# Maximum number of candidate places, as a multiple of the text's length divided by the quote's length. Places that do
# not overlap amount to at most 1; a repetitive text has one at nearly every character.
_MOST_COMPARED = 4
# Parts of a Hangul syllable that follow the first one.
_FIRST_JAMO, _LAST_JAMO = "\u1160", "\u11ff"


class Span(NamedTuple):
    """A part of a text, as in Python slices.

    Attributes:
        start: Position of its first character.
        end: Position after its last character.
    """

    start: int
    end: int


class _Folded(NamedTuple):
    """A text with normalised white space and Unicode form.

    Attributes:
        text: The normalised text.
        clusters: For each of its characters, the span in the original of the character with its marks, or of the run
            of white space.
    """

    text: str
    clusters: Sequence[Span]


class _ASCIIClusters(Sequence[Span]):
    """The spans of an ASCII text: one for each character, but only one for a run of white space."""

    def __init__(self, text: str) -> None:
        # Position of each run of several characters in the normalised text, and the shift of everything after it.
        self._at: list[int] = []
        self._moved: list[int] = []
        moved = 0
        for run in _RUNS.finditer(text):
            self._at.append(run.start() - moved)
            moved += run.end() - run.start() - 1
            self._moved.append(moved)
        self._length = len(text) - moved

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, at: int) -> Span: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Span]: ...
    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        if not 0 <= at < len(self):
            raise IndexError(at)
        before = bisect_left(self._at, at)
        start = at + (self._moved[before - 1] if before else 0)
        is_run = before < len(self._at) and self._at[before] == at
        return Span(start, at + self._moved[before] + 1 if is_run else start + 1)


def normalised(text: str) -> str:
    """Return a text with normalised white space and Unicode form, without surrounding white space."""
    return _folded(text).text.strip()


def find_quote(quote: str, text: str) -> Span | None:
    """Return the first place of *quote* in *text*, None if it is not found.

    Any two runs of white space match. So do composed and decomposed characters, ligatures, full-width forms and other
    typographic variants of the same characters. Case, punctuation, words and word order must match. A quote must not
    begin or end inside a word or number: "no" is not in "nothing", nor "10 %" in "110 %". This rule does not apply to
    scripts that are written without spaces.
    """
    wanted = normalised(quote)
    if not wanted:
        return None
    folded = _folded(text)
    left = _MOST_COMPARED * len(folded.text)
    at = folded.text.find(wanted)
    while at >= 0 and left >= 0:
        end = at + len(wanted)
        left -= len(wanted)
        if not _splits(folded, at) and not _splits(folded, end):
            return Span(folded.clusters[at].start, folded.clusters[end - 1].end)
        at = folded.text.find(wanted, at + 1)
    return None


def _splits(folded: _Folded, at: int) -> bool:
    """Return whether a place in a text is inside a word or number, or between a character and its marks."""
    if not 0 < at < len(folded.text):
        return False
    if folded.clusters[at - 1] == folded.clusters[at]:
        return True
    before, after = _base_before(folded.text, at), folded.text[at]
    return all(char.isalnum() and unicodedata.category(char) != "Lo" for char in (before, after))


def _base_before(text: str, at: int) -> str:
    """Return the character before a place, skipping combining marks."""
    at -= 1
    while at > 0 and unicodedata.category(text[at])[0] == "M":
        at -= 1
    return text[at]


def _folded(text: str) -> _Folded:
    if text.isascii():  # the common case, a hundred times as fast as the general one
        return _Folded(_BLANKS.sub(" ", text), _ASCIIClusters(text))
    parts: list[str] = []
    clusters: list[Span] = []
    start = 0
    while start < len(text):
        end = start + 1
        if text[start].isspace():
            while end < len(text) and text[end].isspace():
                end += 1
            part = " "
        else:
            while end < len(text) and _continues(text[end]):
                end += 1
            part = unicodedata.normalize("NFD", "".join(map(_plain, text[start:end])))
        parts.append(part)
        clusters += [Span(start, end)] * len(part)
        start = end
    return _Folded("".join(parts), clusters)


def _continues(char: str) -> bool:
    return unicodedata.category(char)[0] == "M" or _FIRST_JAMO <= char <= _LAST_JAMO


def _plain(char: str) -> str:
    """Return the usual form of a character: a ligature as its letters, a full-width letter as the plain letter."""
    if char.isascii():
        return char
    form = unicodedata.decomposition(char).partition(" ")[0]
    return unicodedata.normalize("NFKD", char) if form in _SAME_CHARACTERS else char
