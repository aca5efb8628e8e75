"""From the tokens of a reply to the probabilities of a value's options."""

from __future__ import annotations

import math

import pytest

from pllm_notebook.schema import Token, ValueStep, chosen_option, option_shares, steps_of
from pllm_notebook.schema.value_spans import spans_by_path

MOODS = ['"negative"', '"neutral"', '"positive"']


def token(text: str, p: float, **others: float) -> Token:
    top = [(text, p), *others.items()]
    return Token(text.encode(), math.log(p), [(one.encode(), math.log(each)) for one, each in top])


def test_values_are_found_by_their_paths() -> None:
    text = 'Here: {"a": 1,\n "b\\n": {"c": "x}", "d": [{"a": 2}]}, "é": null}'

    spans = {path: text[start:end] for path, (start, end) in spans_by_path(text).items()}

    assert spans == {
        ("a",): " 1",
        ("b\n",): ' {"c": "x}", "d": [{"a": 2}]}',
        ("b\n", "c"): ' "x}"',
        ("b\n", "d"): ' [{"a": 2}]',
        ("é",): " null",
    }


@pytest.mark.parametrize("text", ["", "none", "{", '{"a"', '{"a":', "{a: 1}", '{"a": 1'])
def test_what_is_cut_off_or_no_json_has_the_values_that_can_be_read(text: str) -> None:
    assert set(spans_by_path(text)) <= {("a",)}


def test_all_tokens_that_lead_to_an_option_are_added_up_and_others_do_not_count() -> None:
    given = {'"': 0.5, '"pos': 0.1, '"positive': 0.2, '"Positive': 0.1, "null": 0.1}
    steps = [
        ValueStep('"', list(given.items())),
        ValueStep("neg", [("neg", 0.3), ("positive", 0.1), ("neutral", 0.1), ("good", 0.5)]),
        ValueStep('ative"', [('ative"', 0.9), ('ated"', 0.1)]),
    ]

    shares = option_shares(steps, MOODS)

    assert shares is not None
    # At the first step 0.8 of 1 leads to an option, at the second 0.5.
    assert shares.p == pytest.approx([0.625 * 0.6, 0.625 * 0.2, 0.375 + 0.625 * 0.2])
    assert shares.mass == pytest.approx(0.3 + 0.5 * 0.5)
    assert chosen_option(steps, MOODS) == 0


def test_a_token_that_begins_several_options_is_shared_equally() -> None:
    steps = [ValueStep('"positive"', [('"positive"', 0.6), ('"ne', 0.4)])]

    shares = option_shares(steps, MOODS)

    assert shares is not None
    assert shares.p == pytest.approx([0.2, 0.2, 0.6])


def test_a_number_that_begins_another_is_itself() -> None:
    options = [str(number) for number in range(11)]
    steps = [ValueStep(" 2", [(" 2", 0.5), (" 1", 0.3), (" 10", 0.2)]), ValueStep("}", [("}", 1.0)])]

    shares = option_shares(steps, options)

    assert shares is not None
    assert (shares.p[2], shares.p[1], shares.p[10]) == pytest.approx((0.5, 0.3, 0.2))
    assert chosen_option(steps, options) == 2


def test_the_option_that_was_written_is_known_from_the_tokens_after_it() -> None:
    steps = [ValueStep("1", [("1", 1.0)]), ValueStep("0", [("0", 0.9), (",", 0.1)]), ValueStep(",", [(",", 1.0)])]

    shares = option_shares(steps, ["1", "10"])

    assert shares is not None
    assert shares.p == pytest.approx([0.1, 0.9])
    assert chosen_option(steps, ["1", "10"]) == 1


def test_steps_are_cut_where_the_value_begins_and_ends() -> None:
    text = '{"mood":"negative","n":4}'
    tokens = [
        token('{"mood', 1.0),
        token('":"neg', 0.6, **{'":"pos': 0.2, "\": 'neg": 0.1, '"}': 0.1}),
        token("ative", 1.0),
        token('","', 1.0),
        token('n":', 1.0),
        token("4", 0.7, **{"5": 0.3}),
        token("}", 1.0),
    ]

    steps = steps_of(tokens, text, {("mood",): MOODS, ("n",): ["4", "5"], ("missing",): ["1"]})

    assert list(steps) == [("mood",), ("n",)]
    assert [step.text for step in steps["mood",]] == ['"neg', "ative", '","']
    assert dict(steps["mood",][0].alternatives) == pytest.approx({'"neg': 0.6, '"pos': 0.2})
    assert option_shares(steps["n",], ["4", "5"]) == ([pytest.approx(0.7), pytest.approx(0.3)], pytest.approx(1.0))


def test_tokens_of_another_text_give_nothing_and_reasoning_before_it_is_passed_over() -> None:
    text = '{"n":4}'
    thought = [token("<think>", 1.0), token('{"n":5}', 1.0), token("</think>", 1.0)]
    said = [token('{"n":', 1.0), token("4", 0.7, **{"5": 0.3}), token("}", 1.0)]

    assert steps_of(thought, text, {("n",): ["4", "5"]}) == {}
    assert [step.text for step in steps_of([*thought, *said], text, {("n",): ["4", "5"]})["n",]] == ["4"]


def test_characters_of_several_bytes_may_be_split_between_tokens() -> None:
    text = '{"é":true}'
    raw = text.encode()
    pieces = [raw[:3], raw[3:6], raw[6:]]
    tokens = [Token(piece, 0.0, [(piece, 0.0)]) for piece in pieces]

    steps = steps_of(tokens, text, {("é",): ["true", "false"]})

    assert "".join(step.text for step in steps["é",]).startswith("true")
    assert option_shares([ValueStep("x", [("x", 1.0)])], ["true"]) is None
