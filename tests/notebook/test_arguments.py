"""The line of `%%pllm`."""

from __future__ import annotations

from dataclasses import fields

import pytest

from pllm_notebook.exceptions import UnknownOptionError, UsageError
from pllm_notebook.notebook.arguments import OPTION_FLAGS, help_text, read
from pllm_notebook.settings import Options, configure

ALONE = (
    "'if' is unexpected on the line of %%pllm, after the data. Put an expression with spaces in quotes or brackets. "
    "Nothing was sent."
)


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("", {}),
        ("df", {"data": "df"}),
        ("df.head(10, ) --out a", {"data": "df.head(10, )", "out": "a"}),
        ('df[df.text == "a b"] --schema list[Item]', {"data": 'df[df.text == "a b"]', "schema": "list[Item]"}),
        ("'df if x else y' --explode", {"data": "df if x else y", "explode": True}),
        ("--probabilities df --evidence", {"data": "df", "probabilities": True, "evidence": True}),
        ("--probabilities=decisions df", {"data": "df", "probabilities": "decisions"}),
        ("df --evidence=retry", {"data": "df", "evidence": "retry"}),
        ("df --schema Literal['a b', \"c\"]", {"data": "df", "schema": "Literal['a b', \"c\"]"}),
        ('--system "Be brief, and don\'t guess."', {"system": "Be brief, and don't guess."}),
        ("--system='Be brief.' --salt=2", {"system": "Be brief.", "salt": "2"}),
        ("--max-cost-usd 0.5 --max-retries 0", {"max_cost_usd": 0.5, "max_retries": 0}),
        ("--columns text,stars --no-progress", {"columns": ["text", "stars"], "progress": False}),
        ("df --samples 3 --judge x", {"data": "df", "samples": 3, "judge": "x"}),
        ("--decide escalate --guarantee 0.9 --against y", {"decide": "escalate", "guarantee": 0.9, "against": "y"}),
    ],
)
def test_a_line_is_read(line: str, given: dict[str, object]) -> None:
    assert read(line) == given


def test_every_option_of_a_call_is_a_word_and_has_a_help_text() -> None:
    words = {"--" + field.name.replace("_", "-") for field in fields(Options)}

    assert words <= set(OPTION_FLAGS)
    shown = " ".join(help_text().split())
    assert all(word in shown for word in OPTION_FLAGS)
    assert (
        "--max-cost-usd X Ceiling for one run, in US dollars. No call is sent that could exceed it; the remaining"
        in shown
    )
    assert (
        "--max-turns N With `run_tools`, the maximum number of replies for one answer, including the answer. "
        "(default: 8)" in shown
    )


def test_help_shows_what_is_configured_in_place_of_the_default() -> None:
    configure(max_turns=3)
    try:
        assert "including the answer. (configured: 3)" in " ".join(help_text().split())
    finally:
        configure(max_turns=None)


def test_an_unknown_option_is_named_with_a_guess() -> None:
    with pytest.raises(UnknownOptionError, match=r"There is no option '--max-cost'\. Did you mean '--max-cost-usd'"):
        read("df --max-cost 5")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("df.head(10", "A bracket on the line of %%pllm does not end. Nothing was sent."),
        ("--system 'x", "A quote ' on the line of %%pllm does not end. Nothing was sent."),
        ("df --max-retries two", "%%pllm: argument --max-retries: invalid int value: 'two'. Nothing was sent."),
        ("df --model", "%%pllm: argument --model: expected one argument. Nothing was sent."),
        (
            "df if x",
            ALONE,
        ),
    ],
)
def test_a_line_that_cannot_be_read_says_why(line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(line)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("df --probabilities decisions", "Join the value of --probabilities to it: --probabilities=decisions"),
        ("df --evidence=often", "argument --evidence: invalid choice: 'often'"),
    ],
)
def test_a_switch_takes_a_value_that_is_joined_to_it_and_known(line: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(line)

    assert said in str(raised.value)
