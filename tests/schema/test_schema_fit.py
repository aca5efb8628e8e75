from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, create_model

from pllm_notebook.exceptions import UnsupportedSchemaError
from pllm_notebook.providers.anthropic.facts import DIALECT as ANTHROPIC
from pllm_notebook.providers.google.facts import DIALECT as GOOGLE
from pllm_notebook.providers.openai.facts import DIALECT as OPENAI
from pllm_notebook.schema import GRAMMAR, PLAIN, Dialect, OutputType
from tests.zoo import Constrained, Invoice, Keys, ManyNullable, ManyUnions, Mixed, Pet, case


def fit(kind: Any, dialect: Dialect) -> dict[str, Any]:
    return OutputType.of(kind).fit(dialect).schema


def refusal(kind: Any, dialect: Dialect) -> str:
    with pytest.raises(UnsupportedSchemaError) as caught:
        OutputType.of(kind).fit(dialect)
    return str(caught.value)


def _tagged(tag: str, inner: Any) -> Any:
    return create_model("Tagged", tag=(Literal[tag], ...), inner=(inner, ...))


def test_golden_openai() -> None:
    assert fit(Invoice, OPENAI) == {
        "type": "object",
        "properties": {
            "number": {"type": "string"},
            "bill_to": {
                "description": "Who pays",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
                "required": ["street", "city"],
                "additionalProperties": False,
            },
            "ship_to": {"anyOf": [{"$ref": "#/$defs/Address"}, {"type": "null"}]},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/Address"}, "maxItems": 5},
        },
        "required": ["number", "bill_to", "ship_to", "lines"],
        "additionalProperties": False,
        "$defs": {
            "Address": {
                "description": "A postal address.",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
                "required": ["street", "city"],
                "additionalProperties": False,
            }
        },
    }


def test_golden_anthropic() -> None:
    assert fit(Invoice, ANTHROPIC) == {
        "description": "`bill_to`: Who pays",
        "type": "object",
        "properties": {
            "number": {"type": "string"},
            "bill_to": {"$ref": "#/$defs/Address"},
            "ship_to": {"anyOf": [{"$ref": "#/$defs/Address"}, {"type": "null"}]},
            "lines": {"description": "At most 5 items", "type": "array", "items": {"$ref": "#/$defs/Address"}},
        },
        "required": ["number", "bill_to"],
        "additionalProperties": False,
        "$defs": {
            "Address": {
                "description": "A postal address.",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
                "required": ["street"],
                "additionalProperties": False,
            }
        },
    }


def test_golden_google() -> None:
    assert fit(Constrained, GOOGLE) == {
        "type": "object",
        "properties": {
            "code": {
                "description": "At least 2 characters; at most 2 characters; "
                "matching the regular expression ^[A-Z]{2}$",
                "type": "string",
            },
            "share": {"description": "Greater than 0; less than 1", "type": "number"},
            "count": {"description": "A multiple of 5", "type": "integer", "minimum": 1},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 3},
        },
        "required": ["code", "share", "count", "tags"],
        "propertyOrdering": ["code", "share", "count", "tags"],
    }


def test_mixed_literals_are_unions_of_typed_enums() -> None:
    grade = fit(Mixed, OPENAI)["properties"]["grade"]

    assert grade == {
        "anyOf": [
            {"type": "string", "enum": ["a"]},
            {"type": "integer", "enum": [1]},
            {"type": "boolean", "enum": [True]},
            {"type": "null"},
        ]
    }


