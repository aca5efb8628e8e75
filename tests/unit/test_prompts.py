"""Prompts: what a template takes for a column, and how a cell becomes text."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pllm_notebook.exceptions import UnknownColumnError
from pllm_notebook.prompts import Template, as_data, as_text, instruction, labelled


def fill(prompt: str, **columns: str) -> str:
    template = Template.compile(prompt, columns)
    cells = [[columns[name]] for name in template.names]
    (filled,) = template.fill(cells, range(1))
    return filled


def test_a_column_goes_where_it_is_named() -> None:
    assert fill("Read {text} by {who}: {text}", text="A", who="B") == "Read A by B: A"


def test_a_cells_own_braces_are_data() -> None:
    assert fill("Read {text}", text="{who} {text} {0.__class__}", who="B") == "Read {who} {text} {0.__class__}"


def test_json_needs_no_escaping() -> None:
    prompt = 'Like {"product": "lamp", "n": {"a": [1, {}]}} for {text}'

    assert fill(prompt, text="A") == 'Like {"product": "lamp", "n": {"a": [1, {}]}} for A'


def test_attributes_indexes_and_conversions_are_text() -> None:
    prompt = "{text.__class__} {text[0]} {text!r} {text:>10} {text}"

    assert fill(prompt, text="A") == "{text.__class__} {text[0]} {text!r} {text:>10} A"


def test_a_near_miss_is_an_error_with_a_guess() -> None:
    with pytest.raises(UnknownColumnError) as error:
        Template.compile("Read {reveiw} of {stars}", ["review", "stars"])

    assert str(error.value) == (
        "The prompt names column 'reveiw', but the frame has ['review', 'stars']. "
        "Did you mean 'review'? Nothing was sent."
    )


def test_words_in_braces_that_are_all_strangers_are_an_error() -> None:
    with pytest.raises(UnknownColumnError, match="'body'"):
        Template.compile("Read {body}", ["review", "stars"])


def test_a_stranger_beside_a_column_stays_text() -> None:
    assert fill("Write {placeholder} for {text}", text="A") == "Write {placeholder} for A"


def test_names_that_are_no_identifiers_work() -> None:
    assert fill("{unit price ($)} {class} {0}", **{"unit price ($)": "9", "class": "c", "0": "z"}) == "9 c z"


@given(st.text(), st.text())
def test_one_pass_whatever_the_cells_hold(left: str, right: str) -> None:
    assert fill("<{a}|{b}>", a=left, b=right) == f"<{left}|{right}>"


class Colour(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x: int


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("as it is", "as it is"),
        (True, "true"),
        (np.bool_(False), "false"),
        (3, "3"),
        (2**63 + 1, "9223372036854775809"),
        (np.int64(2**53 + 1), "9007199254740993"),
        (1.5, "1.5"),
        (np.float32(0.5), "0.5"),
        (decimal.Decimal("1.10"), "1.10"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (pd.Timestamp("2026-01-02 03:04", tz="UTC"), "2026-01-02T03:04:00+00:00"),
        (Colour.RED, "red"),
        ([1, "a", None], '[1,"a",null]'),
        ({"k": [1.0]}, '{"k":[1.0]}'),
        ({2: "two"}, '{"2":"two"}'),
        (Point(x=1), '{"x":1}'),
        (b"\x00\xff", "AP8="),
    ],
)
def test_a_cell_becomes_the_same_text_every_time(cell: Any, text: str) -> None:
    assert as_text(cell) == text


def test_a_sets_order_does_not_move_the_key() -> None:
    assert as_data({"b", "a", "c"}) == ["a", "b", "c"]


def test_a_row_without_a_template_is_one_json_object() -> None:
    assert labelled(["text", "n", "x"], ['say "hi" {n}', 2, None]) == '{"text":"say \\"hi\\" {n}","n":2,"x":null}'


def test_numbers_beyond_64_bits_survive_in_a_row() -> None:
    assert labelled(["n"], [2**70]) == '{"n":1180591620717411303424}'


def test_the_instruction_is_the_docstring_and_the_fields_descriptions() -> None:
    told = instruction("Facts in a review.", [("product", "what was bought"), ("score", "")])

    assert told == (
        "Facts in a review.\n\nFields:\n- product: what was bought\n\n"
        "The user's message is one row of data as a JSON object. Answer from it alone."
    )
