"""Templates: what is taken for a column, what for text, and what is refused before anything is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pllm_notebook.exceptions import UnknownColumnError, UsageError
from pllm_notebook.templates import Template

COLUMNS = ["text", "price", "review"]


def fill(prompt: str, **columns: str) -> str:
    template = Template.compile(prompt, columns)
    cells = [[columns[name]] for name in template.names]
    (filled,) = template.fill(cells, range(1))
    return filled


def test_a_column_goes_where_it_is_named() -> None:
    assert fill("Read {text} by {who}: {text}", text="A", who="B") == "Read A by B: A"


def test_a_cells_own_braces_are_data() -> None:
    assert fill("Read {text}", text="{who} {text} {0.__class__} {{x}}", who="B") == (
        "Read {who} {text} {0.__class__} {{x}}"
    )


def test_names_that_are_no_identifiers_work() -> None:
    assert fill("{unit price ($)} {class} {0}", **{"unit price ($)": "9", "class": "c", "0": "z"}) == "9 c z"


@given(st.text(), st.text())
def test_one_pass_whatever_the_cells_hold(left: str, right: str) -> None:
    assert fill("<{a}|{b}>", a=left, b=right) == f"<{left}|{right}>"


@pytest.mark.parametrize(
    "prompt",
    [
        'Like {"product": "lamp", "n": {"a": [1, {}]}} for {text}',
        "A list [{}, {1}, {12}] of {text}",
        r"\frac{1}{2} of x^{n+1}, see \ref{fig:plot} and \ref{eq:1}: {text}",
        r"\sqrt{f(x)} and {a,b} and {x \mid x > 3}: {text}",
        "Answer as {name: string, age: number} about {text}",
        "Prose {e.g. this, or that} about {text}",
        "An { opened and a } closed brace about {text}",
        "Over {two\nlines} about {text}",
        "{very much like a sentence} about {text}",
    ],
)
def test_json_latex_and_prose_stay_as_they_are_written(prompt: str) -> None:
    assert fill(prompt, text="A") == prompt.replace("{text}", "A")


@pytest.mark.parametrize(
    ("prompt", "filled"),
    [
        ("{{text}} is {text}", "{text} is A"),
        ("{{unknown}} is {text}", "{unknown} is A"),
        ("{{price:.2f}} is {text}", "{price:.2f} is A"),
        ("{{{text}}}", "{A}"),
        ("{{{{text}}}} {text}", "{{text}} A"),
        ("{{ {text} }}", "{ A }"),
        (r"\text{{Score}} of {text}", r"\text{Score} of A"),
        ('{{"a": {{"b": "{text}"}}}}', '{"a": {"b": "A"}}'),
        ('{"a": {"b": {text}}}', '{"a": {"b": A}}'),
        ('{"a": {"b": {}}} {text}', '{"a": {"b": {}}} A'),
    ],
)
def test_doubled_braces_are_literal_braces(prompt: str, filled: str) -> None:
    assert fill(prompt, text="A") == filled


def test_a_name_in_braces_that_is_no_column_is_an_error_with_a_guess() -> None:
    with pytest.raises(UnknownColumnError) as error:
        Template.compile("Read {reveiw} of {price}", COLUMNS)

    assert str(error.value) == (
        "The prompt names column 'reveiw', but the frame has ['text', 'price', 'review']. Did you mean 'review'? "
        "For the text {reveiw} itself, write {{reveiw}}. Nothing was sent."
    )


@pytest.mark.parametrize(
    ("prompt", "column"),
    [
        ("{body}", "body"),
        ("{Desc} of {text}", "Desc"),
        (r"\text{Score} of {text}", "Score"),
        ("{ body } of {text}", "body"),
        ("{body.upper} {text}", "body"),
        ("{body.upper()} {text}", "body"),
        ("{body[0]} {text}", "body"),
        ("{body!r} {text}", "body"),
        ("{body:.2f} {text}", "body"),
        ("{day:%Y-%m} {text}", "day"),
        ("{naïve} {text}", "naïve"),
        ("{reviews: all} {text}", "reviews"),
        ("{review text} {text}", "review text"),
    ],
)
def test_every_name_that_is_no_column_is_refused_beside_one_that_is(prompt: str, column: str) -> None:
    with pytest.raises(UnknownColumnError) as error:
        Template.compile(prompt, [*COLUMNS, "review_text"])

    assert error.value.column == column
    assert "itself, write {{" in str(error.value)


@pytest.mark.parametrize(
    "used", ["price:.2f", "review.upper", "review[0]", "text!r", " text ", "text.upper()", "price: n"]
)
def test_a_template_takes_the_column_alone(used: str) -> None:
    with pytest.raises(UsageError, match="a template takes a column as it is") as error:
        Template.compile(f"Read {{{used}}} of {{text}}", COLUMNS)

    assert f"write {{{{{used}}}}} for the text {{{used}}}" in str(error.value)


def test_an_error_names_a_few_of_many_columns() -> None:
    with pytest.raises(UnknownColumnError) as error:
        Template.compile("{body}", [f"c{n}" for n in range(500)])

    assert "'c19', '…']" in str(error.value)
    assert "c20" not in str(error.value)


def test_the_source_of_a_pack_says_the_literal_braces_as_they_are_meant() -> None:
    assert Template.compile("{{x}} of {value}", ["t"], also={"value": "t"}).source == "{x} of {t}"