def test_tagged_unions_lose_their_tag_keyword_and_keep_their_tags() -> None:
    schema = fit(Pet, OPENAI)

    assert schema["properties"]["pet"] == {"anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}
    assert schema["$defs"]["Cat"]["properties"]["type"] == {"type": "string", "enum": ["cat"]}


def test_keys_of_dicts_are_text_whatever_they_are() -> None:
    level = fit(Keys, OPENAI)["properties"]["by_level"]

    assert level["items"]["properties"]["key"] == {"type": "string", "enum": ["1", "2"]}
    assert fit(Keys, GOOGLE)["properties"]["by_level"]["description"] == 'Keys are among "1", "2"'


def test_words_are_added_to_the_persons_own() -> None:
    class Rated(BaseModel):
        stars: int = Field(ge=1, le=5, description="Of five", examples=[3])

    assert fit(Rated, ANTHROPIC)["properties"]["stars"]["description"] == (
        "Of five (at least 1; at most 5; for example 3)"
    )
    assert fit(Rated, OPENAI)["properties"]["stars"]["description"] == "Of five (for example 3)"
    assert fit(Rated, PLAIN)["properties"]["stars"]["examples"] == [3]


def test_patterns_that_do_not_span_the_text_are_words_for_grammars() -> None:
    class Coded(BaseModel):
        code: str = Field(pattern="[A-Z]+")

    assert fit(Coded, GRAMMAR)["properties"]["code"] == {
        "description": "Matching the regular expression [A-Z]+",
        "type": "string",
    }


def test_a_field_that_may_be_left_out_need_not_be_null_where_unions_are_few() -> None:
    assert fit(ManyNullable, ANTHROPIC)["properties"]["f0"] == {"type": "integer"}
    assert fit(create_model("One", a=(int | None, None)), ANTHROPIC)["properties"]["a"] == {
        "anyOf": [{"type": "integer"}, {"type": "null"}]
    }


def test_limits_are_told_with_the_number_seen() -> None:
    huge = create_model("Huge", **{f"f{n}": (int, ...) for n in range(5001)})

    assert refusal(huge, OPENAI) == (
        "The type cannot be sent to openai: it has 5,001 fields in all, and openai takes at most 5,000. "
        "Ask for less at once. Nothing was sent."
    )
    assert "17 fields of more than one type, and anthropic takes at most 16" in refusal(ManyUnions, ANTHROPIC)
    assert "25 fields that may be left out" in refusal(case("many_optional").kind, ANTHROPIC)
    assert "11 levels of objects inside each other, and openai takes at most 10" in refusal(
        case("deep_11").kind, OPENAI
    )
    assert "1,001 values in Literal and Enum types" in refusal(case("big_enum").kind, OPENAI)


def test_refusals_say_what_to_write_instead() -> None:
    assert refusal(case("any").kind, OPENAI) == (
        "Field 'extra' cannot be sent to openai: its type is Any, and openai needs to know what to write. "
        "Write the type it has: str, a union such as str | float, or a model. Nothing was sent."
    )
    assert "Write list[str]" in refusal(list[list], GOOGLE)
    assert "Write dict[str, str]" in refusal(dict[str, Any], ANTHROPIC)
    assert "Give the field a default" in refusal(case("strict_tree").kind, GOOGLE)
    assert "flat list" in refusal(case("tree").kind, ANTHROPIC)


def test_the_path_of_a_field_inside_others_is_told() -> None:
    inner = create_model("Inner", note=(Any, ...))
    outer = create_model("Outer", rows=(dict[str, list[inner]], ...))  # type: ignore[valid-type]

    with pytest.raises(UnsupportedSchemaError) as caught:
        OutputType.of(outer).fit(OPENAI)

    assert caught.value.field == "rows{}[].note"


def test_dialects_of_one_name_are_kept_apart() -> None:
    kind = OutputType.of(Constrained)

    assert kind.fit(dataclasses.replace(OPENAI, keywords=frozenset())) is not kind.fit(OPENAI)


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC])
@pytest.mark.parametrize(
    ("kind", "is_told_apart"),
    [
        (dict[str, int] | None, True),
        (dict[str, int] | dict[str, str], True),
        (dict[str, dict[str, int]] | dict[str, int], True),
        (list[tuple[int, int]] | list[str], True),
        (tuple[int, str] | tuple[str, int], True),
        (dict[str, int] | str, True),
        (dict[str, int] | list[int], False),
        (_tagged("x", dict[str, int]) | _tagged("y", list[int]), True),
        (_tagged("x", dict[str, int]) | _tagged("x", list[int]), False),
        (tuple[int, int] | dict[str, tuple[int, int]], True),
        (tuple[int, int] | create_model("Look", item_1=(int, ...), item_2=(int, ...)), False),
        (dict[str, int] | list[create_model("Entry", key=(str, ...), value=(int, ...))], False),  # type: ignore[misc]
    ],
    ids=str,
)
def test_unions_are_refused_where_there_is_no_way_back(kind: Any, is_told_apart: bool, dialect: Dialect) -> None:
    if is_told_apart:
        assert OutputType.of(kind).fit(dialect)
    else:
        assert "its alternatives would look alike" in refusal(kind, dialect)


def test_of_equal_keys_the_last_wins() -> None:
    fitted = OutputType.of(dict[str, int]).fit(OPENAI)

    parsed = fitted.parse('{"value": [{"key": "a", "value": 1}, {"key": "a", "value": 2}]}')

    assert parsed.value == {"a": 2}


def write(value: Any) -> Any:
    """Write dicts as entries and tuples as numbered objects, as a provider would."""
    if isinstance(value, dict):
        return [{"key": str(key), "value": write(item)} for key, item in value.items()]
    if isinstance(value, tuple):
        return {f"item_{n}": write(item) for n, item in enumerate(value, 1)}
    if isinstance(value, list):
        return [write(item) for item in value]
    return value


numbers = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]))
CONVERTED = [
    (dict[str, int], st.dictionaries(texts, numbers)),
    (dict[int, tuple[int, str]], st.dictionaries(numbers, st.tuples(numbers, texts))),
    (list[tuple[str, dict[str, bool]]], st.lists(st.tuples(texts, st.dictionaries(texts, st.booleans())))),
    (
        tuple[dict[str, list[int]], int | None],
        st.tuples(st.dictionaries(texts, st.lists(numbers)), st.none() | numbers),
    ),
    (
        dict[str, int | tuple[int, int] | dict[str, str]],
        st.dictionaries(texts, numbers | st.tuples(numbers, numbers) | st.dictionaries(texts, texts)),
    ),
]


@pytest.mark.parametrize(("kind", "values"), CONVERTED, ids=lambda one: str(one) if not hasattr(one, "map") else "")
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_converted_values_come_back(kind: Any, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    import orjson

    value = data.draw(values)
    for dialect in (OPENAI, ANTHROPIC):
        parsed = OutputType.of(kind).fit(dialect).parse(orjson.dumps({"value": write(value)}))

        assert parsed.failure is None
        assert parsed.value == value
