"""Prompts: a row without a template, and a type without a prompt."""

from __future__ import annotations

from pllm_notebook.prompts import as_labelled_json, instruction


def test_a_row_without_a_template_is_one_json_object() -> None:
    assert (
        as_labelled_json(["text", "n", "x"], ['say "hi" {n}', 2, None]) == '{"text":"say \\"hi\\" {n}","n":2,"x":null}'
    )


def test_numbers_beyond_64_bits_survive_in_a_row() -> None:
    assert as_labelled_json(["n"], [2**70]) == '{"n":1180591620717411303424}'


def test_the_instruction_is_the_docstring_and_the_fields_descriptions() -> None:
    told = instruction("Facts in a review.", [("product", "what was bought"), ("score", "")])

    assert told == (
        "Facts in a review.\n\nFields:\n- product: what was bought\n\n"
        "The user's message is one row of data as a JSON object. Answer from it alone."
    )
