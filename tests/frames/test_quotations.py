"""A quote is found where it is word for word, in whatever white space and Unicode form, and nowhere else."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pllm_notebook.frames.quotations import find_quote, normalised

# What hostile texts are made of: controls, marks, surrogates' neighbours, ligatures, blanks of all kinds, markup.
HOSTILE = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from("aA1 \t\n\u00a0\u2003\u200b\u0301\u0308ﬁ½²Ａ각가각\u202e<>&\"'{}\\\x00e\u0301é…"),
    ),
    max_size=60,
)


@given(HOSTILE, HOSTILE)
def test_every_span_that_is_shown_is_in_the_text_as_quoted(text: str, quote: str) -> None:
    found = find_quote(quote, text)

    if found is not None:
        assert 0 <= found.start < found.end <= len(text)
        assert normalised(text[found.start : found.end]) == normalised(quote)


@given(HOSTILE, st.data())
def test_a_span_of_a_part_of_the_text_is_that_part_or_an_equal_one(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))

    found = find_quote(text[start:end], text)

    if found is not None:
        assert normalised(text[found.start : found.end]) == normalised(text[start:end])


@given(
    st.lists(st.text(st.characters(categories=("L",), codec="utf-8"), min_size=1), min_size=1, max_size=9), st.data()
)
def test_whole_words_are_found_in_every_form_of_blanks_and_characters(words: list[str], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first + 1, len(words)))
    seed = data.draw(st.integers(0, 1_000))
    forms = [data.draw(st.sampled_from(["NFC", "NFD"])) for _ in range(2)]
    text = unicodedata.normalize(forms[0], spread(words, seed))
    quote = unicodedata.normalize(forms[1], " ".join(words[first:last]))

    found = find_quote(quote, text)

    assert found is not None
    assert normalised(text[found.start : found.end]) == normalised(quote)


def spread(words: list[str], seed: int) -> str:
    draw = random.Random(seed)
    return "".join(word + draw.choice([" ", "  ", "\n", "\t\u00a0", "\u2003 "]) for word in words)


@pytest.mark.parametrize(
    ("quote", "text", "shown"),
    [
        ("really fine", "It is really\n  fine.", "really\n  fine"),
        ("  fine ", "all fine!", "fine"),
        ("cafe\u0301", "the café is", "café"),
        ("café", "the cafe\u0301 is", "cafe\u0301"),
        ("office", "the o\ufb03ce is", "o\ufb03ce"),
        ("50", "\uff15\uff10 yen", "\uff15\uff10"),
        ("very bad", "not bad, very bad", "very bad"),
        ("東京", "私は東京に住む", "東京"),
        ("no", "nothing, no", "no"),
        ("10 %", "110 %, then 10 %", "10 %"),
    ],
)
def test_white_space_and_unicode_form_do_not_matter(quote: str, text: str, shown: str) -> None:
    found = find_quote(quote, text)

    assert found is not None
    assert text[found.start : found.end] == shown


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("really fine", "really not fine"),
        ("Fine", "fine"),
        ("fine.", "fine!"),
        ("no", "nothing"),
        ("10 %", "110 %"),
        ("102", "10² m"),
        ("cafe", "café"),
        ("가", "각"),
        ("", "anything"),
        (" \n", "a \n b"),
        ("a b", "ab"),
        ("fi", "\ufb01ne"),
    ],
)
def test_words_marks_case_and_parts_of_words_do_matter(quote: str, text: str) -> None:
    assert find_quote(quote, text) is None


def test_the_first_place_is_shown() -> None:
    found = find_quote("a", "b a a")

    assert found == (2, 3)
